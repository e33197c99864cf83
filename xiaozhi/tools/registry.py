"""Finds the server's own tools and builds those that the configuration asks for.

A tool is a function, or a method of a class, with the decorator `@tool(name, Options)` in a file of `tools/plugins/`,
of a folder that `plugins.dirs` names, or in an installed package. Files are found by looking into the folders, so no
list is edited to add one. `select` checks a configuration and builds nothing; `Selection.build` makes the tools. Not
for tools of devices and foreign servers: those come from their own sources while the server runs."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings import checks
from xiaozhi.tools import discovery, plugins
from xiaozhi.tools.base import FixedTools, ToolOptions, ToolServices
from xiaozhi.tools.declared import DeclaredTool, Signature, ToolFunction, signature_of

ALWAYS = ("handle_exit_intent", "get_time")
"""On offer whatever the configuration lists."""

ALIKE = 0.75
"""Likeness (0 to 1) of a name that may have been meant; many names begin alike (get_, hass_)."""

F = TypeVar("F", bound=ToolFunction)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the decorator was told."""

    name: str
    options: type[ToolOptions]
    answers_directly: str
    uninterruptible: bool
    timeout: float | None
    late_after: float | None


_declared: WeakKeyDictionary[Any, Declaration] = WeakKeyDictionary()
"""By function."""


def tool(
    name: str,
    options: type[ToolOptions] = ToolOptions,
    *,
    answers_directly: str = "",
    uninterruptible: bool = False,
    timeout: float | None = None,
    late_after: float | None = None,
) -> Callable[[F], F]:
    """Decorator: this function, or this method of a class, is the tool `name`.

    `options` is the class of its options, read from the block of `plugins` that is named like the file (or as the class
    of options says). A class with such methods is built once for all of them, as `cls(options, services)`.
    `answers_directly`, `uninterruptible`, `timeout` and `late_after` (seconds): see Tool."""

    def declare(function: F) -> F:
        _declared[function] = Declaration(name, options, answers_directly, uninterruptible, timeout, late_after)
        return function

    return declare


@dataclass(frozen=True, slots=True)
class FoundTool:
    """A tool that a file declares."""

    declaration: Declaration
    file: str
    """Name of the module, without its package."""
    function: ToolFunction
    owner: type[Any] | None
    """The class it is a method of."""
    signature: Signature

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names its options may stand under, below `plugins`."""
        return self.declaration.options.blocks or (self.file,)


def tools_of(module: ModuleType) -> list[FoundTool]:
    """The tools that a module declares, in the order of the file. Raises TypeError saying what is to be mended."""
    file = module.__name__.rpartition(".")[2]
    found: list[FoundTool] = []
    owned: dict[type[Any], type[ToolOptions]] = {}
    for function, owner in _functions(module):
        declaration = _declared.get(function)
        if declaration is None:
            continue
        if owner is not None and owned.setdefault(owner, declaration.options) is not declaration.options:
            raise TypeError(f"{module.__name__}: the tools of {owner.__name__} must have one class of options")
        signature = signature_of(function, is_method=owner is not None)
        carrier = declaration.answers_directly
        if carrier and carrier not in signature.parameters["properties"]:
            raise TypeError(f"{module.__name__}: tool {declaration.name} has no parameter {carrier!r} to answer with")
        found.append(FoundTool(declaration, file, function, owner, signature))
    return found


def _functions(module: ModuleType) -> Iterator[tuple[FunctionType, type[Any] | None]]:
    """Functions and methods that a module itself defines, with the classes of the latter."""
    for value in vars(module).values():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield value, None
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for member in vars(value).values():
                if isinstance(member, FunctionType):
                    yield member, value


class Catalog:
    """The tools of some modules, by name. Tools of `added` modules take the place of others of the same name. Raises
    TypeError when two of `modules`, or two of `added`, cannot stand side by side."""

    def __init__(self, modules: Iterable[ModuleType], added: Iterable[ModuleType] = ()) -> None:
        self.tools: dict[str, FoundTool] = {}
        self.files: dict[str, list[FoundTool]] = {}
        self.blocks: dict[str, type[ToolOptions]] = {}
        """Class of options by name of the block below `plugins`."""
        for module in modules:
            for found in tools_of(module):
                self._add(found)
        own = Catalog(added) if (added := list(added)) else None
        self.replaced = sorted(set(self.tools) & set(own.tools)) if own is not None else []
        """Tools of this tree that are somebody else's now."""
        if own is not None:
            self.tools |= own.tools
            self.files |= own.files
            for file, tools in self.files.items():
                self.files[file] = [self.tools[each.name] for each in tools]
            self.blocks |= own.blocks
        for name in self.tools:
            # `plugins.<tool>.description` is there for every tool, wherever its options stand.
            self.blocks.setdefault(name, ToolOptions)

    def _add(self, found: FoundTool) -> None:
        twin = self.tools.setdefault(found.name, found)
        if twin is not found:
            raise TypeError(f"the tool {found.name} is declared in {twin.file} and in {found.file}")
        self.files.setdefault(found.file, []).append(found)
        for block in found.blocks:
            options = found.declaration.options
            known = self.blocks.get(block, ToolOptions)
            if ToolOptions not in (known, options) and known is not options:
                raise TypeError(f"plugins.{block} has two classes of options: {known.__name__}, {options.__name__}")
            if options is not ToolOptions or block not in self.blocks:
                self.blocks[block] = options

    def named(self, name: str) -> list[FoundTool]:
        """The tools of the file `name`, or the tool `name`; none when there is neither."""
        return self.files.get(name) or [found for found in (self.tools.get(name),) if found is not None]


