"""The MCP endpoint, against an imitation of the endpoint service on another WebSocket implementation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.tools.fakes import context
from tests.vendors.ws_vendor import Peer, WsVendor
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import ToolError
from xiaozhi.settings import Settings
from xiaozhi.tools.base import Action, SourceKind
from xiaozhi.tools.mcp_endpoint import McpEndpoint, call_address
from xiaozhi.tools.shared_tools import SharedTools, check_shared


class EndpointService(WsVendor):
    """Answers for a tool side. `silent`: methods it does not answer; `pages`: tools by page."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[list[str]] = [["lights.on"], ["door", "quiet"]]
        self.silent: set[str] = set()
        self.results: dict[str, Any] = {}
        self.received: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.peers: list[Peer] = []

    def converse(self, peer: Peer) -> None:
        self.paths.append(peer.path)
        self.peers.append(peer)
        while True:
            message = json.loads(peer.receive(3600))
            self.received.append(message)
            if "method" in message and "id" in message and message["method"] not in self.silent:
                peer.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], **self.answer(message)}))

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        params = message.get("params") or {}
        match message["method"]:
            case "initialize":
                return {"result": {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "e"}}}
            case "tools/list":
                index = int(params.get("cursor") or 0)
                page: dict[str, Any] = {"tools": [{"name": name, "inputSchema": {}} for name in self.pages[index]]}
                if index + 1 < len(self.pages):
                    page["nextCursor"] = str(index + 1)
                return {"result": page}
            case "tools/call":
                known = self.results.get(params["name"], {"result": {"content": [{"type": "text", "text": "done"}]}})
                return dict(known)
        return {"error": {"code": -32601, "message": "Method not found"}}

    def requests(self, method: str) -> list[dict[str, Any]]:
        return [message for message in self.received if message.get("method") == method]


@pytest.fixture
def service() -> Iterator[EndpointService]:
    with EndpointService() as made:
        yield made


@pytest.fixture
def endpoint(service: EndpointService) -> Iterator[McpEndpoint]:
    source = McpEndpoint(f"{service.url}/mcp_endpoint/call/?token=s3cr3t-token", ping_seconds=0.2)
    yield source
    source.close()


def connected(source: McpEndpoint) -> McpEndpoint:
    source.start()
    assert source.settle(PATIENCE_S)
    assert source.up, source.fault
    return source


def names(source: McpEndpoint) -> list[str]:
    return [tool.spec.name for tool in source.tools()]


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "dialled"),
    [
        ("ws://h:8004/mcp_endpoint/mcp/?token=T", "ws://h:8004/mcp_endpoint/call/?token=T"),
        ("wss://h/mcp/?token=key-call/mcp/", "wss://h/call/?token=key-call/mcp/"),
        ("ws://h/mcp?token=T", "ws://h/call?token=T"),
        ("ws://h/mcp_endpoint/call/?token=T", "ws://h/mcp_endpoint/call/?token=T"),
        ("", ""),
        ("  ", ""),
        ("你的接入点 websocket地址", ""),
        ("null", ""),
        ("None", ""),
    ],
)
def test_where_to_dial(written: str, dialled: str) -> None:
    assert call_address(written) == dialled


@pytest.mark.parametrize("written", ["http://h/mcp/", "ws://h/elsewhere?x=/mcp/", "ws://h/"])
def test_what_is_no_endpoint(written: str) -> None:
    with pytest.raises(ValueError, match="must"):
        call_address(written)


def test_a_wrong_address_refuses_the_configuration_without_telling_its_token() -> None:
    faults, _ = check_shared(Settings.model_validate({"mcp_endpoint": "ws://h/elsewhere?token=s3cr3t"}))

    [fault] = faults
    assert fault.key == "mcp_endpoint"
    assert "s3cr3t" not in str(fault)
    assert Settings.model_validate({"mcp_endpoint": "null"}).mcp_endpoint == ""


# --- the connection ---------------------------------------------------------------------------------------------------


def test_all_pages_are_listed(endpoint: McpEndpoint, service: EndpointService) -> None:
    connected(endpoint)

    assert names(endpoint) == ["lights.on", "door", "quiet"]
    assert endpoint.kind is SourceKind.MCP_ENDPOINT
    assert service.paths == ["/mcp_endpoint/call/?token=s3cr3t-token"]
    [initialize] = service.requests("initialize")
    assert initialize["params"]["protocolVersion"] == "2024-11-05"
    assert initialize["params"]["clientInfo"]["name"] == "XiaozhiMCPEndpointClient"
    assert "roots" in initialize["params"]["capabilities"]
    assert len(service.requests("notifications/initialized")) == 1
    ids = [message["id"] for message in service.received if "id" in message]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("answer", "action", "text"),
    [
        ({"result": {"content": [{"type": "text", "text": "open"}]}}, Action.ASK_LLM, "open"),
        ({"result": {"content": [{"type": "text", "text": "stuck"}], "isError": True}}, Action.ERROR, "stuck"),
        (
            {"result": {"content": [{"type": "text", "text": '{"action": "RESPONSE", "response": "It is open."}'}]}},
            Action.SPEAK,
            "It is open.",
        ),
        (
            {"result": {"content": [{"type": "text", "text": '{"action": "REQLLM", "result": "open"}'}]}},
            Action.ASK_LLM,
            "open",
        ),
    ],
)
def test_a_call(
    endpoint: McpEndpoint, service: EndpointService, answer: dict[str, Any], action: Action, text: str
) -> None:
    service.results["door"] = answer
    connected(endpoint)
    [door] = [tool for tool in endpoint.tools() if tool.spec.name == "door"]

    outcome = door.run({"open": True}, context())

    assert (outcome.action, outcome.text) == (action, text)
    assert service.requests("tools/call")[0]["params"] == {"name": "door", "arguments": {"open": True}}


