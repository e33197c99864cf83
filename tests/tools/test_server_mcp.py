"""MCP servers: real ones, built with the official SDK, over all three transports, and one that follows no rules."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest
from structlog.testing import capture_logs

from tests.tools.fakes import call, context
from tests.vendors.mcp_programs import HttpServer, liar, program, serving
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import ToolCall
from xiaozhi.errors import ToolError
from xiaozhi.runtime.sidecar import Sidecar
from xiaozhi.settings import Settings
from xiaozhi.tools.base import Action, SourceKind, ToolOutcome
from xiaozhi.tools.mcp_servers import configured_servers
from xiaozhi.tools.server_mcp import ServerMcp
from xiaozhi.tools.shared_tools import SharedTools
from xiaozhi.tools.toolbox import Toolbox

pytestmark = pytest.mark.slow

TOOLS = {"add", "房间.状态", "environment", "wait", "announce", "fail", "picture", "megabytes", "learn"}
Connect = Callable[..., ServerMcp]


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    made = Sidecar()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XIAOZHI__LLM__ACME__API_KEY", "ours alone")
        made.request("host", "ping", {}, PATIENCE_S)
    yield made
    made.stop(PATIENCE_S)


@pytest.fixture
def connect(sidecar: Sidecar, tmp_path: Path, _no_leaks: None) -> Iterator[Connect]:
    """block -> a connected source."""
    made: list[ServerMcp] = []

    def connected(block: Mapping[str, Any], *, wait: bool = True, **options: Any) -> ServerMcp:
        settings = Settings.model_validate({"mcp": {"servers": {"shop": block}}, "log": {"data_dir": str(tmp_path)}})
        [server] = configured_servers(settings).servers
        source = ServerMcp(server, sidecar, **options)
        made.append(source)
        source.start()
        if wait:
            assert source.settle(PATIENCE_S)
            assert source.up, source.fault
        return source

    yield connected
    for source in made:
        source.close()
    wait_for(lambda: sidecar.calls == 0, "the goodbyes")


@pytest.fixture(params=["stdio", "sse", "streamable-http"])
def block(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The block of a real server, by each transport."""
    if request.param == "stdio":
        yield program()
        return
    with serving(request.param) as found:
        yield found


def names(source: ServerMcp) -> set[str]:
    return {tool.spec.name for tool in source.tools()}


def run(source: ServerMcp, tool: str, **arguments: Any) -> ToolOutcome:
    return source.call(tool, arguments)


# --- every transport --------------------------------------------------------------------------------------------------


def test_tools_are_listed_and_called(connect: Connect, block: dict[str, Any]) -> None:
    source = connect(block)

    assert names(source) == TOOLS
    assert source.name == "mcp:shop"
    assert source.kind is SourceKind.SERVER_MCP
    [add] = [tool for tool in source.tools() if tool.spec.name == "add"]
    assert add.spec.description == "Adds two numbers."
    assert add.spec.parameters["required"] == ["a", "b"]
    assert add.run({"a": 2, "b": 40}, context()).text == "42"


def test_what_a_result_says_is_what_follows(connect: Connect, block: dict[str, Any]) -> None:
    source = connect(block)

    assert run(source, "announce") == ToolOutcome(Action.SPEAK, "Dinner is ready.", run(source, "announce").data)
    failed = run(source, "fail")
    assert failed.action is Action.ERROR
    assert "the fuse has blown" in failed.text
    with_picture = run(source, "picture")
    assert with_picture.action is Action.ASK_LLM
    assert with_picture.text == "a cat\n[image]"


def test_a_list_that_changes_is_read_again(connect: Connect, block: dict[str, Any]) -> None:
    source = connect(block)
    before = {tool.spec.name: tool for tool in source.tools()}

    assert run(source, "learn", name="juggle").text == "learnt"

    wait_for(lambda: "juggle" in names(source), "the new tool")
    after = {tool.spec.name: tool for tool in source.tools()}
    assert after["add"] is before["add"], "an unchanged tool stays the same object"


def test_a_call_that_is_given_up_does_not_hold_the_connection(connect: Connect, block: dict[str, Any]) -> None:
    source = connect(block)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.2):
        run(source, "wait", seconds=PATIENCE_S)

    assert run(source, "add", a=1, b=1).text == "2"


def test_progress_and_log_messages_are_logged_as_content(connect: Connect, block: dict[str, Any]) -> None:
    source = connect(block)
    with capture_logs() as lines:
        run(source, "wait", seconds=0.01)
        wait_for(lambda: any(line["event"] == "MCP server logs" for line in lines), "the log message")

    progress = [line for line in lines if line["event"] == "tool progress"]
    assert [line["progress"] for line in progress] == [0, 1, 2, 3]
    [logged] = [line for line in lines if line["event"] == "MCP server logs"]
    assert (logged["level"], logged["text"]) == ("warning", "begins to wait for 0.01 s")
    assert {line["log_level"] for line in [*progress, logged]} == {"debug"}


