"""The neural voices of this machine: each sentence by the voice of its language, eSpeak where a model is absent or too
many speak, files that cannot be used, memory that is given back. With the real models, where they are: what they say
can be understood."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
from gevent.event import Event
from pydantic import ValidationError

from loadtest.bench.voices import CHINESE, character_errors
from tests.fakes.tiny_kokoro import PHONEME_SAMPLES, tiny_kokoro
from tests.speech_models import model_folder
from tests.waiting import wait_for
from xiaozhi.chat import CallContext
from xiaozhi.errors import SettingsError, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm
from xiaozhi.providers.families.espeak_ng import NATIVE_HZ
from xiaozhi.providers.families.mandarin_pinyin import load_readings
from xiaozhi.providers.families.mandarin_speech import phonemes_of_text
from xiaozhi.providers.families.neural_voices import LEAD_MS, RATE_HZ, TAIL_MS, pcm_of
from xiaozhi.providers.families.whisper_listener import WhisperListener
from xiaozhi.providers.tts import local_neural
from xiaozhi.providers.tts.local_neural import MODEL, MODEL_FILES, LocalNeuralTts, LocalNeuralTtsOptions, language_of
from xiaozhi.runtime.inference import InferencePool

CONTEXT = CallContext()
HERE = "小猪在银行旁边散步。"


@pytest.fixture(scope="module")
def pool() -> Iterator[InferencePool]:
    made = InferencePool(workers=2)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def loaded(pool: InferencePool, folder: Path) -> Iterator[None]:
    """The models are loaded once for all tests here."""
    tts = LocalNeuralTts(LocalNeuralTtsOptions(model_dir=str(folder)), Services(inference=pool))
    tts.warm_up()
    yield
    tts.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kokoro(tmp_path_factory.mktemp("kokoro"))


@pytest.fixture
def make(pool: InferencePool, folder: Path) -> Iterator[Callable[..., LocalNeuralTts]]:
    made: list[LocalNeuralTts] = []

    def voice(inference: Any = pool, **block: Any) -> LocalNeuralTts:
        options = LocalNeuralTtsOptions.model_validate({"model_dir": str(folder), **block})
        made.append(LocalNeuralTts(options, Services(inference=inference), clock=lambda: 0.0))
        return made[-1]

    yield voice
    for each in made:
        each.close()


def sounds_of(tts: LocalNeuralTts, sentence: str, language: str = "") -> list[Pcm]:
    sounds = list(tts.synthesize(sentence, CallContext(language=language)))
    assert all(isinstance(sound, Pcm) for sound in sounds)
    return [sound for sound in sounds if isinstance(sound, Pcm)]


def rates_of(sounds: list[Pcm]) -> set[int]:
    return {sound.rate for sound in sounds}


@pytest.mark.parametrize(
    "sentence,language",
    [
        ("今天天气很好。", "zh"),
        ("请播放 Yesterday Once More by the Carpenters", "zh"),
        ("What time is it?", "en"),
        ("OK!", "en"),
        ("Wie spät ist es und was machst du?", "de"),
        ("Сколько времени?", "ru"),
        ("今日はいい天気ですね。", "ja"),
        ("안녕하세요.", "ko"),
        ("25.", "zh"),
    ],
)
def test_each_sentence_has_the_voice_of_its_language(sentence: str, language: str) -> None:
    assert language_of(sentence, otherwise="zh") == language


def test_mandarin_is_spoken_clause_by_clause_without_the_silence_around_it(make: Callable[..., LocalNeuralTts]) -> None:
    sounds = sounds_of(make(), "好的，空调打开了。")

    assert rates_of(sounds) == {RATE_HZ}
    heard = sum(len(sound.data) // 2 for sound in sounds)
    readings = load_readings()
    phonemes = sum(len(phonemes_of_text(text, readings)) for text in ("好的，", "空调打开了。"))
    kept = 2 * RATE_HZ * (LEAD_MS + TAIL_MS) // 1000
    assert heard == pytest.approx(phonemes * PHONEME_SAMPLES + kept, abs=100)


def test_english_and_other_languages_have_their_own_voices(make: Callable[..., LocalNeuralTts]) -> None:
    tts = make()

    assert rates_of(sounds_of(tts, "It is three o'clock in the afternoon.")) == {RATE_HZ}
    for sentence in ("Il est trois heures et demie.", "Сколько времени?", "今日はいい天気ですね。", "안녕하세요."):
        sounds = sounds_of(tts, sentence)
        assert rates_of(sounds) == {NATIVE_HZ}
        assert sum(len(sound.data) for sound in sounds) > NATIVE_HZ // 2
    assert not any(sound.substitute for sound in sounds)


def test_english_words_in_a_chinese_sentence_are_spoken_by_the_english_voice(
    make: Callable[..., LocalNeuralTts],
) -> None:
    tts = make()
    alone, around = (b"".join(sound.data for sound in sounds_of(tts, text)) for text in ("WiFi", "请打开WiFi吧。"))

    assert alone[:10_000] in around
    assert len(around) > 2 * len(alone)


def test_units_in_latin_letters_are_read_in_chinese(make: Callable[..., LocalNeuralTts]) -> None:
    assert len(sounds_of(make(), "喝500ml水。")) == len(sounds_of(make(), "喝五百毫升水。"))


def test_without_the_english_package_espeak_reads_latin_words(
    make: Callable[..., LocalNeuralTts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_neural, "ENGLISH_PACKAGE", "no_such_package")
    tts = make()
    tts.warm_up()

    assert rates_of(sounds_of(tts, "请打开WiFi设备。")) == {RATE_HZ, NATIVE_HZ}
    assert rates_of(sounds_of(tts, "What is the time?")) == {NATIVE_HZ}


@pytest.mark.parametrize("may_come", [True, False])
def test_espeak_speaks_without_a_model_and_is_not_cached_while_one_may_arrive(
    pool: InferencePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_come: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if not may_come:
        monkeypatch.setattr(local_neural, "PACKAGE", "no_such_package")
    tts = LocalNeuralTts(LocalNeuralTtsOptions(), Services(inference=pool))
    tts.warm_up()
    sounds = sounds_of(tts, "好的，空调打开了。")
    others = sounds_of(tts, "Il est trois heures et demie.")
    tts.close()

    assert rates_of(sounds) == {NATIVE_HZ}
    assert {sound.substitute for sound in sounds} == {may_come}
    assert not any(sound.substitute for sound in others)


def test_a_model_that_arrives_is_used_without_a_restart(
    pool: InferencePool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    now = [100.0]
    tts = LocalNeuralTts(LocalNeuralTtsOptions(), Services(inference=pool), clock=lambda: now[0])
    assert rates_of(sounds_of(tts, HERE)) == {NATIVE_HZ}

    tiny_kokoro(tmp_path / "models" / "kokoro")
    (tmp_path / "models" / "kokoro").rename(tmp_path / "models" / MODEL)
    monkeypatch.setattr(local_neural, "unsound", lambda folder: "")
    assert rates_of(sounds_of(tts, HERE)) == {NATIVE_HZ}  # it is not looked for at every sentence
    now[0] += 10

    sounds = sounds_of(tts, HERE)
    assert rates_of(sounds) == {RATE_HZ}
    assert not any(sound.substitute for sound in sounds)
    tts.close()


class HeldPool:
    """A pool whose work takes as long as a test wants."""

    slow_workers = 1

    def __init__(self) -> None:
        self.go = Event()
        self.waiting = 0

    def run(self, function: Callable[..., Any], *args: Any, kind: str, deadline: float, cost: float = 0.0) -> Any:
        """Mandarin (all that costs seconds) waits for `go`."""
        if cost > 0.2:
            self.waiting += 1
            if not self.go.wait(deadline):
                raise VendorTimeout("pool", "held")
        return function(*args)


def test_espeak_speaks_what_would_come_too_late_because_others_speak(
    make: Callable[..., LocalNeuralTts], tmp_path: Path
) -> None:
    pool = HeldPool()
    # A model of its own: the pace of the shared one has been learnt, and it is quick.
    tts = make(pool, overflow_s=3.0, model_dir=str(tiny_kokoro(tmp_path)))
    tts.warm_up()
    first = gevent.spawn(sounds_of, tts, HERE)
    second = gevent.spawn(sounds_of, tts, "好的。")
    wait_for(lambda: pool.waiting == 2)
    late = sounds_of(tts, HERE)
    pool.go.set()

    assert all(sound.substitute for sound in late)  # no cache may keep it as the Chinese voice's
    assert rates_of(first.get()) == rates_of(second.get()) == {RATE_HZ}
    assert rates_of(sounds_of(tts, HERE)) == {RATE_HZ}


def test_espeak_speaks_when_the_machine_is_slower_than_expected(make: Callable[..., LocalNeuralTts]) -> None:
    pool = HeldPool()  # which never goes on
    sounds = sounds_of(make(pool, overflow_s=0.5), "今天天气很好，我们去公园。")

    assert rates_of(sounds) == {NATIVE_HZ}
    assert all(sound.substitute for sound in sounds)


def test_two_blocks_share_a_model_and_differ_in_the_speaker(make: Callable[..., LocalNeuralTts]) -> None:
    slow, quick = make(speed=0.5), make(voice="zm_yunxi", ttsRate=100)
    slow.warm_up()
    quick.warm_up()
    loud = [max(np.abs(np.frombuffer(sounds_of(tts, HERE)[0].data, "<i2")).tolist()) for tts in (slow, quick)]

    assert loud[0] == pytest.approx(
        4 * 0.6 * loud[1], rel=0.02
    )  # the tiny model divides by the speed; 0.6: xiaoxiao is louder


def test_after_close_it_refuses(make: Callable[..., LocalNeuralTts]) -> None:
    tts = make()
    tts.close()
    tts.close()

    with pytest.raises(VendorUnavailable, match="closed"):
        list(tts.synthesize("你好。", CONTEXT))


@pytest.mark.parametrize(
    "block,fault",
    [
        ({"model_dir": "no/such/folder"}, "server.py models fetch kokoro-zh --into no/such/folder"),
        ({"voice": "nobody"}, "there are: zf_xiaoxiao, zm_yunxi"),
        ({"voice": "../../etc/passwd"}, "pattern"),
        ({"speed": 5}, "less than or equal to 2"),
        ({"overflow_s": 0}, "greater than or equal to 0.5"),
    ],
)
def test_a_block_that_cannot_work_is_refused(folder: Path, block: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        LocalNeuralTtsOptions.model_validate({"model_dir": str(folder), **block})


def test_empty_values_are_absent(folder: Path) -> None:
    options = LocalNeuralTtsOptions.model_validate({"model_dir": str(folder), "private_voice": "", "speed": ""})

    assert (options.voice, options.speed) == ("zf_xiaoxiao", 1.0)


@pytest.mark.parametrize("name,fault", [("mine", "Kokoro"), ("kokoro-zh", "not the files that were published")])
def test_a_file_that_cannot_be_used_is_named(
    pool: InferencePool, folder: Path, name: str, fault: str, tmp_path: Path
) -> None:
    place = tmp_path / name
    shutil.copytree(folder, place)
    (place / "model.onnx").rename(place / MODEL_FILES[0])
    if name == "mine":
        (place / MODEL_FILES[0]).write_bytes(b"no model, but longer than a pointer")
    options = LocalNeuralTtsOptions.model_validate({"model_dir": str(place)})
    tts = LocalNeuralTts(options, Services(inference=pool))

    with pytest.raises(SettingsError, match=fault):
        tts.warm_up()
    tts.close()


def test_a_model_in_the_usual_place_that_cannot_be_used_leaves_espeak(
    pool: InferencePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tiny_kokoro(tmp_path / "models" / MODEL)
    (place / "model.onnx").rename(place / MODEL_FILES[0])  # not the bytes that were published
    tts = LocalNeuralTts(LocalNeuralTtsOptions(), Services(inference=pool))
    tts.warm_up()

    sounds = sounds_of(tts, HERE)
    assert rates_of(sounds) == {NATIVE_HZ}
    assert not any(sound.substitute for sound in sounds)  # no other voice will come
    tts.close()


def test_silence_is_cut_and_the_ends_do_not_click() -> None:
    sound = np.concatenate([np.zeros(9_600), np.full(4_800, 0.5), np.full(12_000, 0.005)]).astype(np.float32)
    samples = np.frombuffer(pcm_of(sound), "<i2")

    assert len(samples) == 4_800 + RATE_HZ * (LEAD_MS + TAIL_MS) // 1000
    assert samples[0] == samples[-1] == 0
    assert pcm_of(np.zeros(1_000, np.float32)) == b""


def test_the_real_voices_speak_for_as_long_as_people_do_and_are_understood(pool: InferencePool) -> None:
    tts = LocalNeuralTts(
        LocalNeuralTtsOptions(model_dir=str(model_folder(MODEL)), overflow_s=30.0), Services(inference=pool)
    )
    tts.warm_up()
    for sentence, least, most in (
        ("请打开WiFi。", 0.8, 2.2),
        ("How can I help you today?", 0.8, 2.5),
    ):
        sounds = sounds_of(tts, sentence)
        samples = np.frombuffer(b"".join(sound.data for sound in sounds), "<i2") / 32_768
        assert least < len(samples) / RATE_HZ < most
        assert 0.02 < float(np.sqrt(np.mean(samples**2))) < 0.2
        assert rates_of(sounds) == {RATE_HZ}

    # Three of the ten sentences of the bench: a recogniser of this size hears some 4 % of human Chinese wrong, too.
    listener = WhisperListener(model_folder("faster-whisper-base"), pool, lambda: "test")
    assert character_errors(tts, listener, CHINESE[:3]) < 0.12
    listener.release()
    tts.close()
