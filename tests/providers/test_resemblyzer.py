"""The voice encoder in numpy, and the reader of its file, which runs nothing of what the file says."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.tensor_files import file_of, head, made_model, made_weights, named, number, storage, tail, tensor, text
from tests.speech_models import model_folder
from xiaozhi.audio.log_mel import RATE, mel_power
from xiaozhi.providers.families import resemblyzer
from xiaozhi.providers.families.resemblyzer import CELLS, SHAPES, STEP, WINDOW, VoiceEncoder, voiced, window_starts
from xiaozhi.providers.families.torch_tensors import BadTensorFile, read_tensors

SMALL = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.ones(4, np.float32),
    "unused": np.zeros(9, np.float32),
}


def write(path: Path, content: bytes) -> Path:
    file = path / "x.pt"
    file.write_bytes(content)
    return file


def test_tensors_are_read(tmp_path: Path) -> None:
    found = read_tensors(write(tmp_path, file_of(SMALL)), "model_state", ["a", "b"])

    assert sorted(found) == ["a", "b"]
    assert np.array_equal(found["a"], SMALL["a"]) and np.array_equal(found["b"], SMALL["b"])


class Hostile:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("hostile-was-here",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a file of a later PyTorch",
        pickle.dumps(Hostile(), 2),
        head() + pickle.dumps({"model_state": Hostile()}, 2) + tail(SMALL),
        head() + pickle.dumps({"model_state": Hostile()}, 4) + tail(SMALL),
        file_of(SMALL, a=named("os mkdir") + b"(" + text("hostile-was-here") + b"tR"),
        file_of(SMALL, a=b"cos\nmkdir\n" + text("hostile-was-here") + b"\x85R"),
        file_of(SMALL, a=b"(" + text("hostile-was-here") + b"ios\nmkdir\n"),
        file_of(SMALL, a=named("torch FloatStorage") + b")R"),
        file_of(SMALL, a=named("collections OrderedDict") + b"(" + text("x") + b"tR"),
        file_of(SMALL, a=number(1)),
        file_of(SMALL, a=b"h\x63"),
        file_of(SMALL, a=b"0" * 9),
        file_of(SMALL, a=storage("a", 6, "torch DoubleStorage")),
        file_of(SMALL, a=tensor("a", (2, 3), strides=(1, 2))),
        file_of(SMALL, a=tensor("a", (2, 300))),
        file_of(SMALL, a=tensor("a", (2, 3), length=5)),
        file_of(SMALL, a=tensor("elsewhere", (2, 3))),
        file_of(SMALL)[:-80],
        file_of(SMALL)[:60],
        file_of({"b": SMALL["b"]}),
    ],
    ids=range(21),
)
def test_what_is_no_file_of_these_tensors_is_refused_and_nothing_of_it_is_run(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BadTensorFile):
        read_tensors(write(tmp_path, content), "model_state", ["a", "b"])

    assert not Path("hostile-was-here").exists()


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(BadTensorFile, match=r"linear\.bias"):
        VoiceEncoder({**made_weights(), "linear.bias": np.zeros(3, np.float32)})


def test_it_computes_what_an_lstm_is_defined_to() -> None:
    """Against the equations, gate by gate, in double precision."""
    weights, steps = made_weights(), 7
    windows = np.random.default_rng(1).random((steps, 2, 40)).astype(np.float32)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    expected = []
    for window in range(2):
        sequence = list(windows[:, window].astype(np.float64))
        for layer in range(3):
            w, u = weights[f"lstm.weight_ih_l{layer}"], weights[f"lstm.weight_hh_l{layer}"]
            bias = weights[f"lstm.bias_ih_l{layer}"].astype(np.float64) + weights[f"lstm.bias_hh_l{layer}"]
            h = c = np.zeros(CELLS)
            for step, x in enumerate(sequence):
                i, f, g, o = np.split(w @ x + u @ h + bias, 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                sequence[step] = h
        expected.append(np.maximum(weights["linear.weight"] @ sequence[-1] + weights["linear.bias"], 0))

    assert np.allclose(VoiceEncoder(weights).encode(windows), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("seconds", "starts"), [(0.9, [0]), (1.6, [0]), (1.9, [0]), (2.0, [0, STEP]), (2.7, [0, STEP]), (3.0, [0, 77, 154])]
)
def test_windows_overlap_and_the_last_one_is_filled_mostly(seconds: float, starts: list[int]) -> None:
    assert window_starts(round(seconds * RATE)) == starts
    assert (starts[-1] + 0.75 * WINDOW) * 160 <= max(seconds * RATE, 0.75 * WINDOW * 160)


def buzz(seconds: float, hertz: float = 140.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.25 * np.sign(np.sin(2 * np.pi * hertz * times))).astype(np.float32)


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32_767).astype("<i2").tobytes()


def test_pauses_are_left_out_and_quiet_voices_are_made_louder() -> None:
    silence = np.zeros(RATE, np.float32)

    heard = voiced(np.concatenate([silence, buzz(1.0), silence, buzz(1.0), silence]))

    assert 2.0 <= len(heard) / RATE <= 2.9
    assert np.sqrt(np.square(voiced(buzz(1.0) * 0.01)).mean()) == pytest.approx(10 ** (-30 / 20), rel=0.01)
    assert len(voiced(silence)) == 0 and len(voiced(silence[:100])) == 0


def test_too_little_voice_says_nothing_and_more_than_enough_is_cut() -> None:
    encoder = VoiceEncoder(made_weights())

    assert encoder.embed(b"") is None
    assert encoder.embed(pcm(np.zeros(3 * RATE, np.float32))) is None
    assert encoder.embed(pcm(buzz(0.7))) is None
    short, long = encoder.embed(pcm(buzz(1.0))), encoder.embed(pcm(buzz(30.0)) + b"\0")
    assert short is not None and short[0].shape == (CELLS,) and 0.9 < short[1] <= 1.0
    assert long is not None and long[1] == 8.0


def test_bands_are_power_without_a_logarithm() -> None:
    """A tone of 1 kHz at a tenth of full scale; the value is that of librosa's melspectrogram with the same settings,
    by its definition: (amplitude * sum of the window / 2)^2 * weight of the band."""
    times = np.arange(RATE) / RATE
    mel = mel_power((0.1 * np.sin(2 * np.pi * 1_000 * times)).astype(np.float32), 50, 40)

    assert mel.shape == (40, 50)
    assert mel[:, 25].argmax() == mel[:, 30].argmax()
    assert mel[:, 25].max() == pytest.approx(mel[:, 30].max(), rel=1e-3)
    assert 0.1 < mel[:, 25].max() < 5.0


def test_the_published_weights_give_the_vector_that_they_gave_before() -> None:
    """Golden values of these weights for a sound made here."""
    folder = model_folder("resemblyzer")
    encoder = resemblyzer.load(folder)
    times = np.arange(3 * RATE) / RATE
    sound = (8_000 * np.sign(np.sin(2 * np.pi * 140 * times)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * times))).astype(
        "<i2"
    )

    found = encoder.embed(sound.tobytes())

    assert found is not None
    assert found[0][[1, 2, 6]] == pytest.approx([0.000693, 0.012740, 0.028402], abs=2e-5)


def test_a_model_of_the_right_shapes_loads(tmp_path: Path) -> None:
    assert set(SHAPES) == set(made_weights())
    resemblyzer.load(made_model(tmp_path))