# --- programs ---------------------------------------------------------------------------------------------------------


def test_a_program_gets_its_environment_but_not_our_settings(
    connect: Connect, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELF", "third")
    source = connect(program(PLACE="the ${SHELF:-first} shelf", OTHER="${NOT_SET_AT_ALL:-none}"))

    assert run(source, "environment", name="PLACE").text == "the third shelf"
    assert run(source, "environment", name="OTHER").text == "none"
    assert run(source, "environment", name="PATH").text == os.environ["PATH"]
    assert run(source, "environment", name="XIAOZHI__LLM__ACME__API_KEY").text == "is not set"


def test_a_program_that_ends_is_started_again(connect: Connect, sidecar: Sidecar) -> None:
    source = connect(program())
    [child] = programs_of(sidecar)
    caller = gevent.spawn(run, source, "wait", seconds=PATIENCE_S)
    wait_for(lambda: sidecar.calls, "the call")

    child.kill()

    caller.join(timeout=PATIENCE_S)
    assert isinstance(caller.exception, ToolError)
    assert "the MCP server shop" in str(caller.exception) or "closed" in str(caller.exception).lower()
    wait_for(lambda: source.restarts == 1 and source.up, "the next program")
    assert run(source, "add", a=1, b=2).text == "3"


def test_a_call_waits_for_a_connection_that_is_being_mended(connect: Connect, sidecar: Sidecar) -> None:
    source = connect(program())
    [child] = programs_of(sidecar)
    child.kill()
    wait_for(lambda: not source.up, "the loss")

    assert names(source) == TOOLS, "still on offer"
    with contextlib.suppress(ToolError):  # a busy machine may take longer than a call waits
        assert run(source, "add", a=1, b=2).text == "3"


def test_a_program_ends_when_nobody_needs_it_any_more(connect: Connect, sidecar: Sidecar) -> None:
    source = connect(program())
    [child] = programs_of(sidecar)

    source.close()
    source.close()

    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the end of the program")
    assert source.tools() == ()
    assert not source.up


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ("/nonexistent/program", [], "No such file"),
        ("sh", ["-c", "echo the key s3cr3t-key is wrong >&2; sleep 0.3; exit 3"], "the key *** is wrong"),
    ],
)
def test_a_program_that_does_not_start_says_why(connect: Connect, command: str, args: list[str], words: str) -> None:
    source = connect({"command": command, "args": args, "env": {"KEY": "s3cr3t-key"}}, wait=False)

    wait_for(lambda: words in source.fault, "the reason")
    assert not source.up
    assert source.tools() == ()


def programs_of(sidecar: Sidecar) -> list[psutil.Process]:
    assert sidecar.pid is not None
    return [child for child in psutil.Process(sidecar.pid).children() if child.status() != psutil.STATUS_ZOMBIE]


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["sse", "streamable-http"])
def test_headers_are_sent_and_a_refusal_is_told(connect: Connect, transport: str) -> None:
    with serving(transport, AUTHORIZATION="Bearer s3cr3t-token") as block:
        refused = connect(block, wait=False)
        assert refused.settle(PATIENCE_S)
        assert "401" in refused.fault
        refused.close()

        assert connect({**block, "headers": {"Authorization": "Bearer s3cr3t-token"}}).up
        assert connect({**block, "API_ACCESS_TOKEN": "${UNSET_TOKEN:-s3cr3t-token}"}).up


@pytest.mark.parametrize("transport", ["sse", "streamable-http"])
def test_a_server_that_goes_away_is_noticed(connect: Connect, transport: str) -> None:
    with HttpServer(transport) as server:
        source = connect(server.block, ping_seconds=0.3)
        server.stop()

        wait_for(lambda: not source.up, "the loss")
        wait_for(lambda: source.fault, "a reason")


def test_a_server_without_a_handshake_is_understood(connect: Connect) -> None:
    source = connect(liar("modern"), ping_seconds=0.2)
    assert names(source) == {"first"}

    def call_until_told() -> bool:
        """The subscription is made behind the connection, in its own time."""
        assert run(source, "first").text == "done"
        return len(names(source)) > 1

    wait_for(call_until_told, "the new tools")
    assert source.restarts == 0, "it answers what is asked in place of a ping"


# --- who follows no rules ---------------------------------------------------------------------------------------------


def test_megabytes_are_cut_where_they_come_from(connect: Connect) -> None:
    source = connect(program())

    told = run(source, "megabytes", count=3).text

    assert len(told) < 100_000
    assert told.endswith("more characters)")


