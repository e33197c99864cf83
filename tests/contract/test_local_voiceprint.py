"""Speakers told apart on this machine: the contract, and what the provider decides. The weights are made up; those that
were published are tested in tests/providers/test_resemblyzer.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from tests.contract.suites import CONTEXT, Subject, VoiceprintContract
from tests.databases import opened
from tests.fakes.inference import InlineInference
from tests.fakes.tensor_files import campplus_model, made_model
from xiaozhi.errors import SettingsError, VendorRejected, VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.voiceprint import HeardVoice, LearningVoiceprint
from xiaozhi.providers.registry import build
from xiaozhi.providers.voiceprint.local import MOST_PEOPLE
from xiaozhi.providers.wrappers import guard
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.speech.voice_likeness import VoiceSample, likeness
from xiaozhi.storage.database import Database

OWNER = CONTEXT.device_id


def noise(seed: int, seconds: float = 2.0, low: float = 80, high: float = 7_000) -> bytes:
    """Noise of a band: another one sounds like somebody else."""
    size = round(16_000 * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    hertz = np.fft.rfftfreq(size, 1 / 16_000)
    spectrum[(hertz < low) | (hertz > high)] = 0
    sound = np.fft.irfft(spectrum)
    return (sound / np.abs(sound).max() * 20_000).astype("<i2").tobytes()


def built(folder: Path, database: Database | None, **block: Any) -> Any:
    whole = {"type": "local", "model_dir": str(folder), **block}
    services = Services(inference=InlineInference(), database=database)  # type: ignore[arg-type]
    return build("voiceprint", "local", whole, services)


@contextmanager
def local_voiceprint() -> Iterator[Subject]:
    with TemporaryDirectory() as folder, opened(Path(folder)) as database:
        provider = built(made_model(Path(folder) / "model"), database)
        provider.warm_up()
        heard = provider.identify(TestLocalVoiceprint.pcm, OWNER)
        provider.remember(OWNER, "Anna", [heard.sample], "spoken")
        yield Subject(provider)
        provider.close()


class TestLocalVoiceprint(VoiceprintContract):
    type_name = "local"
    vendor = False
    pcm = noise(1)

    def subject(self) -> Any:
        return local_voiceprint()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as made:
        yield made


def test_who_it_is_by_likeness_and_only_among_the_people_of_the_user(model: Path, database: Database) -> None:
    provider = built(model, database, similarity_threshold=0.99)
    assert provider.identify(noise(1), OWNER) == HeardVoice(None, provider.identify(noise(1), "x").sample, False)

    low, high = noise(1, high=600), noise(2, low=3_000)
    provider.remember(OWNER, "Low", [provider.identify(low, OWNER).sample], "spoken")
    provider.remember("somebody else", "High", [provider.identify(high, OWNER).sample], "spoken")

    assert provider.identify(low, OWNER).speaker.name == "Low"
    assert provider.identify(low, OWNER).speaker.similarity == pytest.approx(1.0)
    unknown = provider.identify(high, OWNER)
    assert unknown.speaker is None and unknown.comparable and unknown.sample is not None
    assert provider.identify(high, "somebody else").speaker.name == "High"
    assert provider.names(OWNER) == ["Low"] and provider.forget(OWNER, "low") == ["Low"] and provider.names(OWNER) == []
    provider.close()


def test_several_people_of_one_user_are_told_apart_by_the_threshold(model: Path, database: Database) -> None:
    provider, low, high = built(model, database), noise(1, high=600), noise(2, low=3_000)
    for name, sound in (("Low", low), ("High", high)):
        provider.remember(OWNER, name, [provider.identify(sound, OWNER).sample], "spoken")

    assert [provider.identify(sound, OWNER).speaker.name for sound in (low, high, low)] == ["Low", "High", "Low"]
    assert provider.names(OWNER) == ["High", "Low"]
    other = provider.identify(noise(3, low=1_000, high=2_000), OWNER).sample
    likest = max(likeness(other, provider.identify(sound, OWNER).sample) for sound in (low, high))
    for threshold, known in ((likest - 0.01, True), (min(1.0, likest + 0.01), False)):
        judged = built(model, database, similarity_threshold=threshold)
        assert (judged.identify(noise(3, low=1_000, high=2_000), OWNER).speaker is not None) == known


class RemoteLearning(LearningVoiceprint):
    """One that learns voices elsewhere, so a guard stands before it."""

    type_name = "remote"

    def __init__(self) -> None:
        self.kept: dict[str, list[str]] = {}

    def identify(self, pcm: bytes, owner: str) -> HeardVoice:
        return HeardVoice(None, comparable=False)

    def remember(self, owner: str, name: str, samples: Sequence[VoiceSample], consent: str) -> None:
        self.kept.setdefault(owner, []).append(name)

    def forget(self, owner: str, name: str = "") -> list[str]:
        return self.kept.pop(owner, [])

    def names(self, owner: str) -> list[str]:
        return self.kept.get(owner, [])


def test_behind_a_guard_one_that_learns_still_does() -> None:
    guarded = guard("voiceprint", RemoteLearning())

    assert isinstance(guarded, LearningVoiceprint) and not isinstance(guarded, RemoteLearning)
    guarded.remember(OWNER, "Anna", [VoiceSample("m", b"", 1.0)], "spoken")
    assert guarded.names(OWNER) == ["Anna"] and guarded.forget(OWNER) == ["Anna"] and guarded.names(OWNER) == []


def test_too_little_voice(model: Path, database: Database) -> None:
    assert built(model, database).identify(bytes(64_000), OWNER) == HeardVoice(None, comparable=False)


def test_there_is_a_limit(model: Path, database: Database) -> None:
    provider = built(model, database)
    sample = provider.identify(noise(1), OWNER).sample
    for number in range(MOST_PEOPLE):
        provider.remember(OWNER, f"p{number}", [sample], "spoken")

    with pytest.raises(VendorRejected):
        provider.remember(OWNER, "one more", [sample], "spoken")


def test_without_a_database(model: Path) -> None:
    with pytest.raises(VendorUnavailable):
        built(model, None).identify(noise(1), OWNER)


def test_it_computes_in_the_pool(model: Path, database: Database) -> None:
    inference = InferencePool(1)
    inference.start()
    block = {"type": "local", "model_dir": str(model)}
    provider = build("voiceprint", "local", block, Services(inference=inference, database=database))
    try:
        assert provider.identify(noise(1), OWNER).sample is not None
        assert inference.counts["other"].done >= 1
    finally:
        provider.close()
        inference.close()


def test_the_folder_says_which_model_it_is_and_vectors_of_another_one_are_nobody(
    model: Path, database: Database, tmp_path: Path
) -> None:
    english, mandarin = built(model, database), built(campplus_model(tmp_path / "campplus-made-up"), database)
    english.remember(OWNER, "Anna", [english.identify(noise(1), OWNER).sample], "spoken")

    heard = mandarin.identify(noise(1), OWNER)

    assert heard.sample is not None and heard.sample.model == "campplus" and len(heard.sample.vector) == 4 * 192
    assert heard.speaker is None and not heard.comparable
    mandarin.remember(OWNER, "Anna", [heard.sample], "spoken")
    assert mandarin.identify(noise(1), OWNER).speaker.name == "Anna"
    assert mandarin.names(OWNER) == ["Anna"] and not english.identify(noise(1), OWNER).comparable
    for provider in (english, mandarin):
        provider.close()


@pytest.mark.parametrize("name", ["resemblyzer", "campplus"])
def test_a_missing_model_of_the_catalogue_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"models fetch {name}"):
        built(tmp_path / name, None)


def test_a_missing_model_is_told_with_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="models fetch resemblyzer"):
        built(tmp_path, None)


def test_a_file_that_is_none_or_not_the_published_one_is_refused_at_the_start(tmp_path: Path) -> None:
    for folder in (tmp_path / "own", tmp_path / "resemblyzer"):
        made_model(folder)
    (tmp_path / "own/pretrained.pt").write_bytes(b"nothing of use" * 100)

    for folder, why in ((tmp_path / "own", "not a file of tensors"), (tmp_path / "resemblyzer", "published")):
        with pytest.raises(SettingsError, match=why):
            built(folder, None).warm_up()