def test_an_error_answer_is_told(endpoint: McpEndpoint, service: EndpointService) -> None:
    service.results["door"] = {"error": {"code": -1, "message": "no tool side is connected"}}
    connected(endpoint)

    with pytest.raises(ToolError, match="no tool side is connected"):
        endpoint.call("door", {})


def test_pings_and_requests_of_the_other_side_are_answered(endpoint: McpEndpoint, service: EndpointService) -> None:
    connected(endpoint)
    for number, method in enumerate(("ping", "roots/list", "sampling/createMessage"), start=70):
        service.peers[0].send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method}))
    service.peers[0].ping()

    def answers() -> dict[int, dict[str, Any]]:
        return {message["id"]: message for message in service.received if "method" not in message}

    wait_for(lambda: len(answers()) == 3, "the answers")
    assert answers()[70]["result"] == {}
    assert answers()[71]["result"] == {"roots": []}
    assert "error" in answers()[72]


def test_a_list_that_changes_is_read_again(endpoint: McpEndpoint, service: EndpointService) -> None:
    connected(endpoint)
    service.pages = [["door", "window"]]

    service.peers[0].send(json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))

    wait_for(lambda: names(endpoint) == ["door", "window"], "the new list")


def test_garbage_is_passed_over(endpoint: McpEndpoint, service: EndpointService) -> None:
    connected(endpoint)
    for text in ("", "no JSON", "[]", '{"id": 999, "result": 1}', "[" * 10_000):
        service.peers[0].send(text)

    assert endpoint.call("quiet", {}).text == "done"


def test_a_drop_ends_the_calls_and_the_connection_comes_back(endpoint: McpEndpoint, service: EndpointService) -> None:
    service.silent = {"tools/call"}
    connected(endpoint)
    callers = [gevent.spawn(endpoint.call, "door", {}) for _ in range(5)]
    wait_for(lambda: len(service.requests("tools/call")) == 5, "the calls")

    service.silent = set()
    service.peers[0].drop()
    gevent.joinall(callers, timeout=PATIENCE_S)

    assert all(isinstance(caller.exception, ToolError) for caller in callers)
    assert names(endpoint), "still on offer"
    assert endpoint.call("door", {}).text == "done", "waits for the connection"
    assert service.connections == 2
    assert endpoint.restarts == 1


def test_a_side_that_has_fallen_silent_is_left(
    endpoint: McpEndpoint, service: EndpointService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi.tools.mcp_endpoint.PING_DEADLINE_S", 0.1)
    connected(endpoint)
    wait_for(lambda: service.requests("ping"), "a ping")
    assert service.connections == 1, "a refused ping is an answer"

    service.silent = {"ping"}

    wait_for(lambda: service.connections == 2, "another connection")


def test_a_refusal_is_told_without_the_token(endpoint: McpEndpoint, service: EndpointService) -> None:
    service.reject.append(403)
    endpoint.start()

    assert endpoint.settle(PATIENCE_S)
    assert "403" in endpoint.fault
    assert "s3cr3t" not in endpoint.fault
    wait_for(lambda: endpoint.up, "the second try")


def test_closing_ends_it(endpoint: McpEndpoint, service: EndpointService) -> None:
    connected(endpoint)

    endpoint.close()
    endpoint.close()

    service.wait_gone()
    assert endpoint.tools() == ()


def test_devices_with_one_address_share_one_connection(service: EndpointService) -> None:
    def settings(token: str) -> Settings:
        return Settings.model_validate({"mcp_endpoint": f"{service.url}/mcp_endpoint/mcp/?token={token}"})

    shared = SharedTools()
    leases = [shared.lease(settings("one")) for _ in range(20)]
    other = shared.lease(settings("two"))
    try:
        assert len({id(lease.sources[0]) for lease in leases}) == 1
        assert all(source.settle(PATIENCE_S) and source.up for source in shared)
        assert sorted(service.paths) == [f"/mcp_endpoint/call/?token={token}" for token in ("one", "two")]

        for lease in leases:
            lease.release()
        service.wait_gone()
        assert [source.up for source in shared] == [True]
        other.release()
        assert list(shared) == []
    finally:
        shared.close(PATIENCE_S)
    assert not shared.sidecar.started, "an endpoint needs no sidecar"
