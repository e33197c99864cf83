"""Saving memories: once per visit, off the hot path, never lost."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from gevent.event import Event

from tests.fakes.thinking import FakeMemory
from xiaozhi.chat import Message
from xiaozhi.errors import VendorRejected, VendorUnavailable
from xiaozhi.providers.contracts.memory import MemoryTraits
from xiaozhi.session import memory as memory_module
from xiaozhi.session.memory import MemoryWriter

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
    traits = MemoryTraits(offline=True, remembers=False)


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
    assert not (tmp_path / memory_module.PENDING_FILE).exists()


def test_more_than_the_queue_holds_waits_on_disk_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "MAX_WAITING", 3)
    stuck = MemoryWriter(tmp_path, workers=1)
    for number in range(8):
        stuck.save(SlowMemory(), f"dev{number}", VISIT, "s")
    assert not stuck.flush(0.05)
    saved: set[str] = set()
    for _ in range(4):
        healthy, following = FakeMemory(), MemoryWriter(tmp_path)
        following.start(lambda healthy=healthy: healthy)  # type: ignore[misc]
        assert following.flush(5)
        saved |= {device for device, _, _ in healthy.saved}
    assert saved == {f"dev{number}" for number in range(8)}
    assert list(tmp_path.iterdir()) == []


def test_two_workers_that_start_at_once_share_what_was_left(tmp_path: Path) -> None:
    stuck = MemoryWriter(tmp_path, workers=1)
    stuck.save(SlowMemory(), "a", VISIT, "s")
    assert not stuck.flush(0.05)
    first, second = FakeMemory(), FakeMemory()
    writers = [MemoryWriter(tmp_path), MemoryWriter(tmp_path)]
    for writer, memory in zip(writers, (first, second), strict=True):
        writer.start(lambda memory=memory: memory)  # type: ignore[misc]
    assert all(writer.flush(5) for writer in writers)
    assert len(first.saved) + len(second.saved) == 1


def test_a_passing_failure_is_kept_for_later_a_rejection_is_not(tmp_path: Path) -> None:
    writer = MemoryWriter(tmp_path)
    writer.save(Refusing(VendorUnavailable("m", "down")), "a", VISIT, "s1")
    writer.save(Refusing(VendorRejected("m", "no")), "b", VISIT, "s2")
    assert writer.flush(5)
    assert writer.failed == 2
    kept = (tmp_path / memory_module.PENDING_FILE).read_text(encoding="utf-8").splitlines()
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
    for number in range(memory_module.MAX_WAITING + 3):
        writer.save(memory, f"dev{number}", VISIT, "s")
    assert len((tmp_path / memory_module.PENDING_FILE).read_text(encoding="utf-8").splitlines()) == 3


def test_unreadable_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / memory_module.PENDING_FILE).write_text(
        'nonsense\n{"device": 1}\n{"device": "a", "session": "s", "said": [["user", "hi"]]}\n'
    )
    memory = FakeMemory()
    writer = MemoryWriter(tmp_path)
    writer.start(lambda: memory)
    assert writer.flush(5)
    assert [device for device, _, _ in memory.saved] == ["a"]
