"""Whether the secrets that an operator chose can be guessed.

Whoever has a device's token can try signing keys at home, as fast as a machine computes; the others can only be tried
here, slowly. A length and a number of different characters are no proof of strength, but they stop what gets guessed
first. Secrets that another system sets, and that must be equal to its own, are warned about and not refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xiaozhi.errors import Fault
from xiaozhi.settings.layers import Merged

SHORTEST = 16
FEWEST_DIFFERENT = 8
COMMAND = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
_OWN = (("server", "auth_key"), ("server", "secret"), ("server", "admin_token"))
_OF_OTHERS = (("manager-api", "secret"), ("server", "mqtt_signature_key"))


def weak_secrets(merged: Merged) -> Iterator[Fault]:
    """Faults: secrets of this server that can be guessed."""
    for path in _OWN:
        why = _weakness(merged.tree, path)
        if why:
            source = merged.origin(path)
            said = f" (set by {source})" if source else ""
            yield Fault(".".join(path), why, f"{_EXPECTED}; a good one: {COMMAND}{said}")


def weak_secrets_of_others(tree: Mapping[str, Any]) -> list[str]:
    """Warnings: secrets shared with another system that can be guessed."""
    return [
        f"{'.'.join(path)} can be guessed ({why}): {_EXPECTED}, here and in the system that shares it; "
        f"a good one: {COMMAND}"
        for path in _OF_OTHERS
        if (why := _weakness(tree, path))
    ]


_EXPECTED = f"must be at least {SHORTEST} characters, {FEWEST_DIFFERENT} of them different"


def _weakness(tree: Mapping[str, Any], path: tuple[str, str]) -> str:
    """What is weak about the secret at this place, without telling it; "" when nothing is or there is none."""
    section = tree.get(path[0])
    value = section.get(path[1]) if isinstance(section, Mapping) else None
    if not isinstance(value, str | int | float) or isinstance(value, bool) or value == "":
        return ""  # not set, or no text, which the schema says
    text = str(value)
    if len(text) < SHORTEST:
        return f"{len(text)} characters"
    different = len(set(text))
    return f"{different} different characters" if different < FEWEST_DIFFERENT else ""
