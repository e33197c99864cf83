"""`load`: read the layers, lay them over each other, check everything, and give a frozen `Settings` or every fault.

Lowest first: config/vendors.yaml, config/default.yaml, the profile that `server.profile` names, what a management
console says (its caller has asked), config/local.yaml, files given on the command line in their order, the environment
(first the three-variable shortcut, then XIAOZHI__...), flags. Reads files and changes nothing; a file that cannot be
read ends the loading after all files have been looked at, because what follows from half a configuration would be
noise. All other faults are told together.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings import checks, not_yet
from xiaozhi.settings.environment import path_layers, shortcut_layers
from xiaozhi.settings.layers import SHIPPED, Layer, Merged, merge
from xiaozhi.settings.local_file import NAME as LOCAL
from xiaozhi.settings.schema import Settings
from xiaozhi.settings.spellings import lost_indentation, respelled
from xiaozhi.settings.strength import weak_secrets_of_others
from xiaozhi.settings.yaml_reader import read_file, read_text

CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"
"""The configuration that ships with the programme."""
CONSOLE = "the console"
"""What the layer of a management console is called."""


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
    above_local: frozenset[str] = frozenset()
    """Names of the layers above config/local.yaml: what they say cannot be changed there."""


@dataclass(frozen=True, slots=True)
class Examined:
    """Everything that was found in a configuration. `loaded` is there in spite of faults, with defaults in the place of
    wrong values, so that others can go on looking for more; None when nothing can be read."""

    loaded: Loaded | None
    faults: list[Fault]
    warnings: list[str]


def load(
    config: Path | str | Sequence[Path | str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    config_dir: Path = CONFIG_DIR,
    console: Mapping[str, Any] | None = None,
) -> Loaded:
    """The settings from all layers. `overrides` is nested like the file, and so is `console`: what a management console
    says of the server. Raises SettingsError with every fault that was found."""
    examined = examine(config, environ=environ, overrides=overrides, config_dir=config_dir, console=console)
    if examined.faults or examined.loaded is None:
        raise SettingsError(examined.faults)
    return examined.loaded


def examine(
    config: Path | str | Sequence[Path | str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    config_dir: Path = CONFIG_DIR,
    console: Mapping[str, Any] | None = None,
    local: str | None = None,
) -> Examined:
    """Everything that is right and wrong with the settings from all layers. Arguments as for `load`; `local`: what
    config/local.yaml would hold, in place of what it holds. Raises nothing."""
    files = [config] if isinstance(config, str | Path) else list(config or ())
    base, faults = _files([config_dir / name for name in SHIPPED])
    own, more = _local(config_dir / LOCAL, local)
    above_own, above_faults = _files([*map(Path, files)])
    own, more = [*own, *above_own], [*more, *above_faults]
    unread = any(not layer.tree for layer in [*base, *own]) and bool(faults or more)
    shortcuts, wrong, warnings = shortcut_layers(environ)
    faults += more + wrong
    flags = [Layer("the command line", overrides)] if overrides else []
    remote = [Layer(CONSOLE, console)] if console else []
    try:
        # Which profile applies may be said by any layer, and the environment is matched to the keys that exist: twice.
        so_far = merge([*base, *remote, *own, *shortcuts])
        variables, wrong = path_layers(environ, so_far.tree)
        faults += wrong
        own, wrong = _in_place(own)
        faults += wrong
        variables, wrong = _in_place(variables)
        faults += wrong
        above = [*own, *shortcuts, *variables, *flags]
        profile, wrong = _profile(merge([*base, *above]), config_dir / "profiles")
        faults += wrong
        profile, wrong = _in_place(profile)
        faults += wrong
        if unread:
            return Examined(None, _each_once(faults), warnings)
        layers = [*base, *profile, *remote, *above]
        below = merge(layers)
    except SettingsError as error:  # absurd nesting
        return Examined(None, _each_once([*faults, *error.faults]), warnings)
    merged = Merged(dict(below.tree), below.origins, below.unfilled)
    apply_pause_of_the_detector(merged)
    crossing = [*checks.cross_faults(merged)]
    template, wrong = _template(merged, config_dir)
    crossing += wrong
    warnings += not_yet.warnings_of(merged)
    warnings += checks.drop_scalar_blocks(merged)
    warnings += checks.unknown_keys(merged.tree)
    warnings += weak_secrets_of_others(merged.tree)
    settings, wrong = _validated(merged)
    faults = _each_once([*wrong, *crossing, *faults])
    sources = [layer.source for layer in layers]
    empty = frozenset(layer.source for layer in layers if not layer.tree)
    fixed = frozenset(layer.source for layer in above[len(own) - len(above_own) :])
    return Examined(Loaded(settings, warnings, sources, empty, config_dir, template, below, fixed), faults, warnings)


def _in_place(layers: list[Layer]) -> tuple[list[Layer], list[Fault]]:
    """The layers with every key where it belongs, and what cannot be put there."""
    faults: list[Fault] = []
    mended = []
    for layer in layers:
        faults += lost_indentation(layer)
        layer, wrong = respelled(layer)
        faults += wrong
        mended.append(layer)
    return mended, faults


def _validated(merged: Merged) -> tuple[Settings, list[Fault]]:
    """The settings, with defaults in the place of what is wrong, and what is wrong."""
    try:
        return Settings.model_validate(merged.tree), []
    except ValidationError as error:
        faults = checks.field_faults(error, merged)
        tree = copy.deepcopy(merged.tree)
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            _remove(tree, problem["loc"])
    try:
        return Settings.model_validate(tree), faults
    except ValidationError:  # what remains does not fit together
        return Settings(), faults


def _remove(tree: Any, path: Sequence[int | str]) -> None:
    """Take out what stands at `path`, or the list that it is an item of."""
    for key in path[:-1]:
        inner = tree.get(key) if isinstance(tree, dict) else None
        if not isinstance(inner, dict):
            if isinstance(tree, dict):
                tree.pop(key, None)
            return
        tree = inner
    if isinstance(tree, dict) and path:
        tree.pop(path[-1], None)


def _files(paths: list[Path]) -> tuple[list[Layer], list[Fault]]:
    layers: list[Layer] = []
    faults: list[Fault] = []
    for path in paths:
        tree, wrong = read_file(path)
        faults += wrong
        layers.append(Layer(_short(path), tree))
    return layers, faults


def _local(path: Path, text: str | None) -> tuple[list[Layer], list[Fault]]:
    """The layer of the owner's file. `text`: in place of what it holds; "" for no such file."""
    if text is None:
        return _files(_if_there(path))
    tree, faults = read_text(text, _short(path))
    return [Layer(_short(path), tree)] if text else [], faults


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
    if (
        isinstance(block, dict)
        and block.get("pause_ms") not in (None, "")
        and isinstance(conversation, dict)
        and _is_pause(conversation.get("pause_ms", "auto"))  # what is wrong must be told, not replaced
    ):
        merged.tree["conversation"] = {**conversation, "pause_ms": block["pause_ms"]}
        merged.origins["conversation", "pause_ms"] = f"VAD.{name}.pause_ms"


def _is_pause(written: object) -> bool:
    return written == "auto" or str(written).strip().removesuffix(".0").isdigit()


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