def test_schemas_without_end_cost_their_tool_only(connect: Connect) -> None:
    source = connect(liar("recursive"))

    assert {"loops", "honest"} <= names(source)
    assert "large" not in names(source)
    assert run(source, "honest").text == "well"


def test_pages_without_end_end(connect: Connect) -> None:
    source = connect(liar("endless"))

    assert 0 < len(source.tools()) <= 128


def test_a_server_that_never_answers_costs_the_call_only(connect: Connect) -> None:
    source = connect(liar("silent"))
    toolbox = Toolbox(source)
    [name] = names(source)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.2):
        toolbox.call(call(name), context())

    assert source.up


def test_garbage_between_the_answers_is_passed_over(connect: Connect) -> None:
    source = connect(liar("garbage"))
    [name] = names(source)

    with contextlib.suppress(ToolError):
        assert run(source, name).text == ""
    assert source.up


def test_a_program_that_ignores_its_end_is_killed(connect: Connect, sidecar: Sidecar) -> None:
    source = connect(liar("deaf"))
    [child] = programs_of(sidecar)

    source.close()

    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the end of the program")


def test_a_program_that_ignores_its_end_does_not_outlive_the_server_either(tmp_path: Path) -> None:
    shared = SharedTools()
    lease = shared.lease(
        Settings.model_validate({"mcp": {"servers": {"deaf": liar("deaf")}}, "log": {"data_dir": str(tmp_path)}})
    )
    assert lease.sources[0].settle(PATIENCE_S)
    [child] = programs_of(shared.sidecar)

    lease.release()
    assert shared.close(PATIENCE_S)

    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


# --- many -------------------------------------------------------------------------------------------------------------


def test_fifty_devices_call_at_once_through_one_child(connect: Connect, sidecar: Sidecar) -> None:
    source = connect(program())
    toolboxes = [Toolbox(source) for _ in range(50)]

    callers = [
        gevent.spawn(toolbox.call, call("add", a=number, b=1), context()) for number, toolbox in enumerate(toolboxes)
    ]
    gevent.joinall(callers, timeout=PATIENCE_S)

    assert [caller.value.text for caller in callers] == [str(number + 1) for number in range(50)]
    assert len(programs_of(sidecar)) == 1


@pytest.mark.leaks("the next sidecar is one of this module, too")
def test_the_sidecar_killed_in_mid_call(connect: Connect, sidecar: Sidecar) -> None:
    source = connect(program())
    toolbox = Toolbox(source)
    callers = [gevent.spawn(toolbox.call, call("wait", seconds=PATIENCE_S), context()) for _ in range(5)]
    wait_for(lambda: sidecar.calls >= 5, "the calls")

    assert sidecar.pid is not None
    os.kill(sidecar.pid, signal.SIGKILL)
    gevent.joinall(callers, timeout=PATIENCE_S)

    assert {caller.value.action for caller in callers} == {Action.ERROR}
    wait_for(lambda: source.restarts and source.up, "the next sidecar and its connection")
    assert toolbox.call(call("add", a=20, b=3), context()).text == "23"


def test_equal_settings_share_one_program_and_a_reload_keeps_it(tmp_path: Path) -> None:
    def settings(**servers: Any) -> Settings:
        return Settings.model_validate({"mcp": {"servers": servers}, "log": {"data_dir": str(tmp_path)}})

    shared = SharedTools()
    try:
        first = shared.lease(settings(shop=program()))
        second = shared.lease(settings(shop=program(), other=program(NEW="1")))
        assert first.sources[0] is second.sources[0]
        assert all(source.settle(PATIENCE_S) and source.up for source in shared)
        assert len(list(shared)) == 2

        first.release()
        first.release()
        assert second.sources[0].up
        assert len(programs_of(shared.sidecar)) == 2

        second.release()
        assert list(shared) == []
        wait_for(lambda: not programs_of(shared.sidecar), "the end of both programs")
    finally:
        assert shared.close(PATIENCE_S)


def test_of_two_servers_with_a_tool_of_one_name_the_first_is_called(tmp_path: Path) -> None:
    servers = {"one": program(WHO="one"), "two": program(WHO="two")}
    settings = Settings.model_validate({"mcp": {"servers": servers}, "log": {"data_dir": str(tmp_path)}})
    shared = SharedTools()
    try:
        lease = shared.lease(settings)
        assert all(source.settle(PATIENCE_S) for source in lease.sources)
        toolbox = Toolbox(*lease.sources)

        assert toolbox.call(ToolCall("call-1", "environment", {"name": "WHO"}), context()).text == "one"
        [name] = [name for name, _, tool in toolbox.offered() if tool.spec.name == "房间.状态"]
        assert name.isascii()
        assert toolbox.call(call(name), context()).text == "warm"
        lease.release()
    finally:
        shared.close(PATIENCE_S)
