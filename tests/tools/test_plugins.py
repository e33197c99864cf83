"""The server's own tools."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.tools.fakes import call, context, recorded
from xiaozhi.errors import SettingsError
from xiaozhi.tools.base import Action, ToolContext
from xiaozhi.tools.plugins import PluginServices, known_plugins, load
from xiaozhi.tools.plugins.play_music import MusicShelf
from xiaozhi.tools.toolbox import Toolbox

CHINA = timezone(timedelta(hours=8))
NOON = datetime(2026, 2, 17, 12, 5, tzinfo=CHINA)
ALL = ("get_time", "get_lunar", "handle_exit_intent", "change_role", "play_music")


def box(*names: str, options: dict[str, Any] | None = None, **services: Any) -> Toolbox:
    services.setdefault("now", lambda: NOON)
    return Toolbox(load(names, options or {}, PluginServices(**services)).source)


def run(toolbox: Toolbox, name: str, made: ToolContext | None = None, **arguments: Any) -> Any:
    return toolbox.call(call(name, **arguments), made or context())


# --- loading ---


def test_every_plugin_can_be_loaded_and_describes_itself() -> None:
    assert set(ALL) <= set(known_plugins())
    specs = box(*known_plugins()).specs()

    assert {spec.name for spec in specs} == set(known_plugins())
    for spec in specs:
        assert spec.parameters["type"] == "object"
        assert len(spec.description) > 20
        assert re.search("[\u4e00-\u9fff]", spec.description), "models that think in Chinese choose by it"


def test_exit_and_time_are_always_there_and_unknown_names_are_reported() -> None:
    plugins = load(["play_music", "get_weather", "play_music"], {})

    assert [tool.spec.name for tool in plugins.source.tools()] == ["handle_exit_intent", "get_time", "play_music"]
    assert plugins.unknown == ("get_weather",)


def test_all_wrong_options_are_reported_at_once() -> None:
    options = {"play_music": {"refresh_time": "soon", "music_ext": 5}, "change_role": {"roles": {"pirate": 5}}}

    with pytest.raises(SettingsError) as raised:
        load(["play_music", "change_role"], options)

    assert [fault.key for fault in raised.value.faults] == [
        "plugins.play_music.refresh_time",
        "plugins.play_music.music_ext",
        "plugins.change_role.roles.pirate",
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


def test_services_default_to_utc() -> None:
    assert PluginServices().now().tzinfo is UTC
    assert date.today() - PluginServices().now().date() <= timedelta(days=1)
