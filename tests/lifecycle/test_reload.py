"""One configuration follows another: in mid-answer, whole or not at all, and nothing is left of the old when nobody
needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.event import Event
from structlog.testing import capture_logs

from loadtest.vendors.openai_vendor import OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.lifecycle.house import ADMIN_TOKEN, CHAT, SECRET, TTS, House, Script, ask, open_house
from tests.subtitles import shown
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import Message
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider

STORY = Script(answer="Once upon a time there was a server.")
ANSWER_OF_THE_NEW = "I am the new one."


class Diary:
    """What the memories of these tests have done, in order."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.go = Event()
        self.go.set()


diary = Diary()


@provider("memory", "slow_diary", ProviderOptions)
class SlowDiary(Memory):
    """Saves when it is let, and tells in which order it was closed."""

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def recall(self, device_id: str, query: str) -> str:
        return ""

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        diary.go.wait(PATIENCE_S)
        diary.entries.append(f"saved {len(messages)}")

    def close(self) -> None:
        diary.entries.append("closed")


@provider("memory", "never_starts", ProviderOptions)
class NeverStarts(Memory):
    """Fails when its models are loaded."""

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def warm_up(self) -> None:
        raise RuntimeError("the model file is damaged")

    def recall(self, device_id: str, query: str) -> str:
        return ""

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        return

    def close(self) -> None:
        diary.entries.append("closed")


@pytest.fixture(autouse=True)
def _a_new_diary() -> None:
    diary.entries.clear()
    diary.go.set()


@pytest.fixture
def other() -> Iterator[OpenAiVendor]:
    """Another vendor."""
    with OpenAiVendor(reply=ANSWER_OF_THE_NEW, keep_alive=False) as vendor:
        assert isinstance(vendor, OpenAiVendor)
        yield vendor


@pytest.fixture
def house(tmp_path: Path, sounds: Sounds) -> Iterator[House]:
    """A house per test: each changes it for good."""
    with open_house(tmp_path, sounds) as opened:
        yield opened


def use(house: House, vendor: OpenAiVendor) -> None:
    """The language model moves."""
    house.change({"LLM": {"Vendor": {"base_url": vendor.base_url}}})


def tell_story(house: House, device: Any) -> None:
    """An answer of several seconds has begun."""
    house.vendor.script(CHAT, STORY)
    house.vendor.script(TTS, Script(answer=("wav", 1.0)))
    device.detect("tell me a story")
    device.wait_until(lambda: device.replies.frames_received >= 2, PATIENCE_S, "sound")


# --- in mid-answer ----------------------------------------------------------------------------------------------------


def test_a_visit_finishes_on_the_old_and_newcomers_get_the_new(house: House, other: OpenAiVendor) -> None:
    old, agent = house.device(), house.generation.agent
    tell_story(house, old)
    use(house, other)

    assert house.server.reload() == ()

    story = old.collect_answer()
    assert story.sentences == [shown(STORY.answer)]
    assert len(story.frames) >= 16, "not one frame of it was lost"
    assert ask(house.device(), "who are you").sentences == [shown(ANSWER_OF_THE_NEW)]
    assert ask(old, "and who are you").sentences == ["Fine"]
    assert house.generation.agent is not agent
    assert house.server.generations_in_use == 2


def test_the_old_is_closed_when_the_last_of_its_visits_has_left(house: House, other: OpenAiVendor) -> None:
    first, second = house.device(), house.device()
    old, providers = house.generation, len(house.server.provider_pool)
    use(house, other)
    assert house.server.reload() == ()

    first.close()
    wait_for(lambda: old.sessions == 1, "the first to be gone")
    assert len(house.server.provider_pool) == providers + 1
    assert ask(second, "still there").sentences == ["Fine"]
    second.close()

    wait_for(lambda: old.alive == set(), "the end of the old")
    assert len(house.server.provider_pool) == providers
    assert house.server.generations_in_use == 1


