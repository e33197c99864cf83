"""The voiceprint service's provider keeps its contract, and reads what the service says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.contract.loopback import failing
from tests.contract.suites import Subject, VoiceprintContract
from tests.fakes.inference import InlineInference
from tests.vendors.voiceprint_service import IDENTIFY, KEY, VoiceprintService
from xiaozhi.errors import SettingsError, VendorError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.voiceprint import Speaker
from xiaozhi.providers.registry import build

SECOND = bytes(32_000)
SPEAKERS = ["id1,小明,the son, eight years old", "id2,Li"]


def built(service: VoiceprintService, **block: Any) -> Any:
    whole = {"type": "http", "url": service.health_url, "speakers": SPEAKERS, **block}
    return build("voiceprint", "voiceprint", whole, Services(inference=InlineInference()))  # type: ignore[arg-type]


@contextmanager
def http_voiceprint() -> Iterator[Subject]:
    with VoiceprintService() as service:
        assert isinstance(service, VoiceprintService)
        provider = built(service, timeout=0.3)
        yield Subject(provider, failing(service, IDENTIFY), service.wait_gone, lambda: service.active)
        provider.close()
        assert service.refusals == []


class TestHttpVoiceprint(VoiceprintContract):
    type_name = "http"

    def subject(self) -> Any:
        return http_voiceprint()


@pytest.fixture
def service() -> Iterator[VoiceprintService]:
    with VoiceprintService(keep_alive=False) as running:
        assert isinstance(running, VoiceprintService)
        yield running


def identified(service: VoiceprintService, pcm: bytes = SECOND, **block: Any) -> Speaker | None:
    provider = built(service, **block)
    try:
        speaker: Speaker | None = provider.identify(pcm, "owner").speaker
        return speaker
    finally:
        provider.close()


def test_a_known_speaker(service: VoiceprintService) -> None:
    assert identified(service) == Speaker("id1", "小明", "the son, eight years old", 0.71)
    assert service.sounds == [1.0]


@pytest.mark.parametrize(("score", "threshold", "known"), [(0.4, 0.4, True), (0.39, 0.4, False), (0.71, 0.8, False)])
def test_likeness_decides(service: VoiceprintService, score: float, threshold: float, known: bool) -> None:
    service.score = score

    assert (identified(service, similarity_threshold=threshold) is not None) is known


@pytest.mark.parametrize("answer", [{"speaker_id": "id9", "score": 0.9}, {"speaker_id": None, "score": None}, {}])
def test_nobody_known(service: VoiceprintService, answer: Any) -> None:
    service.stand(IDENTIFY, Script(answer=answer))

    assert identified(service) is None


@pytest.mark.parametrize("answer", [[], "id1", {"speaker_id": "id1", "score": "high"}])
def test_what_is_no_answer(service: VoiceprintService, answer: Any) -> None:
    service.stand(IDENTIFY, Script(answer=answer))

    with pytest.raises(VendorError):
        identified(service)


def test_only_the_end_of_a_long_utterance_is_sent(service: VoiceprintService) -> None:
    identified(service, SECOND * 45)

    assert service.sounds == [30.0]


@pytest.mark.parametrize(
    "block",
    [{"url": "http://h:8005/voiceprint/health"}, {"url": "h:8005"}, {"speakers": []}, {"speakers": ["id1"]}],
)
def test_what_it_needs_is_told(service: VoiceprintService, block: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refused:
        built(service, **block)

    assert next(iter(block)) in str(refused.value)
    assert KEY not in str(refused.value)
