"""Saving memories: once per visit, off the hot path, never lost."""

from collections.abc import Sequence
from pathlib import Path

from gevent.event import Event

from tests.fakes.thinking import FakeMemory
from xiaozhi.chat import Message
from xiaozhi.errors import VendorRejected, VendorUnavailable
from xiaozhi.session import memories
from xiaozhi.session.memories import MemoryWriter

VISIT = [Message("user", "hi"), Message("assistant", "ho")]


class SlowMemory(FakeMemory):
    """Saves when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = Event()

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        self.go.wait(5)
        super().save(device_id, messages, session_id)


class Refusing(FakeMemory):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        raise self.error


class Forgetful(FakeMemory):
    remembers = False


def test_saved_in_the_background_and_flushed(tmp_path: Path) -> None:
    memory = SlowMemory()
    writer = MemoryWriter(tmp_path)
    for number in range(10):
        writer.save(memory, f"dev{number}", VISIT, "s")
    assert memory.saved == [] and writer.waiting == 10
    memory.go.set()
    assert writer.flush(5)
    assert sorted(device for device, _, _ in memory.saved) == sorted(f"dev{number}" for number in range(10))
    assert (writer.saved, writer.waiting) == (10, 0)


def test_what_cannot_be_saved_in_time_is_saved_by_the_next_process(tmp_path: Path) -> None:
    stuck = SlowMemory()
    writer = MemoryWriter(tmp_path, workers=1)
    writer.save(stuck, "a", VISIT, "s1")
    writer.save(stuck, "b", VISIT, "s2")
    assert not writer.flush(0.05)
    assert stuck.saved == []
    healthy = FakeMemory()
    following = MemoryWriter(tmp_path)
    following.start(lambda: healthy)
    assert following.flush(5)
    assert {(device, session) for device, _, session in healthy.saved} == {("a", "s1"), ("b", "s2")}
    assert healthy.saved[0][1] == VISIT
    assert not (tmp_path / memories.PENDING_FILE).exists()


def test_a_passing_failure_is_kept_for_later_a_rejection_is_not(tmp_path: Path) -> None:
    writer = MemoryWriter(tmp_path)
    writer.save(Refusing(VendorUnavailable("m", "down")), "a", VISIT, "s1")
    writer.save(Refusing(VendorRejected("m", "no")), "b", VISIT, "s2")
    assert writer.flush(5)
    assert writer.failed == 2
    kept = (tmp_path / memories.PENDING_FILE).read_text(encoding="utf-8").splitlines()
    assert len(kept) == 1 and '"a"' in kept[0]


def test_nothing_to_save_is_not_saved(tmp_path: Path) -> None:
    memory, forgetful = FakeMemory(), Forgetful()
    writer = MemoryWriter(tmp_path)
    writer.save(memory, "a", [], "s")
    writer.save(forgetful, "a", VISIT, "s")
    assert writer.flush(1)
    assert memory.saved == forgetful.saved == []


def test_a_full_queue_goes_to_disk(tmp_path: Path, monkeypatch: object) -> None:
    memory = SlowMemory()
    writer = MemoryWriter(tmp_path, workers=0)
    for number in range(memories.MAX_WAITING + 3):
        writer.save(memory, f"dev{number}", VISIT, "s")
    assert len((tmp_path / memories.PENDING_FILE).read_text(encoding="utf-8").splitlines()) == 3


def test_unreadable_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / memories.PENDING_FILE).write_text('nonsense\n{"device": 1}\n{"device": "a", "session": "s", "said": [["user", "hi"]]}\n')
    memory = FakeMemory()
    writer = MemoryWriter(tmp_path)
    writer.start(lambda: memory)
    assert writer.flush(5)
    assert [device for device, _, _ in memory.saved] == ["a"]
