"""`load`: read the layers, lay them over each other, check everything, and give a frozen `Settings` or every fault.

Lowest first: config/default.yaml, the profile that `server.profile` names, config/local.yaml, files given on the
command line in their order, the environment (first the three-variable shortcut, then XIAOZHI__...), flags. Reads files
and changes nothing; a file that cannot be read ends the loading after all files have been looked at, because what
follows from half a configuration would be noise."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings import checks
from xiaozhi.settings.environment import path_layers, shortcut_layers
from xiaozhi.settings.layers import Layer, Merged, merge
from xiaozhi.settings.schema import Settings
from xiaozhi.settings.strength import weak_secrets_of_others
from xiaozhi.settings.yaml_reader import read_file

CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"
"""The configuration that ships with the programme."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` found. `warnings` are for the log, one per line, each said once."""

    settings: Settings
    warnings: list[str]
    sources: list[str] = field(default_factory=list)
    """Names of the layers that were used, lowest first."""
    empty: frozenset[str] = frozenset()
    """Those of them that hold nothing."""
    config_dir: Path = CONFIG_DIR
    prompt_template: Path = CONFIG_DIR / "prompts" / "agent-base-prompt.txt"
    """The file `settings.prompt_template` stands for."""
    merged: Merged = field(default_factory=Merged, repr=False, compare=False)
    """The layers as one tree: what a device's own settings are laid over (`overlay.py`)."""


def load(
    config: Path | str | Sequence[Path | str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    config_dir: Path = CONFIG_DIR,
) -> Loaded:
    """The settings from all layers. `overrides` is nested like the file. Raises SettingsError with every fault that was
    found."""
    files = [config] if isinstance(config, str | Path) else list(config or ())
    base, faults = _files([config_dir / "default.yaml"])
    own, more = _files([*_if_there(config_dir / "local.yaml"), *map(Path, files)])
    shortcuts, wrong, warnings = shortcut_layers(environ)
    faults += more + wrong
    flags = [Layer("the command line", overrides)] if overrides else []

    # Which profile applies may be said by any layer, and the environment is matched to the keys that exist: so twice.
    so_far = merge([*base, *own, *shortcuts])
    variables, wrong = path_layers(environ, so_far.tree)
    faults += wrong
    above = [*own, *shortcuts, *variables, *flags]
    profile, wrong = _profile(merge([*base, *above]), config_dir / "profiles")
    faults += wrong
    if faults:
        raise SettingsError(_each_once(faults))

    layers = [*base, *profile, *above]
    below = merge(layers)
    merged = Merged(dict(below.tree), below.origins, below.unfilled)
    apply_pause_of_the_detector(merged)
    faults = list(checks.cross_faults(merged))
    template, wrong = _template(merged, config_dir)
    faults += wrong
    warnings += checks.drop_scalar_blocks(merged)
    warnings += checks.unknown_keys(merged.tree)
    warnings += weak_secrets_of_others(merged.tree)
    settings = None
    try:
        settings = Settings.model_validate(merged.tree)
    except ValidationError as error:
        faults = checks.field_faults(error, merged) + faults
    if faults or settings is None:
        raise SettingsError(_each_once(faults))
    empty = frozenset(layer.source for layer in layers if not layer.tree)
    return Loaded(settings, warnings, [layer.source for layer in layers], empty, config_dir, template, below)


def _files(paths: list[Path]) -> tuple[list[Layer], list[Fault]]:
    layers: list[Layer] = []
    faults: list[Fault] = []
    for path in paths:
        tree, wrong = read_file(path)
        faults += wrong
        layers.append(Layer(_short(path), tree))
    return layers, faults


def _short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _if_there(path: Path) -> list[Path]:
    return [path] if path.exists() else []


def _profile(merged: Merged, directory: Path) -> tuple[list[Layer], list[Fault]]:
    server = merged.tree.get("server")
    name = server.get("profile") if isinstance(server, dict) else None
    if name is None or name == "":
        return [], []
    known = sorted(path.stem for path in directory.glob("*.yaml"))
    if name not in known:
        said = merged.origin(("server", "profile"))
        return [], [
            Fault("server.profile", checks.shown(name), f"must be one of {', '.join(known)}, or empty (set by {said})")
        ]
    return _files([directory / f"{name}.yaml"])


def apply_pause_of_the_detector(merged: Merged) -> None:
    """A `pause_ms` in the block of the selected VAD replaces conversation.pause_ms: detectors differ in how soon they
    are sure. The section is replaced, not changed: another tree may share it."""
    selected = merged.tree.get("selected_module")
    name = selected.get("VAD") if isinstance(selected, dict) else None
    blocks = merged.tree.get("VAD")
    block = blocks.get(name) if isinstance(blocks, dict) and isinstance(name, str) else None
    conversation = merged.tree.get("conversation")
    if isinstance(block, dict) and block.get("pause_ms") not in (None, "") and isinstance(conversation, dict):
        merged.tree["conversation"] = {**conversation, "pause_ms": block["pause_ms"]}
        merged.origins["conversation", "pause_ms"] = f"VAD.{name}.pause_ms"


def _template(merged: Merged, config_dir: Path) -> tuple[Path, list[Fault]]:
    """The prompt template: a name in config/prompts, or a path."""
    name = merged.tree.get("prompt_template")
    if not isinstance(name, str) or not name:
        return config_dir / "prompts", []  # the schema says so
    candidates = [config_dir / "prompts" / name, Path(name)]
    try:
        found = next((path for path in candidates if path.is_file()), None)
    except (OSError, ValueError):
        found = None
    if found is not None:
        return found, []
    said = merged.origin(("prompt_template",))
    return candidates[0], [
        Fault(
            "prompt_template",
            checks.shown(name),
            f"must be a file in config/prompts, or the path of one (set by {said})",
        )
    ]


def _each_once(faults: list[Fault]) -> list[Fault]:
    return list(dict.fromkeys(faults))
