"""What every test of misbehaviour gets: a server, a witness who must notice nothing, a log that is read, and a look at
what is left."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import gevent
import pytest

from loadtest.simulator import speech
from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, merged, open_stage
from tests.robustness.logbook import SECRET, Logbook, reading
from tests.robustness.witness import LONG_WORDS, Mirror, Witness, talking
from tests.waiting import PATIENCE_S
from xiaozhi.app import listeners
from xiaozhi.net.tcp import SocketLimits
from xiaozhi.session.listening.listener import Listener, Utterance
from xiaozhi.session.session import Session
from xiaozhi.session.speaking.outbox import Outbox
from xiaozhi.session.turns.turn import Turn
from xiaozhi.tools.device_mcp import DeviceMcp
from xiaozhi.transport.connection import Connection
from xiaozhi.transport.websocket import WebSocket

SETTINGS = {
    "server": {
        "secret": f"{SECRET}-management",
        "limits": {"messages_per_second": 0, "frames_per_second": 0, "send_timeout": 0.5},
        "max_connections": 1000,
    },
    "tool_call_timeout": 2,
}
CLOSE_TIMEOUT = 0.3
"""Seconds for the answer to our close frame, instead of two."""
WORDS = "what is up with you"
OF_A_VISIT = (Connection, WebSocket, Session, Listener, Outbox, Turn, Utterance, DeviceMcp)
"""Nothing of these outlives its device."""


class Talking(Protocol):
    """See `tests.robustness.witness.talking`."""

    def __call__(self) -> AbstractContextManager[Witness]: ...


@pytest.fixture(scope="session")
def words() -> Speech:
    """Spoken words."""
    return speech.speak_all([WORDS, LONG_WORDS])[0]


@pytest.fixture(scope="session")
def long_words(words: Speech) -> Speech:
    """Words that the vendor knows from others by their length; see `Mirror.when`."""
    return speech.speak(LONG_WORDS)


@pytest.fixture(scope="session")
def sounds() -> Sounds:
    """Speech-like sound of the vendor."""
    made = Sounds()
    for seconds in (0.06, 10.0):
        made.body("wav", seconds)
    return made


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    """More settings of this module's server; modules override it."""
    return {}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds, stage_settings: dict[str, Any]) -> Iterator[Stage]:
    """One server and its vendor for a whole module. No limits on rates, so that everything gets as deep as it can."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(listeners, "SocketLimits", partial(SocketLimits, close_timeout=CLOSE_TIMEOUT))
        with open_stage(tmp_path_factory.mktemp("data"), sounds, merged(SETTINGS, stage_settings)) as opened:
            yield opened


@pytest.fixture(scope="module")
def mirror(stage: Stage) -> Mirror:
    """How the vendor treats single devices; begins anew with every test."""
    return Mirror(stage.vendor)


@pytest.fixture
def witness(mirror: Mirror, stage: Stage, words: Speech) -> Talking:
    """`with witness():` somebody talks meanwhile, and nothing odd may happen to them."""
    return partial(talking, stage, words)


@pytest.fixture(autouse=True)
def book() -> Iterator[Logbook]:
    """The log of the test; what must not be in it fails the test."""
    with reading() as opened:
        yield opened
    opened.check()


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest, _no_leaks: None, book: Logbook) -> Iterator[None]:
    """A fresh vendor before the test; after it all places are free and nothing of any visit lives on."""
    if "stage" not in request.fixturenames:
        yield
        return
    stage: Stage = request.getfixturevalue("stage")
    stage.reset()
    request.getfixturevalue("mirror").begin()
    yield
    stage.close_devices()
    server = stage.server
    assert not in_the_end(lambda: busy(stage))
    assert server.readiness() == (True, [])
    assert stage.vendor.refusals == []
    assert not in_the_end(leftovers)


def in_the_end(left: Callable[[], Counter[str]]) -> Counter[str]:
    """What is still left after all patience; nothing, as soon as there is nothing left."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := left()) and time.monotonic() < deadline:
        gevent.sleep(0.01)  # sleep: between two looks
    return found


def busy(stage: Stage) -> Counter[str]:
    """What the server still has to do, or holds for devices that are gone."""
    server = stage.server
    assert server.generation is not None and server.acceptor is not None and server.web is not None
    held = {
        "sessions": server.generation.sessions,
        "places": server.admission.total,
        "handshakes": server.acceptor.handshakes,
        "http": server.web.connections,
        "jobs": server.inference.active + server.inference.queued,
        "connections": server.acceptor.serving,
    }
    return Counter({what: count for what, count in held.items() if count})


def leftovers() -> Counter[str]:
    """Objects of visits that are still alive, by class."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in OF_A_VISIT)
