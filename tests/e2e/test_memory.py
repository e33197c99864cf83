"""What is remembered between visits: saved when one ends, off the hot path, and not lost when the server stops or the
vendor fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from loadtest.vendors.http_vendor import HttpVendor, VendorAnswer, VendorRequest
from loadtest.vendors.sounds import Sounds
from tests.databases import opened
from tests.e2e.stage import CHAT, Script, Stage, ask, open_stage
from tests.waiting import wait_for
from xiaozhi.storage import summaries
from xiaozhi.storage.tables import pending_memory

ANNA = "02:00:00:00:00:aa"
LOCAL = {"selected_module": {"Memory": "mem_local_short"}, "conversation": {"resume_seconds": 0}}


def saved(stage: Stage) -> None:
    """Until every visit that has ended has been saved."""
    wait_for(lambda: stage.server.services.memories.waiting == 0, "the memories")


def left_behind(directory: Path) -> list[Any]:
    """What was said in the visits that are not saved yet."""
    with opened(directory) as database:
        found = select(pending_memory.c.said)
        return list(database.read(lambda connection: connection.execute(found).scalars().all()))


def test_a_summary_is_kept_for_the_next_visit(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, LOCAL) as stage:
        ask(stage.device(device_id=ANNA), "I am Anna and I like tea")
        stage.vendor.script(CHAT, Script(answer="Anna likes tea."))
        stage.close_devices()
        stage.wait_for(CHAT, 2)
        saved(stage)
        asked = stage.messages()[-1]["content"]
        assert "User: I am Anna and I like tea" in asked
        assert "Assistant: Fine." in asked

        stage.vendor.stand(CHAT, Script(answer="Anna likes tea."))
        ask(stage.device(device_id=ANNA), "who am I")

        assert "Anna likes tea." in stage.messages()[0]["content"]
        ask(stage.device(), "who am I")
        assert "Anna likes tea." not in stage.messages()[0]["content"]

    with open_stage(tmp_path, sounds, LOCAL) as stage:
        ask(stage.device(device_id=ANNA), "who am I")
        assert "Anna likes tea." in stage.messages()[0]["content"], "it survives a restart"


def test_a_visit_is_saved_when_the_server_stops(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, LOCAL) as stage:
        ask(stage.device(device_id=ANNA), "I am Anna")
        stage.vendor.script(CHAT, Script(answer="It is Anna.", delay=0.3))
        memories = stage.server.services.memories
        stage.server.stop()
        assert memories.saved == 1

    with open_stage(tmp_path, sounds, LOCAL) as stage:
        ask(stage.device(device_id=ANNA), "who am I")
        assert "It is Anna." in stage.messages()[0]["content"]


def test_a_visit_that_cannot_be_saved_in_time_is_saved_by_the_next_server(
    tmp_path: Path, sounds: Sounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi.app.server.FLUSH_SECONDS", 0.2)
    with open_stage(tmp_path, sounds, LOCAL) as stage:
        ask(stage.device(device_id=ANNA), "I am Anna")
        stage.vendor.script(CHAT, Script(stall="before"))
        stage.server.stop()
    assert "I am Anna" in str(left_behind(tmp_path))

    with open_stage(tmp_path, sounds, LOCAL) as stage:
        saved(stage)
        assert stage.server.services.memories.saved == 1
        assert left_behind(tmp_path) == []
        ask(stage.device(device_id=ANNA), "who am I")
        with opened(tmp_path) as database:
            summary = database.read(lambda connection: summaries.of(connection, ANNA))
        assert summary and summary in stage.messages()[0]["content"], "what the vendor made of the visit"


def test_what_was_resumed_is_not_saved_twice(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"selected_module": {"Memory": "mem_local_short"}}) as stage:
        ask(stage.device(device_id=ANNA), "my first question")
        stage.close_devices()
        stage.wait_for(CHAT, 2)
        ask(stage.device(device_id=ANNA), "my second question")
        assert stage.said()[0] == ("user", "my first question"), "the dialogue goes on"
        stage.close_devices()
        stage.wait_for(CHAT, 4)
        saved(stage)

        assert "my second question" in stage.messages()[-1]["content"]
        assert "my first question" not in stage.messages()[-1]["content"]


class Mem0Vendor(HttpVendor):
    """The two calls of the Mem0 service."""

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.path == "/v3/memories/search/":
            return VendorAnswer(b'{"results": [{"memory": "Likes tea.", "updated_at": "2026-01-02T03:04:05Z"}]}')
        return VendorAnswer(b'{"results": []}')


@pytest.fixture
def mem0(_no_leaks: None) -> Any:
    with Mem0Vendor(keep_alive=False) as vendor:
        yield vendor


def settings_for(mem0: HttpVendor) -> dict[str, Any]:
    return {
        "selected_module": {"Memory": "mem0ai"},
        "Memory": {"mem0ai": {"api_key": "m0-key", "host": mem0.url}},
        "conversation": {"resume_seconds": 0},
    }


def test_mem0_recalls_and_saves(tmp_path: Path, sounds: Sounds, mem0: HttpVendor) -> None:
    with open_stage(tmp_path, sounds, settings_for(mem0)) as stage:
        ask(stage.device(device_id=ANNA), "what do I like")
        assert "Likes tea." in stage.messages()[0]["content"]
        stage.close_devices()
        saved(stage)

    search, add = (request.json() for request in mem0.requests)
    assert search["filters"] == {"user_id": ANNA}
    assert search["query"] == "what do I like"
    assert add["user_id"] == ANNA
    assert add["messages"] == [{"role": "user", "content": "what do I like"}, {"role": "assistant", "content": "Fine."}]


@pytest.mark.parametrize("script", [Script(stall="before"), Script(status=500), Script(garbage="html")])
def test_a_memory_that_fails_costs_the_answer_nothing(
    tmp_path: Path, sounds: Sounds, mem0: HttpVendor, script: Script
) -> None:
    mem0.stand("/v3/memories/search/", script)
    with open_stage(tmp_path, sounds, settings_for(mem0)) as stage:
        assert ask(stage.device(device_id=ANNA), "hello").sentences == ["Fine"]
        assert "Likes tea." not in stage.messages()[0]["content"]
        stage.close_devices()
        saved(stage)
