"""What may be shown of secrets: nothing but that they are set.

Three ways to know one: typed fields say so (`SecretStr`), in blocks that are carried as written the key's name gives it
away, and in free text its shape does. The last two err on the side of silence: a harmless value that is called `key` is
masked too. Headers are masked whole, whatever they are called. Addresses keep their host and lose their password and
the secret parts of their query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml
from pydantic import SecretStr

from xiaozhi.settings.schema import Settings

MASK = "***"

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = {
    *(
        "secret",
        "secrets",
        "token",
        "tokens",
        "password",
        "passwords",
        "passwd",
        "pwd",
        "pass",
        "passphrase",
        "authorization",
    ),
    *("credential", "credentials", "cookie", "cookies", "bearer", "jwt", "apikey", "apikeys", "sk", "ak", "signature"),
}
_KEY_WORDS = ("key", "keys")
# Numbers under such names are amounts: first_token, token_limit, max_tokens.
_AMOUNT_WORDS = {"max", "min", "first", "limit", "count", "timeout", "budget", "history", "total", "tokens", "per"}
_HEADERS = "headers"
_ACCOUNTS = {"appid", "app_id", "appId", "AppId", "AppID", "APPID"}
_SECRET_QUERY = re.compile(
    r"(?i)([?&;][^=&;\s]*(?:key|token|secret|passw|pwd|auth|sign|credential|appid)[^=&;\s]*=)[^&;#\s]+"
)
# A password may hold what it must not, a slash or a blank; then more is masked than the password.
_USER_INFO = re.compile(r"(://)(?:[^/\s@]+|[^/\s:@]*:[^@\n]*)@|(?<![\w/.])[^\s:/@]+:[^\s:/@]+@(?=[\w\[])")
_SHAPES = re.compile(
    r"(?i)\b((?:bearer|basic|token)\s+)[a-z0-9._~+/=-]{6,}"
    r"|\b(?:sk|pk|rk|ak|xox[abprs]|ghp|gho|glpat|hf|gsk)[-_][a-z0-9_-]{8,}"
    r"|\beyJ[a-z0-9_-]{8,}\.[a-z0-9_.-]+"
)
_NAMED = re.compile(r"""(?<![\w?&;/])([A-Za-z][\w.-]{1,40})(["']?\s{0,3}[:=]\s{0,3}["']?)([^\s"',;&#*]+)""")


def looks_secret(key: str, value: Any = "") -> bool:
    """True when the name of a key says that its value must not be shown. `value` only tells amounts from secrets."""
    words = [word.lower() for word in _WORDS.findall(key)]
    if not words:
        return False
    if isinstance(value, int | float) and not _AMOUNT_WORDS.isdisjoint(words):
        return False
    compact = "".join(words)
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or words[-1] in _KEY_WORDS
        or "access_key" in key.lower()
        or compact.endswith("key")
    )


def hides(key: str, value: Any = "") -> bool:
    """True when the value of a key is not shown: secrets, numbers of accounts with vendors, headers of any kind."""
    return looks_secret(key, value) or key in _ACCOUNTS or key.lower().endswith(_HEADERS)


def mask_text(text: str) -> str:
    """`text` without what is secret by its shape, by the name before it, or as part of an address."""
    text = _USER_INFO.sub(lambda match: f"{match[1] or ''}{MASK}@", _SECRET_QUERY.sub(rf"\1{MASK}", text))
    text = _SHAPES.sub(lambda match: f"{match[1] or ''}{MASK}", text)
    return _NAMED.sub(_mask_named, text)


def _mask_named(match: re.Match[str]) -> str:
    name, between, value = match.groups()
    hidden = hides(name, int(value) if value.isascii() and value.isdigit() and len(value) < 10 else value)
    return f"{name}{between}{MASK}" if hidden else match[0]


def mask_tree(value: Any, key: str = "") -> Any:
    """A copy of plain data, secrets masked, as dicts and lists that YAML can write. Empty values stay visible: "not
    set" is no secret."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, Mapping) and key.lower().endswith(_HEADERS):
        return {str(name): MASK if item else item for name, item in value.items()}
    if key and value not in ("", None, [], {}, ()) and not isinstance(value, bool) and hides(key, value):
        return MASK
    if isinstance(value, Mapping):
        return {str(name): mask_tree(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_tree(item) for item in value]
    if isinstance(value, str):
        return mask_text(value)
    return str(value) if isinstance(value, PurePath) else value


def masked(settings: Settings) -> dict[str, Any]:
    """The whole configuration under the names of the file, secrets masked: fit for a terminal and a bug report."""
    tree: dict[str, Any] = mask_tree(settings.model_dump(by_alias=True))
    return tree


def masked_yaml(settings: Settings) -> str:
    """`masked` as YAML text."""
    return yaml.safe_dump(masked(settings), allow_unicode=True, sort_keys=False, width=120)
