"""The server's own tools."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.tools.fakes import call, context, recorded
from xiaozhi.tools.base import Action, ToolContext, ToolServices
from xiaozhi.tools.music import Track
from xiaozhi.tools.plugins.play_music import MusicShelf
from xiaozhi.tools.registry import catalog, select
from xiaozhi.tools.toolbox import Toolbox

CHINA = timezone(timedelta(hours=8))
NOON = datetime(2026, 2, 17, 12, 5, tzinfo=CHINA)


def box(*names: str, options: dict[str, Any] | None = None, **services: Any) -> Toolbox:
    services.setdefault("now", lambda: NOON)
    return Toolbox(select(names, options or {}).build(ToolServices(**services)).source)


def run(toolbox: Toolbox, name: str, made: ToolContext | None = None, **arguments: Any) -> Any:
    return toolbox.call(call(name, **arguments), made or context())


# --- all of them ---


def test_every_tool_can_be_built_and_describes_itself() -> None:
    known = list(catalog().tools)
    specs = box(*known).specs()

    assert {spec.name for spec in specs} == set(known)
    for spec in specs:
        assert spec.parameters["type"] == "object"
        assert len(spec.description) > 20
        assert re.search("[\u4e00-\u9fff]", spec.description), "models that think in Chinese choose by it"
        assert "{" not in spec.description


def test_names_and_parameters_are_those_of_the_existing_server() -> None:
    parameters = {
        spec.name: (list(spec.parameters["properties"]), spec.parameters.get("required", []))
        for spec in box(*catalog().tools).specs()
    }

    assert parameters == {
        "handle_exit_intent": (["say_goodbye"], []),
        "get_time": ([], []),
        "change_role": (["role", "role_name"], ["role"]),
        "direct_answer": (["response"], ["response"]),
        "get_lunar": (["date", "query"], []),
        "get_news_from_chinanews": (["category", "detail", "lang"], []),
        "get_news_from_newsnow": (["source", "detail", "lang"], []),
        "get_weather": (["location", "lang"], []),
        "hass_get_state": (["entity_id"], ["entity_id"]),
        "hass_play_music": (["media_content_id", "entity_id"], ["media_content_id", "entity_id"]),
        "hass_set_state": (["entity_id", "state"], ["entity_id", "state"]),
        "play_music": (["song_name", "one_after_another"], []),
        "control_music": (["action", "volume"], ["action"]),
        "call_device": (["nickname", "message"], ["nickname"]),
        "tell_device": (["to", "message"], ["to", "message"]),
        "remember_voice": (["name", "confirmed"], ["name"]),
        "forget_voice": (["name"], []),
        "search_from_ragflow": (["question"], ["question"]),
        "web_search": (["query"], ["query"]),
        "set_reminder": (["when", "text", "kind"], ["when"]),
        "list_reminders": ([], []),
        "change_reminder": (["which", "when", "text"], []),
        "cancel_reminder": (["which"], []),
        "snooze_reminder": (["minutes"], []),
    }


def test_all_wrong_options_are_reported_at_once() -> None:
    options = {
        "play_music": {"refresh_time": "soon", "music_ext": 5},
        "change_role": {"roles": {"pirate": 5, "silent": " "}},
    }

    faults = select(["play_music", "change_role"], options).faults

    assert [fault.key for fault in faults] == [
        "plugins.play_music.music_ext",
        "plugins.play_music.refresh_time",
        "plugins.change_role.roles.pirate",
        "plugins.change_role.roles.silent",
    ]
    assert [fault.key for fault in select(["change_role"], {"change_role": {"roles": {}}}).faults] == [
        "plugins.change_role.roles"
    ]


# --- time ---


def test_time_is_told_in_both_languages() -> None:
    toolbox = box()

    assert run(toolbox, "get_time", context("en")).text == "It is 12:05 on 2026-02-17, a Tuesday (UTC+08:00)."
    assert run(toolbox, "get_time", context("zh-CN")).text == "现在是2026年2月17日，星期二，12点05分（UTC+08:00）。"
    assert run(toolbox, "get_time", context("")).text.startswith("现在")


def test_lunar_new_year() -> None:
    text = run(box("get_lunar"), "get_lunar").text

    assert "公历：2026-02-17 星期二" in text
    assert "二〇二六年正月初一" in text
    assert "丙午" in text
    assert "生肖：马" in text
    assert "春节" in text


def test_lunar_of_a_given_day_is_worked_out_once_and_off_the_hub() -> None:
    worked: list[int] = []

    def offload(function: Any) -> Any:
        worked.append(1)
        return function()

    toolbox = box("get_lunar", offload=offload)

    first = run(toolbox, "get_lunar", date="2024-09-17")
    second = run(toolbox, "get_lunar", date=" 2024-09-17T00:00 ")

    assert "八月十五" in first.text and "中秋节" in first.text
    assert second.text == first.text
    assert len(worked) == 1


@pytest.mark.parametrize("written", ["tomorrow", "2024-13-01", "1200-01-01", "9999-01-01"])
def test_lunar_of_no_day_is_an_error_the_model_can_mend(written: str) -> None:
    outcome = run(box("get_lunar"), "get_lunar", date=written)

    assert outcome.action is Action.ERROR
    assert "YYYY-MM-DD" in outcome.text or "only known" in outcome.text


# --- exit ---


def test_exit_speaks_the_farewell_and_closes_after_it() -> None:
    made = context()

    outcome = run(box(), "handle_exit_intent", made, say_goodbye="See you!")

    assert (outcome.action, outcome.text) == (Action.SPEAK, "See you!")
    assert recorded(made).closing


@pytest.mark.parametrize("language,farewell", [("en", "Goodbye, talk to you soon!"), ("zh", "再见，下次再聊！")])
def test_exit_has_a_farewell_of_its_own(language: str, farewell: str) -> None:
    made = context(language)

    assert run(box(), "handle_exit_intent", made, say_goodbye=" ").text == farewell
    assert recorded(made).closing


# --- roles ---


def test_a_role_becomes_the_prompt() -> None:
    made = context()

    outcome = run(box("change_role"), "change_role", made, role="english teacher", role_name="{Lily}")

    assert outcome.action is Action.SPEAK
    assert "Lily" in outcome.text
    [prompt] = recorded(made).prompts
    assert prompt.startswith("You are Lily, a patient English teacher")
    assert "{" not in prompt


def test_configured_roles_replace_the_built_in_ones() -> None:
    toolbox = box("change_role", options={"change_role": {"roles": {"Pirate": "You are {{assistant_name}}, arr."}}})
    made = context()

    assert "Pirate" in toolbox.specs()[-1].description
    assert run(toolbox, "change_role", made, role="pirate").action is Action.SPEAK
    assert recorded(made).prompts == ["You are Pirate, arr."]


def test_an_unknown_role_is_refused_with_those_on_offer() -> None:
    made = context()

    outcome = run(box("change_role"), "change_role", made, role="zzz")

    assert outcome.action is Action.ERROR
    assert "英语老师" in outcome.text
    assert recorded(made).prompts == []


# --- music ---


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    (folder / "sub").mkdir(parents=True)
    for name in ("Two Tigers.mp3", "sub/一念千年.mp3", "notes.txt", "Blue Danube.WAV"):
        (folder / name).write_bytes(b"x")
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(b"x")
    (folder / "link.mp3").symlink_to(secret)
    return folder


def test_the_song_most_like_the_wish_is_played(music: Path) -> None:
    toolbox = box("play_music", options={"play_music": {"music_dir": str(music)}})
    for wish, file in [
        ("two tiger", "Two Tigers.mp3"),
        ("一念千年", "sub/一念千年.mp3"),
        ("the blue danube", "Blue Danube.WAV"),
    ]:
        made = context()
        outcome = run(toolbox, "play_music", made, song_name=wish)

        assert outcome.action is Action.SPEAK
        assert Path(file).stem in outcome.text
        assert recorded(made).played == [music.resolve() / file]


@pytest.mark.parametrize("wish", [{}, {"song_name": "random"}, {"song_name": " Random! "}, {"song_name": None}])
def test_without_a_wish_any_song_is_played_but_never_a_link_out(music: Path, wish: dict[str, Any]) -> None:
    toolbox = box("play_music", options={"play_music": {"music_dir": str(music)}})
    made = context()

    assert run(toolbox, "play_music", made, **wish).action is Action.SPEAK

    [played] = recorded(made).played
    assert played.parent in (music.resolve(), music.resolve() / "sub")
    assert played.name not in ("link.mp3", "notes.txt")


def test_no_such_song_and_no_music_at_all_are_said(music: Path, tmp_path: Path) -> None:
    made = context()

    missing = run(
        box("play_music", options={"play_music": {"music_dir": str(music)}}), "play_music", made, song_name="qqqq zzzz"
    )
    none = run(
        box("play_music", options={"play_music": {"music_dir": str(tmp_path / "nowhere")}}),
        "play_music",
        made,
        song_name="x",
    )

    assert missing.action is none.action is Action.ERROR
    assert "no song like 'qqqq zzzz'" in missing.text
    assert "no music" in none.text
    assert recorded(made).played == []


@pytest.fixture
def player(music: Path) -> Toolbox:
    """Songs in this order: Blue Danube, Two Tigers, 一念千年."""
    return box("play_music", options={"play_music": {"music_dir": str(music)}})


def control(player: Toolbox, made: ToolContext, action: str, **arguments: Any) -> list[tuple[str, float]]:
    """What is played, and from where (ms)."""
    run(player, "control_music", made, action=action, **arguments)
    return [(track.title, track.start_ms) for track in recorded(made).tracks]


def test_the_song_that_was_interrupted_goes_on_where_it_stopped(player: Toolbox) -> None:
    made = context()
    run(player, "play_music", made, song_name="two tigers")
    recorded(made).heard(700)
    recorded(made).heard()  # other questions
    recorded(made).heard()

    assert control(player, made, "resume") == [("Two Tigers", 700)]
    recorded(made).heard(120)
    assert control(player, made, "resume") == [("Two Tigers", 820)]
    recorded(made).heard()
    assert control(player, made, "resume") == [("Two Tigers", 0)], "it was heard to its end"


def test_next_and_previous_follow_the_shelf_and_go_round(player: Toolbox) -> None:
    made = context()
    run(player, "play_music", made, song_name="two tigers")
    recorded(made).heard(700)

    def titles(action: str) -> list[str]:
        played = control(player, made, action)
        recorded(made).heard(100)
        assert all(start == 0 for _, start in played)
        return [title for title, _ in played]

    assert titles("next") == ["一念千年"]
    assert titles("next") == ["Blue Danube"]
    assert titles("previous") == ["一念千年"]
    assert titles("previous") == ["Two Tigers"]


def test_random_songs_keep_one_order_per_session(player: Toolbox) -> None:
    made = context()
    run(player, "play_music", made)
    heard = [recorded(made).tracks[0].title]
    recorded(made).heard(100)
    for _ in range(5):
        heard.append(control(player, made, "next")[0][0])
        recorded(made).heard(100)

    assert sorted(heard[:3]) == ["Blue Danube", "Two Tigers", "一念千年"]
    assert heard[3:] == heard[:3]


def test_next_without_music_before_begins_at_the_beginning(player: Toolbox) -> None:
    assert control(player, context(), "next") == [("Blue Danube", 0)]


@pytest.mark.parametrize("action", ["pause", "resume", "stop"])
def test_without_music_there_is_nothing_to_control(player: Toolbox, action: str) -> None:
    made = context()
    outcome = run(player, "control_music", made, action=action)

    assert outcome.action is Action.ERROR
    assert "No music was played" in outcome.text


@pytest.mark.parametrize(("action", "start_ms"), [("pause", 700), ("stop", 0)])
def test_pause_keeps_the_place_and_stop_does_not(player: Toolbox, action: str, start_ms: int) -> None:
    made = context()
    run(player, "play_music", made, song_name="two tigers")
    recorded(made).heard(700)

    assert control(player, made, action) == []
    assert control(player, made, "volume", volume=40) == [], "the user wanted silence"
    assert control(player, made, "resume") == [("Two Tigers", start_ms)]


def test_the_volume_holds_for_all_music_of_the_session_and_the_music_goes_on(player: Toolbox) -> None:
    made = context()
    run(player, "play_music", made, song_name="two tigers")
    assert recorded(made).tracks[0].gain == 1.0
    recorded(made).heard(700)

    assert control(player, made, "volume", volume=50) == [("Two Tigers", 700)]
    assert recorded(made).tracks[0].gain == 0.25
    recorded(made).heard(100)
    recorded(made).heard()  # another question
    assert control(player, made, "volume", volume=20) == [], "that music is over"
    assert run(player, "control_music", made, action="volume").text.endswith("20 (0-100)")
    control(player, made, "next")
    assert recorded(made).tracks[0].gain == pytest.approx(0.04)


def test_songs_one_after_another_only_when_asked_for(player: Toolbox) -> None:
    made = context()
    run(player, "play_music", made, song_name="two tigers", one_after_another=True)
    assert [track.title for track in recorded(made).tracks] == ["Two Tigers", "一念千年"]
    recorded(made).heard(700)

    assert control(player, made, "resume") == [("Two Tigers", 700), ("一念千年", 0)]
    recorded(made).heard(100)
    assert control(player, made, "previous") == [("Blue Danube", 0), ("Two Tigers", 0), ("一念千年", 0)]
    recorded(made).heard(100)
    control(player, made, "stop")
    assert control(player, made, "next") == [("Two Tigers", 0)]


def test_a_song_that_is_gone_from_the_shelf(player: Toolbox) -> None:
    made = context()
    recorded(made).music.turn_ended([Track(Path("/elsewhere/old.mp3"), "old", start_ms=50)], asked=True)

    assert control(player, made, "resume") == [("old", 50)]
    recorded(made).tracks.clear()
    assert control(player, made, "next") == [("Blue Danube", 0)]


def test_the_directory_is_looked_at_again_only_after_a_while(music: Path) -> None:
    clock = FakeClock()
    looks: list[int] = []

    def offload(function: Any) -> Any:
        looks.append(1)
        return function()

    shelf = MusicShelf(music, refresh_seconds=60, offload=offload, clock=clock)
    assert "New" not in shelf.titles()

    (music / "New.mp3").write_bytes(b"x")
    clock.advance(59)
    assert "New" not in shelf.titles()
    clock.advance(1)
    assert "New" in shelf.titles()
    assert len(looks) == 2


def test_a_missing_directory_is_told_and_none_means_the_usual_one(music: Path, tmp_path: Path) -> None:
    def warnings(**options: Any) -> tuple[str, ...]:
        return select(["play_music"], {"play_music": options}).warnings

    assert warnings(music_dir=str(music)) == ()
    nowhere = tmp_path / "nowhere"
    assert warnings(music_dir=str(nowhere)) == (
        f"play_music, control_music cannot work: plugins.play_music.music_dir: there is no directory {nowhere}",
    )
    assert warnings(music_dir="") == warnings(music_dir=None) == warnings(music_dir="./music") == warnings()


# --- answering ---


def test_an_answer_inside_a_call_is_its_text() -> None:
    toolbox = box("direct_answer")

    assert toolbox.direct_text(call("direct_answer", response=" Hello. ")) == "Hello."
    assert run(toolbox, "direct_answer", response="Hello.").text == "Hello."
    assert "direct_answer" not in [spec.name for spec in toolbox.specs(after_tools=True)]


def test_services_default_to_utc() -> None:
    now = ToolServices().now()

    assert now.tzinfo is UTC
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


def test_pipes_and_directories_are_no_music(music: Path) -> None:
    os.mkfifo(music / "Pipe.mp3")
    (music / "Folder.mp3").mkdir()
    assert sorted(MusicShelf(music, offload=lambda look: look()).titles()) == ["Blue Danube", "Two Tigers", "一念千年"]


def test_a_directory_that_does_not_answer_takes_one_thread(music: Path) -> None:
    """A dead network share: the caller gives up, the thread does not come back."""
    looks: list[Any] = []
    clock = FakeClock()

    def offload(look: Any) -> Any:
        looks.append(look)
        if len(looks) == 2:
            shelf_is_asked_meanwhile()
        return look()

    def shelf_is_asked_meanwhile() -> None:
        """In another thread, while `os.walk` waits."""

        def walk(root: Path) -> Any:
            assert len(shelf.titles()) == 3, "what was known before"
            assert len(looks) == 2
            return []

        patch.setattr("xiaozhi.tools.plugins.play_music.os.walk", walk)

    shelf = MusicShelf(music, offload=offload, clock=clock)
    assert len(shelf.titles()) == 3
    clock.advance(100)
    with pytest.MonkeyPatch.context() as patch:
        assert shelf.titles() == []
    assert len(looks) == 2
