"""What was spoken is told to the console with its sound, sentence by sentence."""

from __future__ import annotations

from tests.management.test_reports import MAC, OneSound, OneTool, OneTurn
from xiaozhi.management.client import ConsoleClient
from xiaozhi.management.reports import ConsoleReports, reports_of
from xiaozhi.management.translate import KEEP_SOUND, KEEP_TEXT, PrivateConfig


class Told(ConsoleClient):
    """A console that takes everything."""

    def __init__(self) -> None:
        super().__init__("http://console.example/xiaozhi", "secret")
        self.sounds: list[bool] = []

    def report(self, report: object) -> bool:
        assert isinstance(report, dict)
        self.sounds.append(report["audioBase64"] is not None)
        return True


def test_each_sentence_has_its_own_sound() -> None:
    turn = OneTurn(spoken=("One.", " ", "Three."), tools=[OneTool("reboot", {})])

    told = reports_of(turn, "user", ["1", "2", "3"])

    assert [(report["chatType"], report["content"], report["audioBase64"]) for report in told] == [
        (1, "几点了", "user"),
        (3, '[{"type":"tool","text":"reboot({})"}]', None),
        (2, "One.", "1"),
        (2, "Three.", "3"),
    ]


def test_sentences_whose_sound_is_gone_are_told_all_the_same() -> None:
    assert [report["audioBase64"] for report in reports_of(OneTurn(said="", spoken=("One.", "Two.")))] == [None, None]


def test_sound_goes_where_the_console_keeps_it() -> None:
    sounds = []
    for kept in (KEEP_TEXT, KEEP_SOUND):
        console = Told()
        sink = ConsoleReports(
            console,
            config=lambda device, kept=kept: PrivateConfig(history=kept, mac=MAC),  # type: ignore[misc]
            woke=lambda text: False,
            offload=lambda function: function(),
        )
        sink.deliver([OneTurn(sound=OneSound(), voices=[OneSound(), OneSound()])])
        sounds.append(console.sounds)

    assert sounds == [[False, False, False], [True, True, True]]
