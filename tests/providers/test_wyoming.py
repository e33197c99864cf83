"""Wyoming against services that speak by the official package: events of any form, what a service offers, both ways to
speak, every fault."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from wyoming.event import Event, read_event, write_event

from loadtest.vendors.sounds import hum
from tests.fakes.inference import InlineInference
from tests.fakes.voice import speech_of
from tests.providers.streamed import hear, speak, texts
from tests.vendors.wyoming_vendor import WyomingVendor
from tests.waiting import wait_for
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    SettingsError,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins, SentenceEnds, SpeechEvent
from xiaozhi.providers.families.wyoming import (
    MAX_HEADER_BYTES,
    MAX_PART_BYTES,
    BadEvent,
    EventDecoder,
    WyomingEvent,
    pack,
)
from xiaozhi.providers.registry import build, ignored, validate

CONTEXT = CallContext()
PCM = hum(0.5, 16_000)
SENTENCES = ("Today is a fine day for a walk.", "我们一起去公园散步吧！", "Good.")
Build = Callable[..., Any]


@pytest.fixture
def make() -> Iterator[Build]:
    made: list[Any] = []

    def make(vendor: WyomingVendor, **block: Any) -> Any:
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        base = {"type": "wyoming", "host": "127.0.0.1", "port": vendor.port}
        made.append(build(vendor.kind or block.pop("kind"), "Wy", base | block, services))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@contextlib.contextmanager
def service(kind: str, **options: Any) -> Iterator[WyomingVendor]:
    with WyomingVendor(kind, **options) as vendor:
        yield vendor
        assert vendor.faults == []


def sound(events: list[SpeechEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Pcm))


# --- events -----------------------------------------------------------------------------------------------------------

DATA = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=20), st.none()),
    max_size=3,
)
EVENTS = st.lists(
    st.builds(WyomingEvent, st.text("abc-", min_size=1, max_size=9), DATA, st.binary(max_size=40)), max_size=4
)


@given(EVENTS)
def test_the_official_package_reads_what_is_sent(events: list[WyomingEvent]) -> None:
    reader = io.BytesIO(b"".join(map(pack, events)))
    for event in events:
        assert read_event(reader) == Event(event.type, dict(event.data), event.payload or None)
    assert read_event(reader) is None


@given(EVENTS, st.integers(1, 60))
def test_what_the_official_package_sends_is_read_however_it_is_cut(events: list[WyomingEvent], size: int) -> None:
    writer = io.BytesIO()
    for event in events:
        write_event(Event(event.type, dict(event.data), event.payload or None), writer)
    sent = writer.getvalue()
    decoder = EventDecoder()
    read = [event for at in range(0, len(sent), size) for event in decoder.feed(sent[at : at + size])]
    assert read == events


def test_data_in_the_header_and_behind_it() -> None:
    line = b'{"type": "info", "data": {"a": 1, "b": 1}, "data_length": 8}\n{"b": 2}'
    assert EventDecoder().feed(line) == [WyomingEvent("info", {"a": 1, "b": 2})]
    assert EventDecoder().feed(b'{"type": "pong", "data": null, "payload_length": null}\n') == [WyomingEvent("pong")]


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"[1]\n",
        b'{"data": {}}\n',
        b'{"type": 3}\n',
        b'{"type": "x", "data": [1]}\n',
        b'{"type": "x", "data_length": -1}\n',
        b'{"type": "x", "payload_length": "9"}\n',
        b'{"type": "x", "payload_length": %d}\n' % (MAX_PART_BYTES + 1),
        b'{"type": "x", "data_length": 3}\n[1]',
        b"x" * (MAX_HEADER_BYTES + 1),
    ],
)
def test_what_is_no_event(broken: bytes) -> None:
    with pytest.raises(BadEvent):
        EventDecoder().feed(broken)


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_blocks() -> None:
    asr = validate("asr", "Wy", {"type": "wyoming", "host": "", "port": "", "model": "", "language": ""})
    assert (asr.host, asr.port) == ("127.0.0.1", 10300)  # type: ignore[attr-defined]
    tts = validate("tts", "Wy", {"type": "wyoming", "port": "10201", "private_voice": "a", "speaker": "b"})
    assert (tts.port, tts.voice) == (10201, "a")  # type: ignore[attr-defined]
    assert ignored("tts", "Wy", {"type": "wyoming", "ttsRate": 10})
    for block in ({"port": 0}, {"speaker": "b"}, {"timeout": 0}):
        with pytest.raises(SettingsError):
            validate("tts", "Wy", {"type": "wyoming", **block})


# --- what a service offers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "offered"), [("asr", "tts"), ("tts", "asr"), ("tts", "")])
def test_a_service_of_another_kind(make: Build, kind: str, offered: str) -> None:
    with service(offered) as vendor:
        vendor_kind, vendor.kind = vendor.kind, ""
        provider = make(vendor, kind=kind)
        vendor.kind = vendor_kind
        provider.warm_up()  # may fail here without harm
        with pytest.raises(VendorRejected, match=f"has no {kind}; it offers: {offered or 'nothing'}"):
            provider.open(CONTEXT)


def test_it_is_asked_once_and_again_when_it_did_not_answer(make: Build) -> None:
    with service("asr") as vendor:
        asr = make(vendor)
        for _ in range(2):
            asr.warm_up()
            assert hear(asr.open(CONTEXT), PCM).text == "Turn on the light."
        assert vendor.described == 1
        cold = make(vendor)
        assert hear(cold.open(CONTEXT), PCM).text == "Turn on the light."
        vendor.stop()
        late = make(vendor)
        late.warm_up()
        with pytest.raises(VendorUnavailable):
            late.open(CONTEXT)


def test_a_name_that_the_service_does_not_list_is_told(make: Build) -> None:
    with service("asr") as vendor, capture_logs() as lines:
        make(vendor, model="small").warm_up()
        assert lines == []
        make(vendor, model="large").warm_up()
        assert [(line["log_level"], line["name"], line["listed"]) for line in lines] == [
            ("warning", "large", ["small"])
        ]


# --- hearing ----------------------------------------------------------------------------------------------------------


def test_the_text_and_what_was_asked_for(make: Build) -> None:
    with service("asr") as vendor:
        assert hear(make(vendor, model="small", language="en").open(CONTEXT), PCM) == Transcript(
            "Turn on the light.", "en"
        )
        assert hear(make(vendor, language="auto").open(CONTEXT), PCM) == Transcript("Turn on the light.", "en")
        assert [(request.name, request.language) for request in vendor.requests] == [("small", "en"), (None, None)]
        assert bytes(vendor.audio) == PCM


def test_text_in_pieces(make: Build) -> None:
    with service("asr", streaming=True) as vendor:
        stream = make(vendor).open(CONTEXT)
        stream.feed(PCM[:7680])
        wait_for(lambda: stream.partial == "Turn on", "the first piece")
        stream.feed(PCM[7680:])
        wait_for(lambda: stream.partial == "Turn on the light.", "the second piece")
        assert stream.finish().text == "Turn on the light."


def test_a_service_that_has_heard_enough(make: Build) -> None:
    with service("asr") as vendor:
        vendor.once.append("early")
        stream = make(vendor).open(CONTEXT)
        stream.feed(PCM[:8000])
        wait_for(lambda: stream.partial == "Turn on the light.", "the text")
        stream.feed(PCM[8000:])
        assert stream.finish().text == "Turn on the light."


# --- speaking ---------------------------------------------------------------------------------------------------------

WHOLE_S = (23 * 0.4 + 10 + 4 * 0.4) * 0.19 + 3 * 0.3


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("rate", "channels"), [(22_050, 1), (16_000, 2), (48_000, 1)])
def test_sentences_and_sound(make: Build, streaming: bool, rate: int, channels: int) -> None:
    with service("tts", streaming=streaming, rate=rate, channels=channels) as vendor:
        events = speak(make(vendor).open(CONTEXT), *SENTENCES)
        assert texts(events) == list(SENTENCES)
        assert {event.rate for event in events if isinstance(event, Pcm)} == {rate}
        pcm = sound(events)
        assert len(pcm) / 2 / rate == pytest.approx(WHOLE_S, abs=0.01)
        assert np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() > 1_000
        assert vendor.texts == list(SENTENCES)  # each as soon as it is there
        assert vendor.connections == 1 + (1 if streaming else 3)


@pytest.mark.parametrize("streaming", [False, True])
def test_which_voice(make: Build, streaming: bool) -> None:
    with service("tts", streaming=streaming) as vendor:
        for block in ({"voice": "de_DE-mls", "speaker": "anna"}, {"language": "de_DE"}, {}):
            speak(make(vendor, **block).open(CONTEXT), "Hallo.")
            voice = vendor.requests[-1].voice
            asked = (voice.name, voice.speaker, voice.language) if voice else None
            expected = {"voice": ("de_DE-mls", "anna", None), "language": (None, None, "de_DE")}
            assert asked == expected.get(next(iter(block), ""))


def test_a_sentence_without_sound_is_passed_over(make: Build) -> None:
    with service("tts") as vendor:
        vendor.once.extend(["", "silent"])
        events = speak(make(vendor).open(CONTEXT), "One.", "***", "Three.")
        assert texts(events) == ["One.", "***", "Three."]
        at = events.index(SentenceBegins("***"))
        assert events[at + 1] == SentenceEnds()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", [{"width": 4}, {"rate": 96_000}])
def test_sound_that_nobody_can_play(make: Build, streaming: bool, form: dict[str, int]) -> None:
    with service("tts", streaming=streaming, **form) as vendor, pytest.raises(VendorGarbage, match="sound of"):
        speak(make(vendor).open(CONTEXT), "One.")


@pytest.mark.parametrize("streaming", [False, True])
def test_an_interrupt_between_sentences_and_inside_one(make: Build, streaming: bool) -> None:
    with service("tts", streaming=streaming) as vendor:
        tts = make(vendor)
        stream = tts.open(CONTEXT)
        stream.say("One.")
        events = speech_of(stream)
        assert next(events) == SentenceBegins("One.")
        stream.close()
        wait_for(lambda: not vendor.open, "the connection to be closed")
        vendor.once.append("stall_after")
        stream = tts.open(CONTEXT)
        stream.say("One.")
        assert next(speech_of(stream)) == SentenceBegins("One.")
        stream.close()
        wait_for(lambda: not vendor.open, "the connection to be closed")


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["asr", "tts"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("stall_before", VendorTimeout),
        ("stall_after", VendorTimeout),
        ("drop", VendorUnavailable),
        ("garbage", VendorGarbage),
        ("error", VendorUnavailable),
    ],
)
def test_faults(make: Build, kind: str, streaming: bool, fault: str, expected: type[VendorError]) -> None:
    with service(kind, streaming=streaming) as vendor:
        provider = make(vendor, timeout=0.2)
        provider.warm_up()
        vendor.once.append(fault)
        with pytest.raises(expected) as caught:
            hear(provider.open(CONTEXT), PCM) if kind == "asr" else speak(provider.open(CONTEXT), "One.")
        if fault == "error":
            assert "FileNotFoundError no such file" in str(caught.value)
        wait_for(lambda: not vendor.open, "the connection to be closed")
