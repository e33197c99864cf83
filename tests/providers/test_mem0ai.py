"""Mem0: what goes over the wire, and what becomes of the answers."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRequest
from tests.fakes.inference import InlineInference
from tests.vendors.memory_services import Mem0Server
from xiaozhi.chat import Message
from xiaozhi.errors import SettingsError, VendorError, VendorGarbage, VendorRejected
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services


class Mem0Vendor(HttpVendor):
    """Strict about paths, the key and the bodies."""

    results: Any = ()

    def kind(self, request: VendorRequest) -> str:
        return request.path.strip("/").split("/")[-1]

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.headers.get("authorization") != "Token m0-secret-key":
            return VendorAnswer(b'{"detail": "bad key"}', status=401)
        body = request.json()
        if request.path == "/v3/memories/add/":
            assert body["user_id"] and all(set(message) == {"role", "content"} for message in body["messages"])
            return VendorAnswer(b'{"results": []}')
        assert request.path == "/v3/memories/search/" and set(body) == {"query", "filters", "top_k"}
        return VendorAnswer(
            orjson.dumps({"results": self.results} if not isinstance(self.results, str) else self.results)
        )


@pytest.fixture
def vendor() -> Iterator[Mem0Vendor]:
    server = Mem0Vendor()
    server.start()
    yield server
    server.stop()


def mem0(vendor: Mem0Vendor, key: str = "m0-secret-key") -> Any:
    block = {"type": "mem0ai", "api_key": key, "host": vendor.url, "timeout": 2}
    return registry.build("memory", "mem0", block, Services(inference=InlineInference()))  # type: ignore[arg-type]


def test_recalled_newest_first_with_the_time(vendor: Mem0Vendor) -> None:
    vendor.results = [
        {"memory": "likes tea", "updated_at": "2026-01-02T03:04:05.678Z"},
        {"memory": "has a cat", "updated_at": "2026-05-06T07:08:09Z"},
        {"memory": "plays chess"},
    ]
    memory = mem0(vendor)
    assert (
        memory.recall("dev", "what do I like?")
        == "- [2026-05-06 07:08] has a cat\n- [2026-01-02 03:04] likes tea\n- plays chess"
    )
    memory.close()


def test_saved_without_prompt_and_tools(vendor: Mem0Vendor) -> None:
    memory = mem0(vendor)
    memory.save(
        "dev",
        [
            Message("system", "x"),
            Message("user", "hi"),
            Message("tool", "9", tool_call_id="1"),
            Message("assistant", "ho"),
        ],
        "s",
    )
    assert vendor.requests[-1].json()["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
    ]
    memory.close()


def test_nothing_to_ask_or_tell_asks_nobody(vendor: Mem0Vendor) -> None:
    memory = mem0(vendor)
    assert memory.recall("dev", "  ") == ""
    memory.save("dev", [Message("user", "hi")], "s")
    assert not vendor.requests
    memory.close()


def test_a_wrong_key_is_a_rejection_that_does_not_show_it(vendor: Mem0Vendor) -> None:
    memory = mem0(vendor, key="another-secret")
    with pytest.raises(VendorRejected) as refused:
        memory.recall("dev", "q")
    assert "another-secret" not in str(refused.value)
    memory.close()


@pytest.mark.parametrize("results", ["nonsense", [{"text": 1}], [3]])
def test_an_answer_of_another_shape_is_garbage(vendor: Mem0Vendor, results: Any) -> None:
    vendor.results = results
    memory = mem0(vendor)
    with pytest.raises(VendorGarbage):
        memory.recall("dev", "q")
    memory.close()


def test_a_service_that_is_down_is_a_vendor_error(vendor: Mem0Vendor) -> None:
    memory = mem0(vendor)
    vendor.stop()
    with pytest.raises(VendorError):
        memory.recall("dev", "q")
    memory.close()


# --- a server of one's own -------------------------------------------------------------------------------------------


VISIT = [Message("user", "My cat is called Tofu."), Message("assistant", "A nice name!")]


@pytest.mark.parametrize("old", [False, True])
def test_a_server_of_ones_own_is_asked_at_its_base_url(old: bool) -> None:
    with Mem0Server(old=old) as service:
        block = {"type": "mem0ai", "api_key": "secret-key", "base_url": f"{service.url}/", "top_k": 1, "timeout": 2}
        memory = registry.build("memory", "mem0", block, Services(inference=InlineInference()))  # type: ignore[arg-type]
        memory.save("dev", VISIT, "s")
        memory.save("dev", VISIT, "s")
        memory.save("dev", VISIT[:1], "s")
        assert memory.recall("dev", "cat?") == "- [2026-05-06 07:00] My cat is called Tofu.", "no more than top_k"
        memory.close()
        assert [request.path for request in service.requests] == ["/memories", "/memories", "/search"]
        assert service.refusals == []


def test_a_server_that_asks_for_no_key_is_sent_none() -> None:
    with Mem0Server(old=True) as service:
        block = {"type": "mem0ai", "base_url": service.url, "api_key": ""}
        memory = registry.build("memory", "mem0", block, Services(inference=InlineInference()))  # type: ignore[arg-type]
        memory.recall("dev", "cat?")
        memory.close()
        assert "x-api-key" not in service.requests[0].headers


# As in the configuration of the existing server, with the key filled in.
BLOCK = {"type": "mem0ai", "api_key": "m0-secret-key"}


def test_a_block_of_the_existing_server_is_taken_as_it_is() -> None:
    options: Any = registry.validate("memory", "mem0ai", BLOCK)
    assert registry.ignored("memory", "mem0ai", BLOCK) == []
    assert (options.host, options.base_url) == ("https://api.mem0.ai", None)
    (warned,) = registry.ignored("memory", "mem0ai", BLOCK | {"api_version": "v1.1"})
    assert "api_version" in warned, "there is one version of the API now"


@pytest.mark.parametrize("key", ["你的mem0ai api key", ""])
def test_the_platform_wants_a_key(key: str) -> None:
    with pytest.raises(SettingsError, match="api_key"):
        registry.validate("memory", "mem0ai", BLOCK | {"api_key": key})
