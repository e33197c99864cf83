"""What the console is told of a conversation: exactly its fields, in order, once where it can be."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.console import REPORT, SECRET, SUMMARY, TITLE, BoundDevice, StrictConsole, refuses
from xiaozhi.errors import VendorError
from xiaozhi.management.client import ConsoleClient
from xiaozhi.management.reports import ConsoleReports, reports_of
from xiaozhi.management.translate import KEEP_NOTHING, KEEP_SOUND, KEEP_TEXT, PrivateConfig

MAC = "02:00:00:00:0C:01"


@dataclass
class OneSession:
    id: str = "3f" * 16
    device_id: str = MAC.lower()


@dataclass
class OneTool:
    name: str
    arguments: Mapping[str, Any]
    result: str = ""


@dataclass
class OneSound:
    """A tenth of a second."""

    def wav(self) -> bytes:
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes(bytes(3_200))
        return file.getvalue()


@dataclass
class OneTurn:
    said: str = "几点了"
    spoken: Sequence[str] = ("现在三点。", "要睡了吗？")
    tools: Sequence[OneTool] = ()
    speaker: str = ""
    sound: OneSound | None = None
    voices: Sequence[OneSound] = ()
    at: float = 1_790_000_000.123
    key: str = "s:1"
    session: OneSession = field(default_factory=OneSession)


@dataclass
class OneEnd:
    turns: int = 1
    session: OneSession = field(default_factory=OneSession)


@pytest.fixture
def console() -> Iterator[StrictConsole]:
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        console.bound[MAC] = BoundDevice()
        yield console
        assert console.faults == []


Make = Callable[..., ConsoleReports]


@pytest.fixture
def make(console: StrictConsole) -> Iterator[Make]:
    client = ConsoleClient(console.api_url, SECRET, timeout=5.0)

    def sink(history: int = KEEP_SOUND, *, summarises: bool = False) -> ConsoleReports:
        return ConsoleReports(
            client,
            config=lambda device: PrivateConfig(history=history, summarises=summarises, mac=MAC),
            woke=lambda text: text == "你好小智",
            offload=lambda function: function(),
        )

    yield sink
    client.close()


def test_a_turn_is_told_in_the_order_in_which_it_happened() -> None:
    tools = [OneTool("get_weather", {"location": "杭州"}, "sunny"), OneTool("reboot", {})]

    reports = reports_of(OneTurn(tools=tools), "V0FW")

    assert [(report["chatType"], report["content"]) for report in reports] == [
        (1, "几点了"),
        (3, '[{"type":"tool","text":"get_weather({\\"location\\":\\"杭州\\"})"}]'),
        (3, '[{"type":"tool_result","text":"{\\"result\\":\\"sunny\\"}"}]'),
        (3, '[{"type":"tool","text":"reboot({})"}]'),
        (2, "现在三点。"),
        (2, "要睡了吗？"),
    ]
    times = [report["reportTime"] for report in reports]
    assert times == sorted(set(times))
    assert times[0] == 1_790_000_000_123
    assert [report["audioBase64"] for report in reports] == ["V0FW", None, None, None, None, None]
    assert all(set(report) == set(reports[0]) for report in reports)


def test_who_spoke_is_told_with_what_was_said() -> None:
    [report, *_] = reports_of(OneTurn(speaker="小明"))

    assert orjson.loads(report["content"]) == {"speaker": "小明", "content": "几点了"}


def test_blank_texts_are_refused_so_they_are_not_sent() -> None:
    assert reports_of(OneTurn(said=" ", spoken=(" ", ""))) == []


def test_what_does_not_fit_is_cut() -> None:
    [said, answer] = reports_of(OneTurn(said="字" * 50_000, spoken=("a" * 70_000,)))

    assert len(said["content"].encode()) <= 65_535
    assert len(answer["content"].encode()) <= 65_535


def test_sound_is_told_as_wav_and_a_wake_word_as_a_greeting(console: StrictConsole, make: Make) -> None:
    make().deliver([OneTurn(said="你好小智", sound=OneSound()), OneTurn(sound=OneSound(), key="s:2")])

    woken, _, _, said, *_ = console.reports
    assert (woken["content"], woken["audioBase64"]) == ("嘿，你好呀", None)
    assert base64.b64decode(said["audioBase64"])[:4] == b"RIFF"


@pytest.mark.parametrize(("history", "count", "sound"), [(KEEP_NOTHING, 0, 0), (KEEP_TEXT, 3, 0), (KEEP_SOUND, 3, 1)])
def test_no_more_is_told_than_the_console_keeps(
    history: int, count: int, sound: int, console: StrictConsole, make: Make
) -> None:
    sink = make(history)

    sink.deliver([OneTurn(sound=OneSound())])
    sink.session_ended(OneEnd())

    assert len(console.reports) == count
    assert sum(report["audioBase64"] is not None for report in console.reports) == sound
    assert len(console.titles) == (1 if history else 0)


def test_title_and_summary_come_behind_the_last_word(console: StrictConsole, make: Make) -> None:
    sink = make(summarises=True)
    console.stand(TITLE, Script(delay=0.2))

    sink.deliver([OneTurn()])
    sink.session_ended(OneEnd())

    assert console.order == [REPORT, REPORT, REPORT, TITLE, SUMMARY]


def test_after_a_failure_only_the_rest_is_sent_again(console: StrictConsole, make: Make) -> None:
    sink = make()
    console.script(REPORT, Script(), Script(status=503))

    with pytest.raises(VendorError) as failed:
        sink.deliver([OneTurn()])
    sink.deliver([OneTurn()])

    assert failed.value.retryable
    assert [report["content"] for report in console.reports] == ["几点了", "现在三点。", "要睡了吗？"]


def test_a_message_that_is_refused_does_not_hold_up_the_others(console: StrictConsole, make: Make) -> None:
    console.script(REPORT, refuses(10034))

    make().deliver([OneTurn()])

    assert [report["content"] for report in console.reports] == ["现在三点。", "要睡了吗？"]


def test_a_wrong_secret_loses_nothing(console: StrictConsole, make: Make) -> None:
    sink = make()
    console.script(REPORT, refuses(401))

    with pytest.raises(VendorError) as failed:
        sink.deliver([OneTurn()])
    sink.deliver([OneTurn()])

    assert failed.value.retryable
    assert len(console.reports) == 3


@pytest.mark.parametrize("trouble", [refuses(10053), refuses(500), Script(status=503)])
def test_the_end_of_a_session_is_told_once(trouble: Script, console: StrictConsole, make: Make) -> None:
    console.stand(TITLE, trouble)

    make().session_ended(OneEnd())

    assert console.counts[TITLE] == 1
