"""Standard input of a server in a terminal."""

from __future__ import annotations

import os
import pty
import select
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import gevent
import pytest

from tests.waiting import wait_for
from xiaozhi.app.terminal import Terminal


@dataclass
class Typist:
    """Somebody at a terminal; `terminal` is the server's end."""

    keyboard: int
    terminal: int
    asked: list[int] = field(default_factory=list)

    def status(self) -> str:
        """What the server tells."""
        self.asked.append(1)
        return f"status {len(self.asked)}"

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.keyboard, text.encode())

    def waiting(self) -> bool:
        """Whether something typed has not been read."""
        return bool(select.select([self.terminal], [], [], 0)[0])


@pytest.fixture
def typist() -> Iterator[Typist]:
    keyboard, terminal = pty.openpty()
    yield Typist(keyboard, terminal)
    for descriptor in (keyboard, terminal):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_enter_shows_one_line(typist: Typist, capsys: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    terminal = Terminal(typist.status, descriptor=typist.terminal)
    terminal.start()

    typist.type("\n")
    wait_for(lambda: len(typist.asked) == 1, "the first line")
    typist.type("what is this?\n")
    wait_for(lambda: len(typist.asked) == 2, "the second line")

    assert capsys.readouterr().out == "status 1\nstatus 2\n"
    assert threading.active_count() == threads
    terminal.stop()
    terminal.stop()
    assert not terminal.watching


def test_what_was_typed_does_not_reach_the_shell(typist: Typist) -> None:
    terminal = Terminal(typist.status, descriptor=typist.terminal)
    terminal.start()
    typist.type("rm everything\n")
    assert typist.waiting()

    terminal.stop()

    assert not typist.waiting()


def test_the_end_of_input_ends_the_watching(typist: Typist) -> None:
    terminal = Terminal(typist.status, descriptor=typist.terminal)
    terminal.start()
    typist.type("\x04")  # Ctrl-D

    wait_for(lambda: not terminal.watching, "the end")

    assert typist.asked == []
    terminal.stop()


def test_a_closed_terminal_ends_the_watching(typist: Typist) -> None:
    terminal = Terminal(typist.status, descriptor=typist.terminal)
    terminal.start()
    gevent.sleep(0)
    os.close(typist.keyboard)

    wait_for(lambda: not terminal.watching, "the end")
    terminal.stop()


def test_what_is_no_terminal_is_not_watched() -> None:
    read, write = os.pipe()
    for descriptor in (read, -1):
        terminal = Terminal(str, descriptor=descriptor)
        terminal.start()
        assert not terminal.watching
        terminal.stop()
    os.close(read)
    os.close(write)
