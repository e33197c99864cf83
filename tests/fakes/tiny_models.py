"""Tiny models in the formats of sherpa-onnx, for the real library: a few kilobytes, no training, a few rules.

Recognisers hear loudness: half a second of loud sound is "你好", silence is nothing. Voices hum: each token of the text
lasts 120 ms, speaker n hums higher than speaker n - 1. Metadata, inputs and outputs as the exporters of
k2-fsa/sherpa-onnx and k2-fsa/icefall write them (the library's READ_META_DATA lines are the list); no weights of
anybody. What they cannot show: that a real model's text is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
VOICE_HZ = 16_000
TOKEN_SAMPLES = 1_920
SPEAKERS = 3

Port = tuple[str, int, list[Any]]


def _save(
    path: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    nodes: Sequence[Any],
    constants: Mapping[str, Any],
    meta: Mapping[str, Any],
) -> None:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    helper.set_model_props(model, {key: str(value) for key, value in meta.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def _node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(op, list(inputs), [output], **attributes)


def _tokens(folder: Path, tokens: Sequence[str], name: str = "tokens.txt") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{token} {number}" for number, token in enumerate(tokens)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _loud_frames(features: str, threshold: str) -> list[Any]:
    """features [1, T, D] -> `loud` [1, T], 1.0 where the mean log energy is above `threshold`; `count` so far."""
    return [
        _node("ReduceMean", [features], "mean", axes=[2], keepdims=0),
        _node("Greater", ["mean", threshold], "is_loud"),
        _node("Cast", ["is_loud"], "loud", to=FLOAT),
        _node("CumSum", ["loud", "one_axis"], "counted"),
        _node("Mul", ["counted", "loud"], "count"),
    ]


def _ids_by_count() -> list[Any]:
    """`count` -> `ids` of the same shape: 4 where it is `first_at`, 5 where it is `second_at`, else 0."""
    return [
        _node("Equal", ["count", "first_at"], "is_first"),
        _node("Equal", ["count", "second_at"], "is_second"),
        _node("Where", ["is_second", "token_5", "token_0"], "maybe_second"),
        _node("Where", ["is_first", "token_4", "maybe_second"], "ids"),
    ]


def _counting(threshold: float, first: float, second: float) -> dict[str, Any]:
    return {
        "threshold": np.float32(threshold),
        "one_axis": np.int64(1),
        "first_at": np.float32(first),
        "second_at": np.float32(second),
        "token_0": np.int64(0),
        "token_4": np.int64(4),
        "token_5": np.int64(5),
    }


_ONE_HOT = {"on_off": np.array([0, 10], np.float32)}


def sense_voice(folder: Path, **changed: Any) -> Path:
    """Says "你好", happy, in Chinese; in English when it is asked to hear English. `changed`: metadata, None to leave
    one out."""
    vocabulary = ["<blank>", "<|zh|>", "<|HAPPY|>", "<|Speech|>", "你", "好", "<|en|>", "<|withitn|>"]
    meta = {
        **{"vocab_size": len(vocabulary), "lfr_window_size": 7, "lfr_window_shift": 6, "normalize_samples": 0},
        **{"with_itn": 14, "without_itn": 15, "model_type": "sense_voice_ctc"},
        **{"lang_auto": 0, "lang_zh": 3, "lang_en": 4, "lang_yue": 7, "lang_ja": 11, "lang_ko": 12},
        **{"neg_mean": ",".join(["0"] * 560), "inv_stddev": ",".join(["1"] * 560)},
        **changed,
    }
    nodes = [
        *_loud_frames("x", "threshold"),
        *_ids_by_count(),
        _node("Equal", ["language", "english"], "is_english"),
        _node("Where", ["is_english", "token_en", "token_zh"], "spoken"),
        _node("Reshape", ["spoken", "as_row"], "spoken_row"),
        _node("Concat", ["spoken_row", "marks", "ids"], "all_ids", axis=1),
        _node("OneHot", ["all_ids", "depth", "on_off"], "logits", axis=-1),
    ]
    _save(
        folder / "model.int8.onnx",
        [("x", FLOAT, [1, "T", 560]), ("x_length", INT32, [1]), ("language", INT32, [1]), ("text_norm", INT32, [1])],
        [("logits", FLOAT, [1, "L", len(vocabulary)])],
        nodes,
        {
            **_counting(6.0, 1, 5),
            **_ONE_HOT,
            "depth": np.int64(len(vocabulary)),
            "english": np.int32(4),
            "token_en": np.int64(6),
            "token_zh": np.int64(1),
            "as_row": np.array([1, 1], np.int64),
            "marks": np.array([[2, 3, 7]], np.int64),
        },
        {key: value for key, value in meta.items() if value is not None},
    )
    _tokens(folder, vocabulary)
    return folder


def paraformer(folder: Path) -> Path:
    """Says "你好"."""
    vocabulary = ["<blank>", "<s>", "</s>", "<unk>", "你", "好"]
    _save(
        folder / "model.int8.onnx",
        [("speech", FLOAT, [1, "T", 560]), ("speech_lengths", INT32, [1])],
        [("logits", FLOAT, [1, 3, len(vocabulary)]), ("token_num", INT32, [1])],
        [
            _node("ReduceMean", ["speech"], "mean", axes=[1, 2], keepdims=1),
            _node("Squeeze", ["mean", "last_axis"], "level"),
            _node("Greater", ["level", "threshold"], "is_loud"),
            _node("Where", ["is_loud", "said", "nothing"], "ids"),
            _node("OneHot", ["ids", "depth", "on_off"], "logits", axis=-1),
            _node("Identity", ["speech_lengths"], "token_num"),
        ],
        {
            **_ONE_HOT,
            "depth": np.int64(len(vocabulary)),
            "threshold": np.float32(6.0),
            "last_axis": np.array([2], np.int64),
            "said": np.array([[4, 5, 2]], np.int64),
            "nothing": np.array([[2, 2, 2]], np.int64),
        },
        {
            **{"vocab_size": len(vocabulary), "lfr_window_size": 7, "lfr_window_shift": 6, "model_type": "paraformer"},
            **{"neg_mean": ",".join(["0"] * 560), "inv_stddev": ",".join(["1"] * 560)},
        },
    )
    _tokens(folder, vocabulary)
    return folder


def whisper(folder: Path) -> Path:
    """Says "你好" and finds out that this is Chinese."""
    eot, sot, english, chinese, transcribe, translate, no_times, no_speech = range(4, 12)
    vocabulary = 12
    kv, cache = [1, 1, 1, 1], [1, 1, 32, 4]
    _save(
        folder / "tiny-encoder.onnx",
        [("mel", FLOAT, [1, 80, "T"])],
        [("n_layer_cross_k", FLOAT, [1, 1, 1, 1]), ("n_layer_cross_v", FLOAT, [1, 1, 1, 1])],
        [
            _node("ReduceMax", ["mel"], "most", axes=[1, 2], keepdims=1),
            _node("ReduceMean", ["mel"], "mean", axes=[1, 2], keepdims=1),
            _node("Sub", ["most", "mean"], "spread"),
            _node("Unsqueeze", ["spread", "front"], "n_layer_cross_k"),
            _node("Identity", ["n_layer_cross_k"], "n_layer_cross_v"),
        ],
        {"front": np.array([0], np.int64)},
        {
            **{"model_type": "whisper-tiny", "n_mels": 80, "n_text_layer": 1, "n_text_ctx": 32, "n_text_state": 4},
            **{"n_vocab": vocabulary, "sot": sot, "eot": eot, "blank_id": 3, "translate": translate},
            **{"transcribe": transcribe, "is_multilingual": 1, "no_timestamps": no_times, "no_speech": no_speech},
            **{"sot_sequence": f"{sot},{english},{transcribe}"},
            **{"all_language_tokens": f"{english},{chinese}", "all_language_codes": "en,zh"},
            **{"n_audio_ctx": 1500, "n_audio_state": 4, "n_audio_layer": 1, "n_audio_head": 1, "n_text_head": 1},
        },
    )
    # By position: the language behind the first token, the words behind the fourth.
    said = [chinese, 0, 0, 1, 2, *[eot] * 27]
    nothing = [chinese, 0, 0, *[eot] * 29]
    _save(
        folder / "tiny-decoder.onnx",
        [
            ("tokens", INT64, [1, "n"]),
            ("in_n_layer_self_k_cache", FLOAT, cache),
            ("in_n_layer_self_v_cache", FLOAT, cache),
            ("n_layer_cross_k", FLOAT, kv),
            ("n_layer_cross_v", FLOAT, kv),
            ("offset", INT64, [1]),
        ],
        [
            ("logits", FLOAT, [1, "n", vocabulary]),
            ("out_n_layer_self_k_cache", FLOAT, cache),
            ("out_n_layer_self_v_cache", FLOAT, cache),
        ],
        [
            _node("Mul", ["tokens", "zero"], "zeros"),
            _node("Add", ["zeros", "one"], "ones"),
            _node("CumSum", ["ones", "one"], "numbered"),
            _node("Sub", ["numbered", "one"], "from_zero"),
            _node("Add", ["from_zero", "offset"], "positions"),
            _node("ReduceMax", ["n_layer_cross_k"], "level", keepdims=0),
            _node("Greater", ["level", "threshold"], "is_loud"),
            _node("Where", ["is_loud", "said", "nothing"], "table"),
            _node("Gather", ["table", "positions"], "ids", axis=0),
            _node("OneHot", ["ids", "depth", "on_off"], "logits", axis=-1),
            _node("Identity", ["in_n_layer_self_k_cache"], "out_n_layer_self_k_cache"),
            _node("Identity", ["in_n_layer_self_v_cache"], "out_n_layer_self_v_cache"),
        ],
        {
            **_ONE_HOT,
            "depth": np.int64(vocabulary),
            "zero": np.int64(0),
            "one": np.int64(1),
            "threshold": np.float32(0.2),
            "said": np.array(said, np.int64),
            "nothing": np.array(nothing, np.int64),
        },
        {},
    )
    # Whisper's tokens are bytes in base64.
    _tokens(folder, ["IQ==", "5L2g", "5aW9", "Ig=="], "tiny-tokens.txt")
    return folder


def streaming_transducer(folder: Path) -> Path:
    """Says "你" after 50 ms of loud sound and "好" after 500 ms. By its interface an LSTM, whose state is a count."""
    vocabulary = ["<blk>", "<sos/eos>", "<unk>", "▁", "你", "好"]
    chunk, width = 4, 1
    _save(
        folder / "encoder-epoch-99-avg-1.int8.onnx",
        [("x", FLOAT, ["N", chunk, 80]), ("h", FLOAT, [1, "N", width]), ("c", FLOAT, [1, "N", width])],
        [
            ("encoder_out", FLOAT, ["N", chunk, width]),
            ("next_h", FLOAT, [1, "N", width]),
            ("next_c", FLOAT, [1, "N", width]),
        ],
        [
            _node("ReduceMean", ["x"], "mean", axes=[2], keepdims=1),
            _node("Greater", ["mean", "threshold"], "is_loud"),
            _node("Cast", ["is_loud"], "loud", to=FLOAT),
            _node("CumSum", ["loud", "one_axis"], "new"),
            _node("Transpose", ["c"], "before", perm=[1, 0, 2]),
            _node("Add", ["new", "before"], "counted"),
            _node("Mul", ["counted", "loud"], "encoder_out"),
            _node("Slice", ["counted", "from_last", "to_end", "one_axes"], "last"),
            _node("Transpose", ["last"], "next_c", perm=[1, 0, 2]),
            _node("Identity", ["h"], "next_h"),
        ],
        {
            "threshold": np.float32(-11.0),
            "one_axis": np.int64(1),
            "from_last": np.array([-1], np.int64),
            "to_end": np.array([2**31], np.int64),
            "one_axes": np.array([1], np.int64),
        },
        {
            **{"model_type": "lstm", "num_encoder_layers": 1, "T": chunk, "decode_chunk_len": chunk},
            **{"rnn_hidden_size": width, "d_model": width},
        },
    )
    _rest_of_a_transducer(folder, vocabulary, width)
    return folder


def transducer(folder: Path) -> Path:
    """The same for a whole utterance."""
    vocabulary = ["<blk>", "<sos/eos>", "<unk>", "▁", "你", "好"]
    _save(
        folder / "encoder-epoch-99-avg-1.int8.onnx",
        [("x", FLOAT, ["N", "T", 80]), ("x_lens", INT64, ["N"])],
        [("encoder_out", FLOAT, ["N", "T", 1]), ("encoder_out_lens", INT64, ["N"])],
        [
            *_loud_frames("x", "threshold"),
            _node("Unsqueeze", ["count", "last_axis"], "encoder_out"),
            _node("Identity", ["x_lens"], "encoder_out_lens"),
        ],
        {"threshold": np.float32(-11.0), "one_axis": np.int64(1), "last_axis": np.array([2], np.int64)},
        {"model_type": "zipformer2"},
    )
    _rest_of_a_transducer(folder, vocabulary, 1)
    return folder


def _rest_of_a_transducer(folder: Path, vocabulary: Sequence[str], width: int) -> None:
    """Decoder, joiner and tokens: "你" at the 5th loud frame, "好" at the 50th."""
    _save(
        folder / "decoder-epoch-99-avg-1.onnx",
        [("y", INT64, ["N", 2])],
        [("decoder_out", FLOAT, ["N", width])],
        [
            _node("Cast", ["y"], "numbers", to=FLOAT),
            _node("ReduceMean", ["numbers"], "mean", axes=[1], keepdims=1),
            _node("Mul", ["mean", "nothing"], "decoder_out"),
        ],
        {"nothing": np.float32(0)},
        {"vocab_size": len(vocabulary), "context_size": 2},
    )
    _save(
        folder / "joiner-epoch-99-avg-1.int8.onnx",
        [("encoder_out", FLOAT, ["N", width]), ("decoder_out", FLOAT, ["N", width])],
        [("logit", FLOAT, ["N", len(vocabulary)])],
        [
            _node("Add", ["encoder_out", "decoder_out"], "sum"),
            _node("Squeeze", ["sum", "last_axis"], "count"),
            *_ids_by_count(),
            _node("OneHot", ["ids", "depth", "on_off"], "logit", axis=-1),
        ],
        {
            **_counting(0, 5, 50),
            **_ONE_HOT,
            "depth": np.int64(len(vocabulary)),
            "last_axis": np.array([1], np.int64),
        },
        {"joiner_dim": width},
    )
    _tokens(folder, vocabulary)


_HUM = {
    "samples": np.float32(TOKEN_SAMPLES),
    "zero": np.int64(0),
    "one": np.int64(1),
    "step": np.float32(0.06),
    "higher": np.float32(0.03),
    "amplitude": np.float32(0.5),
}


def _hum(length: str, slowness: str, speaker: str) -> list[Any]:
    """`length` (float, tokens), `slowness` (float), `speaker` (float) -> `wave` [N]."""
    return [
        _node("Mul", [length, slowness], "slow"),
        _node("Mul", ["slow", "samples"], "many"),
        _node("Cast", ["many"], "count", to=INT64),
        _node("Squeeze", ["count"], "count_scalar"),
        _node("Range", ["zero", "count_scalar", "one"], "places"),
        _node("Cast", ["places"], "at", to=FLOAT),
        _node("Mul", [speaker, "higher"], "more"),
        _node("Add", ["more", "step"], "pitch"),
        _node("Mul", ["at", "pitch"], "phase"),
        _node("Sin", ["phase"], "sine"),
        _node("Mul", ["sine", "amplitude"], "wave"),
    ]


def _spoken_tokens(folder: Path, words: str, more: str = "") -> None:
    """tokens.txt and lexicon.txt: one token for each character of `words` and each English word; `more` tokens."""
    english = dict(zip(["today", "is", "a", "fine", "day", "for", "walk", "hello"], "abcdefgh", strict=True))
    letters = sorted(set(words))
    _tokens(folder, ["_", "^", "$", "，", "。", ",", ".", *letters, *sorted({*english.values(), *more})])
    lines = [f"{letter} {letter}" for letter in letters] + [f"{word} {token}" for word, token in english.items()]
    (folder / "lexicon.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


_WORDS = "你好很高兴见到再世界今天气"


def vits(folder: Path) -> Path:
    """Three speakers."""
    _save(
        folder / "model.onnx",
        [
            ("x", INT64, [1, "L"]),
            ("x_length", INT64, [1]),
            ("noise_scale", FLOAT, [1]),
            ("length_scale", FLOAT, [1]),
            ("noise_scale_w", FLOAT, [1]),
            ("sid", INT64, [1]),
        ],
        [("y", FLOAT, [1, 1, "N"])],
        [
            _node("Cast", ["x_length"], "length", to=FLOAT),
            _node("Cast", ["sid"], "speaker", to=FLOAT),
            *_hum("length", "length_scale", "speaker"),
            _node("Reshape", ["wave", "shape"], "y"),
        ],
        {**_HUM, "shape": np.array([1, 1, -1], np.int64)},
        {
            **{
                "sample_rate": VOICE_HZ,
                "n_speakers": SPEAKERS,
                "language": "Chinese",
                "comment": "tiny",
                "add_blank": 0,
            },
            **{"punctuation": "， 。 , .", "model_type": "vits"},
        },
    )
    _spoken_tokens(folder, _WORDS)
    return folder


def matcha(folder: Path) -> Path:
    """One speaker, with its vocoder."""
    _save(
        folder / "model-steps-3.onnx",
        [("x", INT64, [1, "L"]), ("x_length", INT64, [1]), ("noise_scale", FLOAT, [1]), ("length_scale", FLOAT, [1])],
        [("mel", FLOAT, [1, 1, "N"])],
        [
            _node("Cast", ["x_length"], "length", to=FLOAT),
            *_hum("length", "length_scale", "nobody"),
            _node("Reshape", ["wave", "shape"], "mel"),
        ],
        {**_HUM, "shape": np.array([1, 1, -1], np.int64), "nobody": np.array([0], np.float32)},
        {
            **{"model_type": "matcha-tts", "sample_rate": VOICE_HZ, "n_speakers": 1, "jieba": 1, "has_espeak": 0},
            **{"use_eos_bos": 0, "pad_id": 0, "version": 1, "language": "Chinese"},
        },
    )
    _save(
        folder / "hifigan_v2.onnx",
        [("mel", FLOAT, [1, 1, "N"])],
        [("audio", FLOAT, [1, 1, "N"])],
        [_node("Identity", ["mel"], "audio")],
        {},
        {"model_type": "hifigan"},
    )
    _spoken_tokens(folder, _WORDS)
    return folder


def kokoro(folder: Path) -> Path:
    """Three speakers, pronounced by eSpeak's data, which the caller puts beside it (espeak-ng-data)."""
    style = [510, 1, 2]
    _save(
        folder / "model.onnx",
        [("tokens", INT64, [1, "L"]), ("style", FLOAT, [1, style[2]]), ("speed", FLOAT, [1])],
        [("audio", FLOAT, ["N"])],
        [
            _node("Shape", ["tokens"], "size"),
            _node("Gather", ["size", "one"], "many_tokens"),
            _node("Cast", ["many_tokens"], "length", to=FLOAT),
            _node("Div", ["unit", "speed"], "slowness"),
            _node("ReduceMean", ["style"], "speaker", keepdims=0),
            *_hum("length", "slowness", "speaker"),
            _node("Identity", ["wave"], "audio"),
        ],
        {**_HUM, "unit": np.float32(1)},
        {
            **{"model_type": "kokoro", "sample_rate": VOICE_HZ, "n_speakers": SPEAKERS, "has_espeak": 1, "version": 2},
            **{"style_dim": ",".join(map(str, style)), "language": "English", "voice": "en-us"},
        },
    )
    voices = np.concatenate([np.full(style[0] * style[2], speaker, np.float32) for speaker in range(SPEAKERS)])
    (folder / "voices.bin").write_bytes(voices.tobytes())
    _spoken_tokens(folder, _WORDS, "ijklmnoprstuvwzæðŋɐɑɒɔəɚɛɜɡɪɹʃʊʌʒθˈˌː")
    return folder
