"""An outbox with a connection that notes what is sent."""

from __future__ import annotations

from tests.fakes.alarm import FakeAlarm
from tests.fakes.clock import FakeClock
from tests.fakes.sender import RecordingSender
from tests.waiting import PATIENCE_S
from xiaozhi.protocol.frames import codec_for
from xiaozhi.protocol.messages import TtsPhase, TtsState
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.outbox import Outbox

START = TtsState(TtsPhase.START)


STOP = TtsState(TtsPhase.STOP)


def packets(count: int, mark: str = "f") -> list[bytes]:
    """Packets that say which one they are."""
    return [f"{mark}{index}".encode() for index in range(count)]


class Rig:
    """An outbox, the socket it writes to, and all that it was told to do wrong."""

    def __init__(self, *, fake_time: bool, version: int = 1, frame_ms: int = 60, **options: object) -> None:
        self.clock = FakeClock() if fake_time else None
        self.sender = RecordingSender(clock=self.clock) if self.clock is not None else RecordingSender()
        self.tasks = Tasks()
        self.overflows: list[str] = []
        self.late: list[float] = []
        self.alarm = FakeAlarm(self.clock) if self.clock is not None else None
        if self.clock is not None:
            options |= {"clock": self.clock, "alarm": self.alarm}
        self.outbox = Outbox(
            send_text=self.sender.send_text,
            send_binary=self.sender.send_binary,
            codec=codec_for(version, False),
            session_id="s",
            frame_ms=frame_ms,
            tasks=self.tasks,
            on_overflow=self.overflows.append,
            on_frame=self.late.append,
            **options,  # type: ignore[arg-type]
        )

    def run(self) -> None:
        """Let the writer work until it has nothing left to do."""
        assert self.tasks.join(timeout=PATIENCE_S)

    def sent(self, since: float = 1000.0) -> list[tuple[float, str]]:
        """(ms, what) of everything that was sent: frames by their name, messages by type and state."""
        shown = []
        for item in self.sender.log:
            if isinstance(item.data, bytes):
                what = item.data.decode()
            else:
                body = item.message
                what = " ".join(filter(None, [body["type"], body.get("state"), body.get("text")]))
            shown.append((round((item.at - since) * 1000, 3), what))
        return shown
