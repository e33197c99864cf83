"""The local memory: summarised by a language model, kept per device; the old server's file is read when there is
nothing newer."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inference import InlineInference
from tests.fakes.thinking import FakeLlm
from xiaozhi.chat import Message
from xiaozhi.errors import VendorError, VendorUnavailable
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.llm import LlmTraits
from xiaozhi.providers.contracts.provider import Services

VISIT = [Message("system", "x"), Message("user", "My cat is called Tofu."), Message("assistant", "What a nice name!")]


def memory(tmp_path: Path, model: Any, /, **options: Any) -> Any:
    asked: list[tuple[str, str]] = []

    def provider(kind: str, name: str) -> Any:
        asked.append((kind, name))
        return model

    services = Services(inference=InlineInference(), data_dir=tmp_path, provider=provider)  # type: ignore[arg-type]
    built = registry.build("memory", "local", {"type": "mem_local_short", **options}, services)
    built.asked = asked
    return built


def test_a_visit_becomes_a_summary_that_outlives_the_process(tmp_path: Path) -> None:
    llm = FakeLlm("The user has a cat, Tofu.")
    first = memory(tmp_path, llm, llm="Small")
    assert first.recall("dev", "") == ""
    first.save("dev", VISIT, "s1")
    assert first.asked == [("llm", "Small")]
    assert first.recall("dev", "anything") == "The user has a cat, Tofu."
    assert first.recall("other", "anything") == ""
    first.close()
    second = memory(tmp_path, llm)
    assert second.recall("dev", "") == "The user has a cat, Tofu."
    second.close()


def test_the_model_is_told_the_old_memory_and_what_was_said_but_no_prompt_and_no_tools(tmp_path: Path) -> None:
    llm = FakeLlm("Cat: Tofu.", "Cat: Tofu. Dog: Rice.")
    kept = memory(tmp_path, llm)
    kept.save("dev", VISIT, "s1")
    kept.save("dev", [Message("user", "And a dog, Rice."), Message("assistant", "Lovely.")], "s2")
    told = llm.calls[1].asked
    assert "Cat: Tofu." in told and "And a dog, Rice." in told and "Lovely." in told
    assert llm.calls[1].tools == []
    assert kept.recall("dev", "") == "Cat: Tofu. Dog: Rice."
    kept.close()


def test_short_visits_and_empty_answers_leave_it_as_it_was(tmp_path: Path) -> None:
    llm = FakeLlm("Something.", "   ")
    kept = memory(tmp_path, llm)
    kept.save("dev", [Message("user", "hello")], "s0")
    assert llm.calls == []
    kept.save("dev", VISIT, "s1")
    kept.save("dev", VISIT, "s2")
    assert kept.recall("dev", "") == "Something."
    kept.close()


def test_a_model_that_cannot_write_leaves_it_as_it_was(tmp_path: Path) -> None:
    class Rules(FakeLlm):
        traits = LlmTraits(offline=True, writes=False)

    llm = Rules("I only understand a few sentences.")
    kept = memory(tmp_path, llm)
    kept.save("dev", VISIT, "s1")
    assert llm.calls == [] and kept.recall("dev", "") == ""
    kept.close()


def test_a_summary_is_cut_to_its_length(tmp_path: Path) -> None:
    kept = memory(tmp_path, FakeLlm("x" * 5_000), max_chars=200)
    kept.save("dev", VISIT, "s1")
    assert len(kept.recall("dev", "")) == 200
    kept.close()


def test_a_failing_model_is_a_vendor_error_and_nothing_is_lost(tmp_path: Path) -> None:
    kept = memory(tmp_path, FakeLlm("Old.", [VendorUnavailable("llm", "down")]))
    kept.save("dev", VISIT, "s1")
    with pytest.raises(VendorError):
        kept.save("dev", VISIT, "s2")
    assert kept.recall("dev", "") == "Old."
    kept.close()


def test_the_file_of_the_existing_server_is_read(tmp_path: Path) -> None:
    (tmp_path / ".memory.yaml").write_text("dev: likes tea\n", encoding="utf-8")
    kept = memory(tmp_path, FakeLlm("likes coffee now"))
    assert kept.recall("dev", "") == "likes tea"
    kept.save("dev", VISIT, "s1")
    assert kept.recall("dev", "") == "likes coffee now"
    kept.close()


@pytest.mark.parametrize("content", ["[unclosed", "- a list\n", "\x00"])
def test_an_unreadable_old_file_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / ".memory.yaml").write_text(content, encoding="utf-8")
    kept = memory(tmp_path, FakeLlm("x"))
    assert kept.recall("dev", "") == ""
    kept.close()
