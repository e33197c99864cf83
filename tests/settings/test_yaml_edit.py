"""Changes in a YAML file: what is asked for is changed, every other letter stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import SettingsError
from xiaozhi.settings.yaml_edit import MAX_CHARS, Change, edited
from xiaozhi.settings.yaml_reader import read_text

FILE = """\
# My server.

server:
  # where devices connect
  port: 8000   # not 80
  auth:
      enabled: home      # four columns here
      allowed_devices: [aa:bb, "cc:dd"]

# who does what
selected_module: {LLM: Mine, TTS: 'Espeak'}
LLM:
  Mine:
    type: openai
    # from the console of the vendor
    api_key: "abc"
prompt: |
  You are
  a pirate.

# the end
"""
SHIPPED = (Path(__file__).parents[2] / "config" / "default.yaml").read_text(encoding="utf-8")
KEYS = [("server", "port"), ("server", "auth", "enabled"), ("server", "tls"), ("log",), ("new", "a", "b"), ("server",)]
VALUES = st.recursive(
    st.text(max_size=30)
    | st.integers(-(10**9), 10**9)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4),
    max_leaves=8,
)


def changed(*changes: tuple[tuple[str, ...], Any], text: str = FILE) -> str:
    return edited(text, [Change(path, value) for path, value in changes], "local.yaml")


def lines_that_differ(before: str, after: str) -> tuple[list[str], list[str]]:
    gone, new = before.splitlines(), after.splitlines()
    return [line for line in gone if line not in new], [line for line in new if line not in gone]


@pytest.mark.parametrize(
    ("path", "value", "gone", "new"),
    [
        (("server", "port"), 9000, ["  port: 8000   # not 80"], ["  port: 9000   # not 80"]),
        (("server", "port"), None, ["  port: 8000   # not 80"], []),
        (("server", "http_port"), 8003, [], ["  http_port: 8003"]),
        (
            ("server", "auth", "enabled"),
            True,
            ["      enabled: home      # four columns here"],
            ["      enabled: true      # four columns here"],
        ),
        (("server", "auth", "enroll"), "open", [], ["      enroll: open"]),
        (
            ("selected_module", "TTS"),
            "Other",
            ["selected_module: {LLM: Mine, TTS: 'Espeak'}"],
            ["selected_module: {LLM: Mine, TTS: Other}"],
        ),
        (
            ("selected_module", "ASR"),
            "Other",
            ["selected_module: {LLM: Mine, TTS: 'Espeak'}"],
            ["selected_module: {LLM: Mine, TTS: 'Espeak', ASR: Other}"],
        ),
        (
            ("selected_module", "LLM"),
            None,
            ["selected_module: {LLM: Mine, TTS: 'Espeak'}"],
            ["selected_module: {TTS: 'Espeak'}"],
        ),
        (("LLM", "Mine", "api_key"), "xyz", ['    api_key: "abc"'], ["    api_key: xyz"]),
        (("LLM", "Other", "type"), "openai", [], ["  Other:"]),
        (("prompt",), "Be kind.", ["prompt: |", "  You are", "  a pirate."], ["prompt: Be kind."]),
        (("prompt",), "Be\nkind.\n", ["  You are", "  a pirate."], ["  Be", "  kind."]),
        (("language",), "de", [], ["language: de"]),
    ],
)
def test_only_what_is_asked_for_changes(path: tuple[str, ...], value: Any, gone: list[str], new: list[str]) -> None:
    assert lines_that_differ(FILE, changed((path, value))) == (gone, new)


def test_a_block_goes_with_what_is_in_it_and_nothing_else() -> None:
    after = changed((("LLM", "Mine"), None))

    assert "api_key" not in after and "LLM" not in read_text(after, "")[0]
    for comment in ("# My server.", "# not 80", "# who does what", "# the end"):
        assert comment in after


def test_a_section_with_comments_outlives_its_last_key() -> None:
    assert changed((("a", "b"), None), text="a:\n  # keep this\n  b: 1\nc: 2\n") == "a:\n  # keep this\nc: 2\n"
    assert changed((("a", "b"), None), text="a:\n  b: 1\nc: 2\n") == "c: 2\n"


def test_a_comment_behind_a_value_that_becomes_a_section_stays() -> None:
    assert changed((("a",), {"b": 1}), text="a: x  # why\nc: 2\n") == "a:  # why\n  b: 1\nc: 2\n"


@pytest.mark.parametrize("text", ["", "# only this\n", "# only this", "---\n"])
def test_a_file_without_settings_gets_some(text: str) -> None:
    after = changed((("a", "b"), "c"), text=text)

    assert after.startswith(text) and read_text(after, "")[0] == {"a": {"b": "c"}}


@pytest.mark.parametrize(
    "text", ["on", "no", "5", "1.5", "null", "~", "", " x ", "a: b", "# c", "- x", "0x1F", "你好\n"]
)
def test_texts_stay_texts(text: str) -> None:
    assert read_text(changed((("new",), text)), "")[0]["new"] == text


def test_a_key_that_stands_elsewhere_by_name_is_not_changed_there() -> None:
    text = "a: &shared {k: 1}\nb: *shared\nc:\n  <<: *shared\n"

    assert changed((("b",), "x"), text=text) == "a: &shared {k: 1}\nb: x\nc:\n  <<: *shared\n"
    with pytest.raises(SettingsError, match="by hand"):
        changed((("a", "k"), 2), text=text)


def test_broken_and_endless_files_are_left_alone() -> None:
    with pytest.raises(SettingsError, match="yaml line 1"):
        changed((("a",), 1), text="a: [")
    with pytest.raises(SettingsError, match="a second time"):
        changed((("a",), 1), text="a: 1\na: 2\n")
    with pytest.raises(SettingsError, match=str(MAX_CHARS)):
        changed((("a",), 1), text="#" * (MAX_CHARS + 1))


@pytest.mark.blocks_hub("long texts are parsed many times; the server does it in a thread")
@given(st.lists(st.tuples(st.sampled_from(KEYS), st.none() | VALUES), max_size=3))
def test_whatever_is_set_is_read_back_and_every_comment_elsewhere_stays(changes: list[Any]) -> None:
    text = SHIPPED[:4000].rpartition("\n")[0] + "\n"

    after = changed(*changes, text=text)

    tree = read_text(after, "")[0]
    path, value = changes[-1] if changes else ((), None)
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    if value not in (None, {}):
        assert _bare(tree) == _bare(value)
    first = text.index("server:")
    assert after.startswith(text[:first])


def _bare(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: bare for key, item in value.items() if (bare := _bare(item)) != {}}
