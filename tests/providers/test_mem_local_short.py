"""The local memory: summarised by a language model, kept per device; the old server's file is read when there is
nothing newer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import opened, write_lock
from tests.fakes.inference import InlineInference
from tests.fakes.thinking import FakeLlm
from xiaozhi.chat import Message
from xiaozhi.errors import VendorError, VendorUnavailable
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.llm import LlmTraits
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.memory import mem_local_short
from xiaozhi.storage.database import Database

VISIT = [Message("system", "x"), Message("user", "My cat is called Tofu."), Message("assistant", "What a nice name!")]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A SQLite file."""
    with opened(tmp_path) as made:
        yield made


def memory(database: Database | None, model: Any, /, **options: Any) -> Any:
    asked: list[tuple[str, str]] = []

    def provider(kind: str, name: str) -> Any:
        asked.append((kind, name))
        return model

    services = Services(inference=InlineInference(), provider=provider, database=database)  # type: ignore[arg-type]
    built = registry.build("memory", "local", {"type": "mem_local_short", **options}, services)
    built.asked = asked
    return built


def test_a_visit_becomes_a_summary_that_outlives_the_process(database: Database) -> None:
    llm = FakeLlm("The user has a cat, Tofu.")
    first = memory(database, llm, llm="Small")
    assert first.recall("dev", "") == ""
    first.save("dev", VISIT, "s1")
    assert first.asked == [("llm", "Small")]
    assert first.recall("dev", "anything") == "The user has a cat, Tofu."
    assert first.recall("other", "anything") == ""
    first.close()
    second = memory(database, llm)
    assert second.recall("dev", "") == "The user has a cat, Tofu."
    second.close()


def test_the_model_is_told_the_old_memory_and_what_was_said_but_no_prompt_and_no_tools(database: Database) -> None:
    llm = FakeLlm("Cat: Tofu.", "Cat: Tofu. Dog: Rice.")
    kept = memory(database, llm)
    kept.save("dev", VISIT, "s1")
    kept.save("dev", [Message("user", "And a dog, Rice."), Message("assistant", "Lovely.")], "s2")
    told = llm.calls[1].asked
    assert "Cat: Tofu." in told and "And a dog, Rice." in told and "Lovely." in told
    assert llm.calls[1].tools == []
    assert kept.recall("dev", "") == "Cat: Tofu. Dog: Rice."
    kept.close()


def test_short_visits_and_empty_answers_leave_it_as_it_was(database: Database) -> None:
    llm = FakeLlm("Something.", "   ")
    kept = memory(database, llm)
    kept.save("dev", [Message("user", "hello")], "s0")
    assert llm.calls == []
    kept.save("dev", VISIT, "s1")
    kept.save("dev", VISIT, "s2")
    assert kept.recall("dev", "") == "Something."
    kept.close()


def test_a_model_that_cannot_write_leaves_it_as_it_was(database: Database) -> None:
    class Rules(FakeLlm):
        traits = LlmTraits(offline=True, writes=False)

    llm = Rules("I only understand a few sentences.")
    kept = memory(database, llm)
    kept.save("dev", VISIT, "s1")
    assert llm.calls == [] and kept.recall("dev", "") == ""
    kept.close()


def test_a_summary_is_cut_to_its_length(database: Database) -> None:
    kept = memory(database, FakeLlm("x" * 5_000), max_chars=200)
    kept.save("dev", VISIT, "s1")
    assert len(kept.recall("dev", "")) == 200
    kept.close()


def test_a_failing_model_is_a_vendor_error_and_nothing_is_lost(database: Database) -> None:
    kept = memory(database, FakeLlm("Old.", [VendorUnavailable("llm", "down")]))
    kept.save("dev", VISIT, "s1")
    with pytest.raises(VendorError):
        kept.save("dev", VISIT, "s2")
    assert kept.recall("dev", "") == "Old."
    kept.close()


def test_a_new_summary_is_known_at_once_and_that_of_another_worker_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as one_database, opened(tmp_path) as other_database:
        one, other = memory(one_database, FakeLlm("Tea.")), memory(other_database, FakeLlm("Coffee."))
        assert one.recall("dev", "") == other.recall("dev", "") == ""
        one.save("dev", VISIT, "s1")
        assert one.recall("dev", "") == "Tea."
        assert other.recall("dev", "") == "", "believed for a while"
        monkeypatch.setattr(mem_local_short, "FRESH_S", 0.0)
        assert other.recall("dev", "") == "Tea."


def test_recall_does_not_wait_for_a_write_lock(database: Database, tmp_path: Path) -> None:
    kept = memory(database, FakeLlm("Tea."))
    kept.save("dev", VISIT, "s1")
    with write_lock(tmp_path / "xiaozhi.sqlite", 0):
        fresh = memory(database, FakeLlm())
        assert fresh.recall("dev", "") == "Tea."


def test_a_database_that_fails_is_a_passing_failure_and_what_was_known_is_still_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mem_local_short, "FRESH_S", 0.0)
    with opened(tmp_path) as database:
        kept = memory(database, FakeLlm("Tea.", "Coffee."))
        kept.save("dev", VISIT, "s1")
    assert kept.recall("dev", "") == "Tea."
    for call in (lambda: kept.recall("other", ""), lambda: kept.save("dev", VISIT, "s2")):
        with pytest.raises(VendorUnavailable, match="closed"):
            call()


def test_without_a_database_it_says_so() -> None:
    with pytest.raises(VendorUnavailable, match="no database"):
        memory(None, FakeLlm()).recall("dev", "")
