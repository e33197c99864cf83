"""Other places where people write a key, and a section whose keys lost their indentation.

Works on one layer at a time, before layers are laid over each other, so that a key counts in the layer that wrote it,
wherever it stood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from xiaozhi.errors import Fault
from xiaozhi.settings.layers import Layer, Path
from xiaozhi.settings.schema import SECTIONS, Settings

OTHER_PLACES: Mapping[str, str] = {
    # As the profiles of the performance report are written: flat.
    "max_connections": "server.max_connections",
    "connection_timeout": "server.connection_timeout",
    "thread_pool_max_workers": "server.thread_pool.max_workers",
    "thread_pool_queue_size": "server.thread_pool.queue_size",
    "server.thread_pool_max_workers": "server.thread_pool.max_workers",
    "server.thread_pool_queue_size": "server.thread_pool.queue_size",
    "thread_pool.max_workers": "server.thread_pool.max_workers",
    "thread_pool.queue_size": "server.thread_pool.queue_size",
    "heartbeat_interval": "server.heartbeat_interval",
    "heartbeat_timeout": "server.heartbeat_timeout",
    # As the management console calls it.
    "chat_history_conf": "history.mode",
}
"""Where a key is also found -> where it stands."""


def respelled(layer: Layer) -> tuple[Layer, list[Fault]]:
    """The layer with every key in its own place. A fault where both places say something else."""
    tree: dict[str, Any] = dict(layer.tree)
    faults: list[Fault] = []
    for other, own in OTHER_PLACES.items():
        path = tuple(other.split("."))
        value = _taken(tree, path)
        if value is None:
            continue
        target = tuple(own.split("."))
        there = _at(tree, target)
        if there is None:
            _put(tree, target, value)
        elif there != value:
            faults.append(
                Fault(other, repr(value)[:80], f"says the same as {own}, which is {there!r} ({layer.source})")
            )
    return (Layer(layer.source, tree) if tree != layer.tree else layer), faults


def lost_indentation(layer: Layer) -> list[Fault]:
    """A fault for every key that follows an empty section and belongs into it."""
    return list(_lost(layer.tree, Settings, "", layer.source))


def _lost(tree: Mapping[str, Any], model: type[BaseModel] | None, prefix: str, source: str) -> Iterator[Fault]:
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()} if model else {}
    blocks = prefix.rstrip(".") in SECTIONS.values()
    above: str | None = None
    for key, value in tree.items():
        known = key in fields or (blocks and (value is None or isinstance(value, Mapping)))
        if known:
            above = key if value is None else None
            inner = _model_of(fields.get(key))
            if isinstance(value, Mapping) and (inner is not None or key in SECTIONS.values()):
                yield from _lost(value, inner, f"{prefix}{key}.", source)
        elif above is not None and (blocks or _belongs(key, value, fields.get(above), above)):
            yield Fault(
                f"{prefix}{key}",
                f"at the same indentation as the empty {prefix}{above}",
                f"must stand below '{above}:', indented by two spaces more ({source})",
            )


def _belongs(key: str, value: Any, annotation: Any, section: str) -> bool:
    model = _model_of(annotation)
    if model is not None:
        return any(key in (name, field.alias) for name, field in model.model_fields.items())
    return section in SECTIONS.values() and isinstance(value, Mapping) and "type" in value


def _model_of(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _at(tree: Mapping[str, Any], path: Path) -> Any:
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _taken(tree: dict[str, Any], path: Path) -> Any:
    """The value at `path`, which is no longer there; None when there is none. Mappings on the way are copied."""
    if len(path) == 1:
        value = tree.get(path[0])
        return None if value is None or isinstance(value, Mapping) else tree.pop(path[0])
    inner = tree.get(path[0])
    if not isinstance(inner, Mapping) or path[1] not in inner:
        return None
    copy = dict(inner)
    value = _taken(copy, path[1:])
    if value is not None:
        tree[path[0]] = copy
        if not copy:
            del tree[path[0]]
    return value


def _put(tree: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        inner = tree.get(key)
        tree[key] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        tree = inner
    tree[path[-1]] = value
