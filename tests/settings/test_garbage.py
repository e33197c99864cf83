"""Whatever is put in, `load` gives settings or a SettingsError with readable faults, and nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xiaozhi.errors import SettingsError
from xiaozhi.settings import load, masked_yaml
from xiaozhi.settings.checks import valid_keys
from xiaozhi.settings.yaml_reader import read_file, read_text

SLOW_MACHINES = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

KEYS = sorted({part for key in valid_keys() for part in key.split(".")})
NAMES = ("SileroVAD", "Offline", "Espeak", "OpenaiLLM", "type", "llm", "api_key", "pause_ms", "url", "headers", "c3")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([63, 256, 20_000]).map(lambda bits: 2**bits),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "ws://h/",
            "http://[",
            "http://h:x/",
            "//",
            "low",
            "../x",
            "你的",
            "a|b",
            "\0",
            "1,2,3",
            "::",
            "99:99",
            "1e999",
            "\ud800",
        ]
    ),
    st.binary(max_size=3),
)


@st.composite
def known_keys(draw: st.DrawFn) -> str:
    """Any key name of the schema. (A composite prints as its name; the plain list would be printed by every strategy
    made of it.)"""
    return draw(st.sampled_from(KEYS))


@st.composite
def known_variables(draw: st.DrawFn) -> str:
    """The environment variable of any key of the schema."""
    return f"XIAOZHI__{draw(st.sampled_from(valid_keys())).replace('.', '__').replace('-', '_').upper()}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(known_keys(), st.sampled_from(NAMES), st.text(max_size=5)), inner, max_size=4),
    ),
    max_leaves=12,
)
SECTIONS = st.sampled_from([key.split(".")[0] for key in valid_keys() if "." not in key])


def nested(path: str, value: Any) -> dict[str, Any]:
    tree: Any = value
    for part in reversed(path.split(".")):
        tree = {part: tree}
    assert isinstance(tree, dict)
    return tree


def survives(
    config_dir: Path, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> None:
    try:
        loaded = load(environ=environ or {}, overrides=overrides, config_dir=config_dir)
    except SettingsError as error:
        faults = error.faults
    else:
        masked_yaml(loaded.settings)
        loaded.settings.in_use()
        loaded.settings.board_for("c3/1.0")
        return
    assert faults
    assert [fault for fault in faults if not fault.expected or len(str(fault)) > 2_000] == []


@SLOW_MACHINES
@given(tree=st.dictionaries(st.one_of(SECTIONS, st.text(max_size=5)), VALUES, max_size=5))
def test_any_tree(tree: dict[str, Any], config_dir: Path) -> None:
    survives(config_dir, overrides=tree)


@SLOW_MACHINES
@given(key=st.sampled_from(valid_keys()), value=VALUES)
def test_any_value_of_any_key(key: str, value: Any, config_dir: Path) -> None:
    survives(config_dir, overrides=nested(key, value))


@SLOW_MACHINES
@given(
    environ=st.dictionaries(
        st.one_of(
            known_variables(),
            st.sampled_from(
                [
                    "XIAOZHI_LLM_BASE_URL",
                    "XIAOZHI_LLM_MODEL",
                    "XIAOZHI_TTS_VOICE",
                    "XIAOZHI_ASR_",
                    "XIAOZHI__",
                    "XIAOZHI__LLM__X__Y",
                ]
            ),
            st.text("XIAOZH_LM", max_size=12),
        ),
        st.text(max_size=12),
        max_size=4,
    )
)
def test_any_environment(environ: dict[str, str], config_dir: Path) -> None:
    survives(config_dir, environ=environ)


YAML_PIECES = st.sampled_from(
    [
        *(
            "server:",
            "LLM:",
            "port: ",
            "8000",
            "null",
            "\n",
            "  ",
            "- ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&a ",
            "*a",
            "<<: ",
            "!!int ",
            "!x ",
            "'",
            '"',
        ),
        *(
            ": ",
            "? ",
            "|\n",
            ">",
            "#",
            "\t",
            "%",
            "@",
            "=",
            "~",
            "---\n",
            "...\n",
            "\\",
            "\\U",
            "\\x",
            "\ufeff",
            "\x85",
            "%YAML 9.9\n",
            "%TAG ! x\n",
        ),
    ]
)


@SLOW_MACHINES
@given(text=st.one_of(st.lists(YAML_PIECES, max_size=25).map("".join), st.text(max_size=60)))
def test_any_text(text: str) -> None:
    value, faults = read_text(text, "f.yaml")

    assert isinstance(value, dict)
    assert all(fault.key.startswith("f.yaml") and fault.expected for fault in faults)


@SLOW_MACHINES
@given(data=st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        value, _ = read_file(Path(file.name))

    assert isinstance(value, dict)


@pytest.mark.parametrize("name", ["", "\0", "x" * 5_000])
def test_any_name_of_a_file(name: str, config_dir: Path) -> None:
    with pytest.raises(SettingsError):
        load([name], environ={}, config_dir=config_dir)