def catalog(dirs: Iterable[Path] = ()) -> Catalog:
    """The tools of this tree, of installed packages, and of the files in `dirs`. Raises SettingsError when a folder or
    a file cannot be used."""
    files = [file for folder in dirs for file in discovery.files_of(folder)]
    return _catalog(tuple((file, file.stat().st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=4)
def _catalog(files: tuple[tuple[Path, int], ...]) -> Catalog:
    names = sorted(module.name for module in pkgutil.iter_modules(plugins.__path__))
    own = [importlib.import_module(f"{plugins.__name__}.{name}") for name in names]
    added = [*discovery.installed(), *(discovery.loaded(file) for file, _ in files)]
    if not added:
        return Catalog(own)
    try:
        return Catalog(own, added)
    except TypeError as error:
        raise SettingsError([Fault("plugins.dirs", ", ".join(str(file) for file, _ in files), str(error))]) from error


@dataclass(frozen=True, slots=True)
class Chosen:
    """A tool with its options, as the configuration has them."""

    found: FoundTool
    options: ToolOptions
    description: str
    """As configured; "": the tool's own."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """The server's own tools, built."""

    source: FixedTools
    briefing: str
    """What they have to say in the system prompt."""
    owners: Mapping[type[Any], Any]

    def owner(self, cls: type[T]) -> T | None:
        """The object that has the tools of a class of tools; None when none of them is on offer."""
        return self.owners.get(cls)


@dataclass(frozen=True, slots=True)
class Selection:
    """The tools that a configuration asks for: checked, not built."""

    chosen: tuple[Chosen, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    """What has no effect, or cannot work as configured, and why."""

    def build(self, services: ToolServices) -> Plugins:
        """The tools. Raises SettingsError with every fault."""
        if self.faults:
            raise SettingsError(self.faults)
        owners: dict[type[Any], Any] = {}
        tools = [_built(chosen, services, owners) for chosen in self.chosen]
        briefings = dict.fromkeys(chosen.options.briefing() for chosen in self.chosen)
        return Plugins(FixedTools("plugins", tools), "\n\n".join(filter(None, briefings)), owners)


def select(
    names: Iterable[str],
    blocks: Mapping[str, Any],
    *,
    where: str = "functions",
    known: Catalog | None = None,
    untouched: Collection[str] = (),
    listed: bool = True,
    under_console: bool = False,
) -> Selection:
    """What `names` (tools, or files with all their tools) and ALWAYS mean with the options in `blocks` (the section
    `plugins` of the configuration). `where`: the key that lists the names, for warnings. `untouched`: blocks that
    stand as they ship; `listed`: whether somebody wrote the names. What nobody wrote is not warned about, nor what a
    console has (`under_console`). Raises nothing.

    Names nobody knows are warned about, not refused: files of the existing server list tools that this one may not
    have."""
    faults: list[Fault] = []
    if known is None:
        try:
            known = catalog(discovery.folders(blocks.get(discovery.DIRS)))
        except SettingsError as error:
            faults += error.faults
            known = catalog()
    warnings = [
        f"the tool {name} is that of {known.tools[name].file}, not this server's own" for name in known.replaced
    ]
    wanted: dict[str, FoundTool] = {}
    for name in dict.fromkeys([*ALWAYS, *names]):
        found = known.named(name)
        if not found and name not in ALWAYS:
            near = checks.nearest(name, [*known.tools, *known.files], ALIKE)
            hint = f"; the nearest is {near}" if near else ""
            warnings.append(f"{where}: there is no tool {name}, it is left out{hint}")
        wanted |= {each.name: each for each in found}
    warnings += _ignored({key: block for key, block in blocks.items() if key != discovery.DIRS}, known)
    own = [block for block in blocks if block not in untouched and block != discovery.DIRS]
    warnings += _of_no_use(wanted.values(), own, known, where)
    chosen: list[Chosen] = []
    served: dict[str, list[FoundTool]] = {}
    for each in wanted.values():
        served.setdefault(_block(each, blocks), []).append(each)
    for block, tools in served.items():
        try:
            options = _options(block, blocks.get(block), known.blocks[block])
        except SettingsError as error:
            faults += error.faults
            continue
        chosen += [Chosen(each, options, _description(each, block, options, blocks, known)) for each in tools]
        missing = options.missing_under_console() if under_console else options.missing()
        if missing and (listed or block not in untouched):
            idle = ", ".join(each.name for each in tools)
            warnings.append(f"{idle} cannot work: plugins.{block}.{missing}")
    return Selection(tuple(chosen), tuple(faults), tuple(warnings))


def _block(found: FoundTool, blocks: Mapping[str, Any]) -> str:
    """The block with the options of a tool: the first one that is there."""
    return next((block for block in found.blocks if blocks.get(block)), found.blocks[0])


def _options(block: str, written: Any, model: type[ToolOptions]) -> ToolOptions:
    key = f"plugins.{block}"
    if written is not None and not isinstance(written, Mapping):
        raise SettingsError([Fault(key, checks.shown(written, block), "must be a mapping of options")])
    try:
        return model.model_validate(dict(written or {}))
    except ValidationError as error:
        raise SettingsError(checks.field_faults(error, prefix=f"{key}.")) from error


def _ignored(blocks: Mapping[str, Any], known: Catalog) -> Iterator[str]:
    """Warnings about blocks and keys that have no effect."""
    for block, written in blocks.items():
        model = known.blocks.get(block)
        if model is None:
            near = checks.nearest(block, known.blocks, ALIKE)
            hint = f"; the nearest key is plugins.{near}" if near else ""
            yield f"plugins.{block} means nothing here and is ignored{hint}"
        elif isinstance(written, Mapping):
            yield from checks.unknown_keys(written, model, f"plugins.{block}.")
    for names in dict.fromkeys(model.blocks for model in known.blocks.values()):
        used, *others = [name for name in names if blocks.get(name)] or [""]
        yield from (f"plugins.{other} is ignored: plugins.{used} says the same" for other in others)


def _of_no_use(wanted: Iterable[FoundTool], blocks: Sequence[str], known: Catalog, where: str) -> Iterator[str]:
    """Warnings about blocks whose tools are not on offer."""
    used = {name for found in wanted for name in (*found.blocks, found.name)}
    for block in blocks:
        model = known.blocks.get(block)
        said = next((name for name in model.blocks if name in blocks), block) if model is not None else ""
        if block == said and block not in used:  # another block that says the same has been told of
            yield f"plugins.{block} has no effect: its tools are not on offer; name them in {where}"


def _description(found: FoundTool, block: str, options: ToolOptions, blocks: Mapping[str, Any], known: Catalog) -> str:
    own = blocks.get(found.name)
    if found.name != block and isinstance(own, Mapping) and isinstance(own.get("description"), str):
        return str(own["description"])
    # A block that is named like one tool speaks of that one, not of others in its file.
    return options.description if found.name == block or block not in known.tools else ""


def _built(chosen: Chosen, services: ToolServices, owners: dict[type[Any], Any]) -> DeclaredTool:
    found, options = chosen.found, chosen.options
    function, signature = found.function, found.signature
    if found.owner is not None:
        if found.owner not in owners:
            owners[found.owner] = found.owner(options, services)
        function = getattr(owners[found.owner], function.__name__)
    words = options.words()
    spec = ToolSpec(
        found.name,
        chosen.description or _filled(signature.description, words),
        _filled(signature.parameters, words),
    )
    given = {signature.options: options, signature.services: services}
    declaration = found.declaration
    return DeclaredTool(
        spec,
        function,
        signature,
        {name: value for name, value in given.items() if name},
        answers_directly=declaration.answers_directly,
        uninterruptible=declaration.uninterruptible,
        timeout=declaration.timeout,
        late_after=declaration.late_after,
    )


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """A copy with every `{word}` in its texts replaced."""
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(f"{{{word}}}", text)
    elif isinstance(value, Mapping):
        return {key: _filled(inner, words) for key, inner in value.items()}
    elif isinstance(value, list):
        return [_filled(inner, words) for inner in value]
    return value
