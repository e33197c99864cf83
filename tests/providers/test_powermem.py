"""PowerMem: what goes to its server, and what of the answers is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.inference import InlineInference
from tests.vendors.memory_services import KEY, PowerMemServer
from xiaozhi.chat import Message
from xiaozhi.errors import SettingsError, VendorGarbage, VendorRejected
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services

VISIT = [Message("system", "x"), Message("user", "My cat is called Tofu."), Message("assistant", "A nice name!")]
# As in the configuration of the existing server.
BLOCK: dict[str, Any] = {
    "type": "powermem",
    "enable_user_profile": True,
    "llm": {"provider": "openai", "config": {"api_key": "k", "model": "qwen-plus"}},
    "embedder": {"provider": "openai", "config": {"api_key": "k", "model": "text-embedding-v4"}},
    "vector_store": {"provider": "sqlite", "config": {}},
}


@pytest.fixture
def server(_no_leaks: None) -> Iterator[PowerMemServer]:
    with PowerMemServer() as service:
        assert isinstance(service, PowerMemServer)
        yield service


@pytest.fixture
def memory(server: PowerMemServer) -> Iterator[Any]:
    made = built(server)
    yield made
    made.close()


def built(server: PowerMemServer, **more: Any) -> Any:
    block = {"type": "powermem", "base_url": f"{server.url}/", "api_key": KEY, "timeout": 2} | more
    return registry.build("memory", "PowerMem", block, Services(inference=InlineInference()))  # type: ignore[arg-type]


def test_a_block_of_the_existing_server_asks_the_server_on_this_machine() -> None:
    options: Any = registry.validate("memory", "PowerMem", BLOCK)
    assert (options.base_url, options.enable_user_profile) == ("http://127.0.0.1:8848", True)
    warned = "\n".join(registry.ignored("memory", "PowerMem", BLOCK))
    assert all(f"Memory.PowerMem.{key}" in warned for key in ("llm", "embedder", "vector_store"))


def test_sample_text_is_refused() -> None:
    with pytest.raises(SettingsError, match="api_key"):
        registry.validate("memory", "PowerMem", BLOCK | {"api_key": "你的key"})


def test_a_visit_is_told_in_words(server: PowerMemServer, memory: Any) -> None:
    memory.save("aa:bb", VISIT, "s7")
    assert server.requests[0].json() == {
        "content": "user: My cat is called Tofu.\nassistant: A nice name!",
        "user_id": "aa:bb",
        "run_id": "s7",
    }
    assert "Tofu" in memory.recall("aa:bb", "cat?")


def test_recalled_newest_first_with_the_time(server: PowerMemServer, memory: Any) -> None:
    server.keep("d", "has a cat", "content")
    server.keep("d", "has a dog", "content")
    assert memory.recall("d", "pets?") == "- [2026-05-06 07:01] has a dog\n- [2026-05-06 07:00] has a cat"
    assert memory.recall("d", "  ") == ""
    assert server.counts == {"any": 1}


def test_a_profile_comes_first(server: PowerMemServer) -> None:
    memory = built(server, enable_user_profile="true")
    assert memory.recall("aa:bb", "cat?") == "", "nothing is known yet"
    memory.save("aa:bb", VISIT, "s")
    told = memory.recall("aa:bb", "cat?").splitlines()
    assert told == ["Says: My cat is called Tofu.", "- [2026-05-06 07:00] My cat is called Tofu."]
    server.profiles["aa:bb"] = {"profile_content": None, "topics": {"pets": {"cat": "Tofu"}}}
    assert memory.recall("aa:bb", "cat?").startswith('{"pets":{"cat":"Tofu"}}\n')
    memory.close()
    assert [request.path for request in server.requests][1] == "/api/v1/users/aa%3Abb/profile"


def test_a_wrong_key_is_a_rejection_that_does_not_show_it(server: PowerMemServer) -> None:
    memory = built(server, api_key="another-one")
    with pytest.raises(VendorRejected) as refused:
        memory.recall("d", "q")
    assert "another-one" not in str(refused.value)
    memory.close()


def test_an_answer_without_success_is_garbage(server: PowerMemServer, memory: Any) -> None:
    server.succeeds = False
    with pytest.raises(VendorGarbage):
        memory.save("d", VISIT, "s")