def test_without_visits_the_old_is_closed_at_once(house: House, other: OpenAiVendor) -> None:
    for vendor in (other, house.vendor, other):
        use(house, vendor)
        assert house.server.reload() == ()

    wait_for(lambda: house.server.generations_in_use == 1, "the end of the old ones")


def test_memories_are_saved_before_what_saves_them_is_closed(tmp_path: Path, sounds: Sounds) -> None:
    memory = {"selected_module": {"Memory": "Diary"}, "Memory": {"Diary": {"type": f"{__name__}:SlowDiary"}}}
    with open_house(tmp_path, sounds, memory) as house:
        device = house.device()
        ask(device, "my name is Ann")
        diary.go.clear()
        house.change({"Memory": {"Diary": {"pages": 200}}})
        assert house.server.reload() == ()
        device.close()
        wait_for(lambda: house.server.services.memories.waiting == 1, "the memory")
        assert diary.entries == []

        diary.go.set()

        wait_for(lambda: len(diary.entries) == 2, "both")
        assert diary.entries == ["saved 2", "closed"]


def test_a_memory_that_others_use_is_not_waited_for(tmp_path: Path, sounds: Sounds, other: OpenAiVendor) -> None:
    """It is the same provider in both configurations, and stays open."""
    memory = {"selected_module": {"Memory": "Diary"}, "Memory": {"Diary": {"type": f"{__name__}:SlowDiary"}}}
    with open_house(tmp_path, sounds, memory) as house:
        device = house.device()
        ask(device, "my name is Ann")
        diary.go.clear()
        use(house, other)
        assert house.server.reload() == ()
        device.close()

        wait_for(lambda: house.server.generations_in_use == 1, "the end of the old")

        assert diary.entries == []
        diary.go.set()
        wait_for(lambda: house.server.services.memories.waiting == 0, "the memory")
        assert diary.entries == ["saved 2"]


# --- what did not change ----------------------------------------------------------------------------------------------


def test_what_did_not_change_is_taken_over(house: House, other: OpenAiVendor) -> None:
    """Models are not loaded twice, and the windows of a vendor hold for the visits of both configurations together."""
    before = house.generation.agent.providers
    visitor = house.device()
    use(house, other)
    assert house.server.reload() == ()
    after = house.generation.agent.providers

    assert after.llm is not before.llm
    assert (after.vad, after.asr, after.tts) == (before.vad, before.asr, before.tts)
    visitor.close()
    wait_for(lambda: house.server.generations_in_use == 1, "the end of the old")
    assert len(ask(house.device(), "do you hear me").frames) >= 1, "what was taken over is still open"


def test_a_breaker_that_is_open_stays_open_for_the_same_vendor(house: House) -> None:
    breaker = house.guard("LLM.Vendor").breaker
    house.change({"prompt": "You are somebody else."})

    assert house.server.reload() == ()

    assert house.guard("LLM.Vendor").breaker is breaker


def test_other_limits_make_another_vendor(house: House) -> None:
    window = house.guard("LLM.Vendor").window
    house.change({"ai_providers": {"llm": {"max_concurrent": 3}}})

    assert house.server.reload() == ()

    assert house.guard("LLM.Vendor").window is not window
    wait_for(lambda: house.server.generations_in_use == 1, "the end of the old")
    assert house.measured("xiaozhi_vendor_active_limit", kind="llm", vendor="Vendor") == 3


def test_a_file_that_a_block_names_counts_as_part_of_it(house: House, tmp_path: Path) -> None:
    named = tmp_path / "voice.json"
    named.write_text("1")
    house.change({"TTS": {"Vendor": {"voice": str(named)}}})
    assert house.server.reload() == ()
    tts = house.generation.agent.providers.tts
    assert house.server.reload() == ()
    assert house.generation.agent.providers.tts is tts

    named.write_text("22")
    assert house.server.reload() == ()

    assert house.generation.agent.providers.tts is not tts


