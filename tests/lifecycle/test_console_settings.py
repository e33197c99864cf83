"""Settings changed by the console of a running server: examined, written, in force at once, undone; and what is kept
secret, refused or left alone."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.vendors.openai_vendor import OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import ask, settle_phrases
from tests.lifecycle.home import HEADER, Home, OwnerClient, listed, open_home
from xiaozhi.settings import SECTIONS

KEY = "sk-a-right-and-secret-key"
WRONG = "sk-a-wrong-and-secret-key"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    sounds = Sounds()
    sounds.body("wav", 0.25)
    with open_home(tmp_path_factory.mktemp("home"), sounds, {"TTS": {"Vendor": {"api_key": KEY}}}) as opened:
        yield opened


@pytest.fixture
def owner(home: Home) -> Iterator[OwnerClient]:
    """A page of the console; the file is afterwards what it was before."""
    before = home.local.read_text(encoding="utf-8")
    home.environ.clear()
    client = home.owner()
    yield client
    client.close()
    home.close_devices()
    home.environ.clear()
    home.local.write_text(before, encoding="utf-8")
    assert home.server.reload() == ()


@pytest.fixture
def other(sounds: Sounds) -> Iterator[OpenAiVendor]:
    """A second vendor, which wants a key."""
    with OpenAiVendor(sounds=sounds, api_key=KEY, keep_alive=False) as vendor:
        assert isinstance(vendor, OpenAiVendor)
        yield vendor


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    made = Sounds()
    made.body("wav", 0.5)
    return made


def another_voice(vendor: OpenAiVendor, key: str = KEY) -> list[tuple[str, Any]]:
    return [
        ("TTS.Other.type", "openai"),
        ("TTS.Other.api_url", vendor.base_url),
        ("TTS.Other.model", "m"),
        ("TTS.Other.voice", "v2"),
        ("TTS.Other.response_format", "wav"),
        ("TTS.Other.api_key", key),
    ]


def keys_of(answer: Any) -> list[str]:
    return [fault["key"] for fault in answer.json()["faults"]]


def test_another_voice_is_in_use_without_a_restart(home: Home, other: OpenAiVendor, owner: OwnerClient) -> None:
    changes = [*another_voice(other), ("selected_module.TTS", "Other")]

    answer = owner.save(*changes)

    assert answer.status_code == 200, answer.text
    settle_phrases(home)
    ask(home.device(), "what is up")
    assert [json.loads(request.body)["voice"] for request in other.requests if b"Fine" in request.body] == ["v2"]
    text = home.local.read_text(encoding="utf-8")
    assert text.startswith(HEADER) and KEY in text
    assert stat.S_IMODE(home.local.stat().st_mode) == 0o600
    kind = next(each for each in owner.get("settings")["kinds"] if each["kind"] == "tts")
    assert kind["selected"] == "Other" and kind["origin"].endswith("local.yaml") and not kind["fixed"]


def test_a_block_is_tried_before_it_is_saved(home: Home, other: OpenAiVendor, owner: OwnerClient) -> None:
    before = home.local.read_bytes()

    def tried(key: str) -> dict[str, Any]:
        answer = owner.post("settings/check", kind="tts", name="Other", changes=listed(*another_voice(other, key)))
        result: dict[str, Any] = answer.json()
        return result

    good, bad = tried(KEY), tried(WRONG)

    assert good["state"] == "ok" and good["first_ms"] > 0 and good["sound_s"] > 0
    assert bad["state"] == "failed" and "api_key" in bad["found"]
    assert home.local.read_bytes() == before


def test_a_vendor_that_repeats_a_key_does_not_bring_it_back(other: OpenAiVendor, owner: OwnerClient) -> None:
    echoing = [
        ("TTS.Other.type", "openai"),
        ("TTS.Other.api_url", f"http://127.0.0.1:9/{WRONG}/v1"),
        ("TTS.Other.api_key", WRONG),
    ]

    result = owner.post("settings/check", kind="tts", name="Other", changes=listed(*echoing)).json()

    assert result["state"] == "failed" and WRONG not in json.dumps(result)


def test_a_voice_is_heard_before_it_is_saved(other: OpenAiVendor, owner: OwnerClient) -> None:
    def heard(key: str) -> Any:
        return owner.post("settings/voice", name="Other", text="hello", changes=listed(*another_voice(other, key)))

    sound, wrong = heard(KEY), heard(WRONG)

    assert sound.headers["Content-Type"] == "audio/wav" and sound.content.startswith(b"RIFF")
    assert len(sound.content) > 16_000 * 2 // 10, "a tenth of a second at least"
    assert wrong.json()["state"] == "failed"


def test_what_would_come_of_changes_is_told_and_nothing_is_written(home: Home, owner: OwnerClient) -> None:
    before = home.local.read_bytes()
    changes = listed(("server.http_port", 8123), ("asr_timeout", -1), ("TTS.Vendor.vioce", "x"), ("language", "de"))

    outcome = owner.post("settings/preview", changes=changes).json()

    assert [fault["key"] for fault in outcome["faults"]] == ["asr_timeout"]
    assert any("vioce" in warning for warning in outcome["warnings"])
    assert "server.http_port" in outcome["restart"] and "language" not in outcome["restart"]
    assert home.local.read_bytes() == before


def test_faults_are_refused_and_nothing_is_written(home: Home, owner: OwnerClient) -> None:
    before = home.local.read_bytes()

    for changes in (
        [("selected_module.TTS", "Nobody")],
        [("TTS.Vendor.speed", 99)],
        [("selected_module.LLM", "ChatGLMLLM")],  # without its key
        [("server.auth.enroll", "some")],
    ):
        answer = owner.save(*changes)
        assert answer.status_code == 422 and keys_of(answer), changes
    assert home.local.read_bytes() == before


def test_what_cannot_be_put_into_force_leaves_the_file_as_it_was(home: Home, owner: OwnerClient) -> None:
    before = home.local.read_bytes()
    home.environ["XIAOZHI__ASR_TIMEOUT"] = "never"  # told by the reload, and by the look before it

    answer = owner.save(("language", "German"))

    assert answer.status_code == 422 and home.local.read_bytes() == before
    assert home.server.generation is not None and home.server.generation.loaded.settings.language == ""


def test_what_only_the_reload_refuses_is_taken_back(home: Home, owner: OwnerClient) -> None:
    before = home.local.read_bytes()

    answer = owner.save(("log.log_dir", "/proc/nowhere"), ("language", "German"))

    assert answer.status_code == 422 and keys_of(answer) == ["log.log_dir"]
    assert home.local.read_bytes() == before


def test_of_two_who_save_at_once_the_second_loads_again(home: Home, owner: OwnerClient) -> None:
    digest = owner.get("settings")["digest"]
    others = [home.owner() for _ in range(3)]
    saving = [
        gevent.spawn(each.save, ("language", f"Language {number}"), digest=digest) for number, each in enumerate(others)
    ]

    answers = [each.get() for each in saving]
    for each in others:
        each.close()

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    kept = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    assert f"language: Language {kept}" in home.local.read_text(encoding="utf-8")


def test_what_others_decide_is_shown_and_not_changed(home: Home, owner: OwnerClient) -> None:
    home.environ["XIAOZHI__LANGUAGE"] = "French"
    home.environ["XIAOZHI__TTS__VENDOR__VOICE"] = "theirs"
    assert home.server.reload() == ()

    fields = {".".join(field["path"]): field for field in owner.get("settings/group/assistant")["fields"]}
    block = {field["path"][-1]: field for field in owner.get("settings/block/tts", name="Vendor")["fields"]}

    assert (fields["language"]["value"], fields["language"]["fixed"]) == ("French", True)
    assert fields["language"]["origin"] == "XIAOZHI__LANGUAGE" and not fields["prompt"]["fixed"]
    assert (block["voice"]["value"], block["voice"]["fixed"], block["model"]["fixed"]) == ("theirs", True, False)
    refused = owner.save(("language", "German"))
    assert refused.status_code == 422 and keys_of(refused) == ["language"]


@pytest.mark.parametrize(
    "change",
    [
        ("mcp.servers.evil.command", "sh"),
        ("plugins.dirs", ["/tmp"]),
        ("TTS.Evil.type", "os:system"),
        ("TTS.os:system.voice", "x"),
    ],
)
def test_nothing_that_runs_programs_is_written_from_a_page(home: Home, owner: OwnerClient, change: Any) -> None:
    before = home.local.read_bytes()

    assert owner.save(change).status_code == 422
    assert owner.post("settings/check", kind="tts", name="Evil", changes=listed(change)).status_code == 422

    assert home.local.read_bytes() == before


def test_who_has_seen_another_file_loads_it_again(home: Home, owner: OwnerClient) -> None:
    digest = owner.get("settings")["digest"]
    home.local.write_text(home.local.read_text(encoding="utf-8") + "\n# by hand\n", encoding="utf-8")
    by_hand = home.local.read_bytes()

    answer = owner.save(("language", "German"), digest=digest)

    assert answer.status_code == 409 and "Somebody else" in answer.json()["message"]
    assert home.local.read_bytes() == by_hand


def test_changes_are_undone(home: Home, owner: OwnerClient) -> None:
    before = home.local.read_text(encoding="utf-8")
    owner.save(("language", "German"), ("selected_module.LLM", "Offline"))
    overview = owner.get("settings")

    undone = owner.post("settings/undo", number=overview["earlier"][0]["number"], digest=overview["digest"])

    assert undone.status_code == 200 and home.local.read_text(encoding="utf-8") == before
    generation = home.server.generation
    assert generation is not None and generation.loaded.settings.selected("llm") == "Vendor"
    assert owner.post("settings/undo", number=999, digest=undone.json()["digest"]).status_code == 503


def test_every_change_is_in_the_trail_without_its_value(owner: OwnerClient) -> None:
    owner.save(("TTS.Vendor.api_key", WRONG), ("language", "German"))

    entry = owner.get("settings/audit")["entries"][0]

    assert entry["what"] == "settings changed" and entry["who"] == "local"
    assert entry["details"] == {"keys": ["TTS.Vendor.api_key", "language"]}


def test_yaml_is_read_as_in_a_file(home: Home, owner: OwnerClient) -> None:
    digest = owner.get("settings")["digest"]
    wrong = owner.post("settings", digest=digest, changes=[{"path": ["boards"], "yaml": "a: [1"}])
    right = owner.post("settings", digest=digest, changes=[{"path": ["boards"], "yaml": "Mine:\n  ping: true\n"}])

    assert wrong.status_code == 422 and keys_of(wrong) == ["boards"]
    assert right.status_code == 200
    generation = home.server.generation
    assert generation is not None and generation.loaded.settings.boards["Mine"].ping is True


@pytest.mark.blocks_hub("the client parses all forms in the same hub")
def test_no_answer_holds_a_secret(home: Home, owner: OwnerClient) -> None:
    overview = owner.get("settings")
    for kind in overview["kinds"]:
        for block in kind["blocks"]:
            owner.get(f"settings/block/{kind['kind']}", name=block["name"])
    for group in overview["groups"]:
        owner.get(f"settings/group/{group}")
    owner.post("settings/preview", changes=listed(("TTS.Vendor.api_key", WRONG), ("asr_timeout", "x")))
    owner.save(("server.auth_key", WRONG), ("server.port", "x"))

    assert KEY in home.local.read_text(encoding="utf-8")
    assert not [text[:200] for text in owner.texts if KEY in text or WRONG in text or "test-key" in text]
    assert sum(len(kind["blocks"]) for kind in overview["kinds"]) > 80
    assert {kind["section"] for kind in overview["kinds"]} == set(SECTIONS.values())


def test_groups_hold_every_general_key_once() -> None:
    from xiaozhi.app.console_forms import ELSEWHERE, GROUPS
    from xiaozhi.settings import Settings

    listed_keys = [key for keys in GROUPS.values() for key in keys]
    known = {field.alias or name for name, field in Settings.model_fields.items()}

    assert len(listed_keys) == len(set(listed_keys))
    assert set(listed_keys) | ELSEWHERE == known


def test_a_server_without_a_file_shows_its_settings_and_changes_none(tmp_path: Path, sounds: Sounds) -> None:
    from tests.lifecycle.house import open_house

    with open_house(tmp_path, sounds) as house:
        client = OwnerClient(house.server)
        overview = client.get("settings")
        refused = client.save(("language", "German"), digest="x")
        client.close()

    assert "without a configuration file" in overview["refusal"]
    assert refused.status_code == 422
