"""Tools of MCP servers and endpoints, from a typed question through a scripted model's call to the spoken answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.simulator.device_tools import DeviceTools, FakeTool
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, open_stage, tool_call
from tests.tools.test_mcp_endpoint import EndpointService
from tests.vendors.mcp_programs import program
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.runtime.sidecar import Sidecar
from xiaozhi.tools.connected_source import ConnectedSource

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    """A server with a real MCP server; both are up."""
    settings = {"mcp": {"servers": {"shop": program()}}, "conversation": {"tool_filler_seconds": 0.3}}
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        [source] = connected(opened)
        assert source.settle(PATIENCE_S)
        yield opened


def connected(stage: Stage) -> list[ConnectedSource]:
    return list(stage.server.services.shared_tools)


def sidecar(stage: Stage) -> Sidecar:
    return stage.server.services.shared_tools.sidecar


def tool_results(stage: Stage) -> list[str]:
    return [message["content"] for message in stage.messages() if message["role"] == "tool"]


def test_a_tool_of_a_server_is_called_and_its_result_is_spoken_about(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call("add", a=40, b=2)]), Script(answer="It is forty-two."))

    assert ask(device, "what is forty and two").sentences == ["It is forty-two"]

    assert tool_results(stage) == ["42"]
    assert stage.count("xiaozhi_tool_calls_total", source="mcp:shop", action="ask_llm") >= 1
    assert stage.count("xiaozhi_tool_sources_up", source="mcp:shop") == 1
    assert stage.count("xiaozhi_sidecar_up") == 1
    assert stage.count("xiaozhi_sidecar_resident_bytes") > 1_000_000


def test_a_result_that_is_to_be_spoken_needs_no_second_request(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call("announce")]))

    assert ask(device, "what is there to say").sentences == ["Dinner is ready"]

    assert stage.vendor.counts[CHAT] == 1


def test_the_same_of_a_devices_own_tool(stage: Stage) -> None:
    """As of a camera, whose picture was explained."""
    answer = '{"success": true, "action": "RESPONSE", "response": "I see a cat."}'
    tools = DeviceTools([FakeTool("self.camera.take_photo", "Takes a picture.", lambda arguments: answer)])
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()
    stage.vendor.script(CHAT, Script(answer=[tool_call("self_camera_take_photo")]))

    assert ask(device, "what do you see").sentences == ["I see a cat"]
    assert stage.vendor.counts[CHAT] == 1


def test_a_slow_tool_is_bridged_with_a_sentence(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call("wait", seconds=2.0)]), Script(answer="There you are."))

    assert " ".join(ask(device, "please wait for it").sentences) == "One moment I am still on it There you are"

    ask(device, "and now")
    assert "One moment" not in str(stage.messages())


def test_a_tool_that_fails_is_explained(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call("fail")]), Script(answer="That did not work."))

    assert ask(device, "try it").sentences == ["That did not work"]
    [told] = tool_results(stage)
    assert told.startswith("error: ")
    assert "the fuse has blown" in told


@pytest.mark.leaks("the next sidecar is one of this stage, too")
def test_the_sidecar_killed_in_mid_call_costs_the_call_and_nothing_else(stage: Stage) -> None:
    device = stage.device()
    [source] = connected(stage)
    stage.vendor.script(
        CHAT,
        Script(answer=[tool_call("wait", seconds=PATIENCE_S)]),
        Script(answer="It broke off."),
        Script(answer=[tool_call("add", a=1, b=2)]),
        Script(answer="Three."),
    )
    device.detect("please wait for it")
    wait_for(lambda: sidecar(stage).calls, "the call")

    pid = sidecar(stage).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    assert device.collect_answer().sentences[-1] == "It broke off"
    wait_for(lambda: source.up and source.restarts, "the next sidecar")
    assert ask(device, "what is one and two").sentences == ["Three"]
    assert stage.count("xiaozhi_sidecar_restarts_total") == 1


def test_hello_and_the_first_answer_do_not_wait_for_servers(tmp_path: Path, sounds: Sounds) -> None:
    servers = {"slow": {"command": "sleep", "args": ["600"]}, "absent": {"command": "/nonexistent"}}
    with open_stage(tmp_path, sounds, {"mcp": {"servers": servers}}) as stage:
        device = stage.device()

        assert ask(device, "hello").sentences == ["Fine"]

        wait_for(lambda: sum("No such file" in source.fault for source in connected(stage)) == 1, "the failure")
        assert not any(source.up for source in connected(stage))


def test_an_endpoint_of_a_devices_own(tmp_path: Path, sounds: Sounds) -> None:
    with EndpointService() as service:
        service.results["door"] = {"result": {"content": [{"type": "text", "text": "open"}]}}
        own = {"mcp_endpoint": f"{service.url}/mcp_endpoint/mcp/?token=T"}
        first, second = "02:00:00:00:0b:01", "02:00:00:00:0b:02"
        with open_stage(tmp_path, sounds, overlays={first: own, second: dict(own)}) as stage:
            devices = [stage.device(device_id=number) for number in (first, second)]
            other = stage.device()
            for device in devices:
                ask(device, "hello")
            [source] = connected(stage)
            assert source.settle(PATIENCE_S)

            for device in devices:
                stage.vendor.script(CHAT, Script(answer=[tool_call("door")]), Script(answer="It is open."))
                assert ask(device, "how is the door").sentences == ["It is open"]
                assert tool_results(stage) == ["open"]
            assert service.connections == 1
            ask(other, "hello")
            offered = {tool["function"]["name"] for tool in stage.questions()[-1].get("tools", ())}
            assert "door" not in offered

            stage.close_devices()
            service.wait_gone()


def test_a_reload_keeps_what_did_not_change(stage: Stage) -> None:
    [before] = connected(stage)
    pid, restarts = sidecar(stage).pid, before.restarts

    assert stage.server.reload() == ()

    assert connected(stage) == [before]
    assert (sidecar(stage).pid, before.restarts, before.up) == (pid, restarts, True)