def test_what_is_said_again_is_said_in_the_new_voice(house: House) -> None:
    device = house.device()
    ask(device, "hello")
    house.forget_requests()
    ask(device, "hello again")
    assert house.spoken() == [], "the sentence is in the speech cache"
    house.change({"TTS": {"Vendor": {"extra_body": {"emotion": "sad"}}}})

    assert house.server.reload() == ()
    ask(house.device(), "hello")

    bodies = [request.json() for request in house.vendor.requests if house.vendor.kind(request) == TTS]
    assert ("Fine.", "sad") in [(body["input"], body.get("emotion")) for body in bodies]


def test_limits_levels_and_allowances_follow(house: House) -> None:
    house.change(
        {
            "server": {"max_connections": 7, "limits": {"per_device": 2}},
            "device_max_output_size": 1000,
            "monitoring": {"sample_interval": 9},
            "log": {"levels": {"xiaozhi.lifecycle": "ERROR"}},
        }
    )
    server = house.server
    assert server.reload() == ()

    assert server.admission.limits.max_connections == 7
    assert server.connections.per_device == 2
    assert server.watchdog.sample_interval == 9
    device = house.device()
    ask(device, "hello")
    assert house.server.services.quota.left(device.device_id) == 1000 - len("Fine.")
    house.change({"log": {"levels": {}}})
    assert server.reload() == ()


def test_what_takes_a_restart_is_named(house: House) -> None:
    house.change({"server": {"port": 4711, "tls": {}, "limits": {"text_bytes": 5000}, "max_connections": 3}})
    with capture_logs() as lines:
        assert house.server.reload() == ()

    [note] = [line["note"] for line in lines if "restart" in str(line.get("note"))]
    assert note == "takes a restart: server.port, server.limits.text_bytes"


# --- refused whole ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (
            {"selected_module": {"LLM": "Nobody"}, "server": {"max_connections": -1}},
            {"selected_module.LLM", "server.max_connections"},
        ),
        ({"LLM": {"Vendor": {"base_url": "not an address"}}}, {"LLM.Vendor.base_url"}),
        ({"LLM": {"Vendor": {"max_concurrent": -1}}, "server": {"max_connections": 4}}, {"LLM.Vendor.max_concurrent"}),
        ({"selected_module": {"Memory": "Bad"}, "Memory": {"Bad": {"type": f"{__name__}:NeverStarts"}}}, {"providers"}),
        ({"log": {"log_dir": "/dev/null/logs"}, "device_max_output_size": 5}, {"log.log_dir"}),
        ({"prompt_template": "bad.txt"}, {"prompt_template"}),
    ],
)
def test_a_configuration_with_a_fault_is_refused_whole(house: House, changes: dict[str, Any], keys: set[str]) -> None:
    server, old, limit = house.server, house.generation, house.server.admission.limits.max_connections
    device = house.device()
    house.change(changes)

    faults = server.reload()

    assert {fault.key for fault in faults} == keys
    assert house.generation is old
    assert server.generations_in_use == 1
    assert server.admission.limits.max_connections == limit
    assert house.server.services.quota.left(device.device_id) is None
    assert ask(device, "are you well").sentences == ["Fine"]
    assert house.measured("xiaozhi_reloads_total", result="refused") == 1
    assert house.measured("xiaozhi_reloads_total", result="accepted") == 0


def test_what_was_built_of_a_refused_configuration_is_closed(house: House) -> None:
    house.change({"selected_module": {"Memory": "Bad"}, "Memory": {"Bad": {"type": f"{__name__}:NeverStarts"}}})

    assert house.server.reload()

    wait_for(lambda: diary.entries == ["closed"], "its end")


def test_a_reader_that_fails_is_a_refusal_too(house: House) -> None:
    def broken() -> Any:
        raise RuntimeError("no disk")

    house.before_reading = broken

    assert [fault.key for fault in house.server.reload()] == ["the configuration"]
    assert ask(house.device(), "are you well").sentences == ["Fine"]


# --- who may ask for it -----------------------------------------------------------------------------------------------


def test_by_http(house: House, other: OpenAiVendor) -> None:
    use(house, other)
    authorization = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert house.ask_http("/admin/reload", "POST").status == 401
    assert house.ask_http("/admin/reload", "POST", Authorization="Bearer wrong").status == 401
    assert ask(house.device(), "who are you").sentences == ["Fine"], "nothing has happened yet"

    answer = house.ask_http("/admin/reload", "POST", **authorization)

    assert (answer.status, answer.json["success"]) == (200, True)
    assert ask(house.device(), "who are you").sentences == [shown(ANSWER_OF_THE_NEW)]
    house.change({"server": {"max_connections": "many"}})
    refusal = house.ask_http("/admin/reload", "POST", **authorization)
    assert refusal.status == 422
    assert [fault["key"] for fault in refusal.json["faults"]] == ["server.max_connections"]
    assert house.measured("xiaozhi_reloads_total", result="accepted") == 1


def test_by_the_management_apis_message(house: House, other: OpenAiVendor) -> None:
    console = house.device()

    def command(secret: str) -> dict[str, Any]:
        console.send_json({"type": "server", "action": "update_config", "content": {"secret": secret}})
        reply = dict(console.next_json("server").data)
        if reply["status"] != "success":
            assert "content" not in console.next_json("server").data, "what ends the wait of the console's page"
        return reply

    use(house, other)
    assert command("wrong")["status"] == "error"
    assert ask(house.device(), "who are you").sentences == ["Fine"]
    reply = command(SECRET)
    assert (reply["status"], reply["content"]) == ("success", {"action": "update_config"})
    assert ask(house.device(), "who are you").sentences == [shown(ANSWER_OF_THE_NEW)]
    house.change({"LLM": {"Vendor": {"base_url": "nowhere"}}})
    refusal = command(SECRET)
    assert refusal["status"] == "error"
    assert "LLM.Vendor.base_url" in refusal["message"]
    assert "test-key" not in json.dumps(refusal)


def test_many_at_once_are_done_one_by_one(house: House, other: OpenAiVendor) -> None:
    use(house, other)

    results = [gevent.spawn(house.server.reload) for _ in range(5)]
    gevent.joinall(results)

    assert [result.value for result in results] == [()] * 5
    wait_for(lambda: house.server.generations_in_use == 1, "the end of the others")


def hold_the_reload(house: House) -> tuple[Any, Any]:
    """(set when a reload has begun, to be set when it may go on). Native events: the configuration is read in a
    thread."""
    native = monkey.get_original("threading", "Event")
    begun, go = native(), native()

    def wait() -> None:
        begun.set()
        assert go.wait(PATIENCE_S)

    house.before_reading = wait
    return begun, go


def test_who_gives_up_waiting_does_not_break_it_off(house: House, other: OpenAiVendor) -> None:
    begun, go = hold_the_reload(house)
    use(house, other)
    caller = gevent.spawn(house.server.reload)
    wait_for(begun.is_set, "the reload")
    caller.kill()

    go.set()

    wait_for(lambda: house.measured("xiaozhi_reloads_total", result="accepted") == 1, "the reload")


def test_a_server_that_stops_takes_no_new_configuration(tmp_path: Path, sounds: Sounds, other: OpenAiVendor) -> None:
    with open_house(tmp_path, sounds) as house:
        server = house.server
        begun, go = hold_the_reload(house)
        late = gevent.spawn(server.reload)
        wait_for(begun.is_set, "the reload")
        stopping = gevent.spawn(server.stop)
        wait_for(lambda: server.generation is None, "the stop")
        go.set()

        faults: Sequence[Fault] = late.get()
        stopping.get()

    assert [fault.key for fault in faults] == ["the server"]
    assert server.reload()
    assert server.generation is None


def test_the_first_configuration_is_refused_like_any_other(tmp_path: Path, sounds: Sounds) -> None:
    bad = {"selected_module": {"Memory": "Bad"}, "Memory": {"Bad": {"type": f"{__name__}:NeverStarts"}}}
    with pytest.raises(SettingsError, match="damaged"):
        with open_house(tmp_path, sounds, bad):
            raise AssertionError("it has started")
    assert diary.entries == ["closed"]
