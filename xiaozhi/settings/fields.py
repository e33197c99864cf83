"""The kinds of values the schema is made of: a strict, frozen section, and addresses that are checked for their shape.

Not a validator of reachability: nothing here opens a socket. Files are looked for, because a server that starts and
then cannot read its certificate helps nobody.

pydantic's lax mode is kept (`port: "8000"` is a port) but not where it surprises: `port: true` is not port 1, and
YAML's habit of reading `off` as a boolean does not make a mode unknown. Where pydantic is stricter than people are,
`AsWritten` takes what they mean: '24000' for one of some numbers, one text for a list of texts. Management consoles
keep mappings and lists as JSON texts, and an empty list as an empty mapping."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from xiaozhi.settings.redis_address import read_address

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")


_LINES = re.compile(r"[;；\r\n]")
_WORDS = re.compile(r"[,，、;；\r\n]")


class _Commas:
    """Marks a list whose texts have no commas in them."""


class AsWritten(BaseModel):
    """A model that takes values as people write them in YAML."""

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        if (not isinstance(value, bool | str) and value != {}) or not info.field_name:
            return value
        field = cls.model_fields[info.field_name]
        kinds = list(_alternatives(field.annotation))
        lists = any(get_origin(kind) in (tuple, list) for kind in kinds)
        mappings = any(get_origin(kind) is dict or _is_model(kind) for kind in kinds)
        if value == {}:
            return [] if lists and not mappings else value
        if isinstance(value, bool):
            if bool not in kinds and (int in kinds or float in kinds):
                raise ValueError("must be a number, not a switch")
            return value
        numbers = [number for kind in kinds if get_origin(kind) is Literal for number in get_args(kind)]
        if numbers and all(type(number) is int for number in numbers):
            return next((number for number in numbers if value.strip() in (str(number), f"{number}.0")), value)
        if str not in kinds and (lists or mappings) and value.lstrip().startswith(("{", "[")):
            try:
                return orjson.loads(value)
            except orjson.JSONDecodeError:
                return value
        if str not in kinds and any(get_origin(kind) in (tuple, list) and _of_texts(kind) for kind in kinds):
            return words(value) if _Commas in field.metadata else _parts(value, _LINES)
        return value


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def words(text: str) -> list[str]:
    """The texts that one text names, parted by commas, semicolons or lines."""
    return _parts(text, _WORDS)


def _parts(text: str, between: re.Pattern[str]) -> list[str]:
    return [part.strip() for part in between.split(text) if part.strip()]


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types of `int | None` one by one, without what annotates them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (UnionType, Union):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _of_texts(sequence: Any) -> bool:
    return str in _alternatives(get_args(sequence)[0])


class Section(AsWritten):
    """A mapping of the configuration. Unknown keys are left to `checks.unknown_keys`, which knows what was meant."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        coerce_numbers_to_str=True,  # a password of digits is still a password
        allow_inf_nan=False,
    )


def _host_and_port(netloc: str) -> bool:
    """True for host, host:port, [v6] and [v6]:port with a legal port."""
    try:
        parts = urlsplit(f"//{netloc}")
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    if port == 0:
        return False
    if ":" in host:
        return True  # urlsplit has checked what stands in brackets
    return _HOST.fullmatch(host) is not None


_WEBSOCKET = (("ws", "wss"), "ws://192.168.1.2:8000/xiaozhi/v1/")


def _url(schemes: tuple[str, ...], example: str) -> AfterValidator:
    return AfterValidator(lambda value: _checked_url(value, schemes, example))


def _checked_url(value: str, schemes: tuple[str, ...], example: str) -> str:
    value = value.strip()
    if not value:
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError(f"must be an address such as {example}, or empty") from None
    known = parts.scheme in schemes and _host_and_port(parts.netloc.rpartition("@")[2])
    if not known or re.search(r"\s", value):
        raise ValueError(
            f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)} "
            f"and a host, such as {example}, or be empty"
        )
    return value


def _websocket_urls(value: str) -> str:
    return ";".join(filter(None, (_checked_url(one, *_WEBSOCKET) for one in value.split(";"))))


def _database_url(value: str) -> str:
    value = value.strip()
    scheme, _, rest = value.partition("://")
    if not value or (scheme == "sqlite" and rest.startswith("/") and len(rest) > 1):
        return value
    host, slash, name = rest.partition("/")
    if "@" in name or host.count("@") > 1:
        raise ValueError("must write @ and / in a user name or password as %40 and %2F")
    if scheme in ("postgresql", "postgresql+psycopg") and slash and name and not re.search(r"\s", value):
        return value
    raise ValueError("must be sqlite:///path/to/file, postgresql://user:password@host/name, or empty")


def _redis_url(value: SecretStr) -> SecretStr:
    if value.get_secret_value().strip():
        read_address(value.get_secret_value())
    return value


def _listen_address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        # All-numeric names are addresses that were mistyped, never host names.
        if _HOST.fullmatch(value) is None or re.fullmatch(r"[0-9.]+", value):
            raise ValueError(
                "must be an IP address (0.0.0.0 for all of this machine's, :: for IPv6 as well) or a host name"
            ) from None
    return value


def _gateway(value: str) -> str:
    value = value.strip()
    if value.lower() in ("", "null", "none"):  # consoles store an unset value as the word
        return ""
    if not re.search(r":[0-9]+$", value) or not _host_and_port(value):
        raise ValueError("must be host:port, such as 192.168.1.2:1883, or empty")
    return value


def _host_name(value: str) -> str:
    value = value.strip()
    if value.lower() in ("", "null", "none"):
        return ""
    if _HOST.fullmatch(value) is None:
        raise ValueError("must be a host name or an IPv4 address, such as 192.168.1.2, or empty")
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value.strip(), strict=False))
    except ValueError:
        raise ValueError("must be an address or a network in CIDR notation, such as 10.0.0.0/8") from None


def _origin(value: str) -> str:
    value = value.strip().rstrip("/")
    if value in ("*", "null"):
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if not parts.scheme or not parts.netloc or value != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("must be the origin of web pages, such as https://pages.example.com:8443, or null, or *")
    return value


def _existing_file(value: str) -> str:
    if value and not Path(value).is_file():
        raise ValueError(
            "must be the path of an existing file (relative paths start at the working directory), or empty"
        )
    return value


def _by_language(value: Any) -> Any:
    texts = value if isinstance(value, dict) else {"": value}
    if any(not isinstance(text, str) or not text.strip() for text in texts.values()) or not texts:
        raise ValueError("must be a text, or texts by language, such as {en: Sorry., de: Entschuldigung.}")
    return {str(language).strip().lower(): text for language, text in texts.items()}


def text_in(texts: Mapping[str, str], language: str) -> str:
    """The text for a language ("zh-CN", "en", "": unknown), of a `TextByLanguage`; "" of none. One that has no text is
    served in English, else in the first language there is."""
    tag = language.lower().replace("_", "-")
    tags = (tag, tag.partition("-")[0], "", "en", *texts)
    return next((texts[tag] for tag in tags if tag in texts), "")


def _log_level(value: Any) -> Any:
    if isinstance(value, str):
        level = value.strip().upper()
        # Two names of another logging library that its users' files contain.
        return {"TRACE": "DEBUG", "SUCCESS": "INFO", "WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level)
    return value


def _none_is_a_word(value: Any) -> Any:
    # Consoles store an unset value as the word.
    return "" if isinstance(value, str) and value.strip().lower() in ("null", "none") else value


def _off_is_a_word(value: Any) -> Any:
    return "off" if value is False else value


def _on_and_off_are_words(value: Any) -> Any:
    # In YAML they are true and false.
    return "on" if value is True else _off_is_a_word(value)


Port = Annotated[int, Field(ge=0, le=65535)]
"""Zero is any free port, which is what tests want."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]
SecondsOrOff = Annotated[float, Field(ge=0, le=86_400)]
"""Zero switches off."""
CountOrUnlimited = Annotated[int, Field(ge=0, le=1_000_000)]
"""Zero is no limit."""
WebSocketUrl = Annotated[str, _url(*_WEBSOCKET)]
EndpointUrl = Annotated[WebSocketUrl, BeforeValidator(_none_is_a_word)]
HttpUrl = Annotated[str, _url(("http", "https"), "http://192.168.1.2:8003/path")]
WebSocketUrls = Annotated[
    str,
    BeforeValidator(lambda value: ";".join(map(str, value)) if isinstance(value, list | tuple) else value),
    AfterValidator(_websocket_urls),
]
"""One address or several, parted by semicolons, as in consoles; or a list of them."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
"""Empty is none; `read_address` takes it apart."""
ListenAddress = Annotated[str, AfterValidator(_listen_address)]
Gateway = Annotated[str, AfterValidator(_gateway)]
HostName = Annotated[str, AfterValidator(_host_name)]
"""Empty is none."""
Network = Annotated[str, AfterValidator(_network)]
Origin = Annotated[str, AfterValidator(_origin)]
Words = Annotated[tuple[str, ...], _Commas]
"""Texts without commas in them: one text may name several, parted by commas."""
Networks = Annotated[tuple[Network, ...], _Commas]
Origins = Annotated[tuple[Origin, ...], _Commas]
ExistingFile = Annotated[str, AfterValidator(_existing_file)]
"""Empty is none."""
TextByLanguage = Annotated[dict[str, str], BeforeValidator(_by_language)]
"""What is said, by language (ISO 639, or a BCP 47 tag); a text alone is for all of them. See `text_in`."""
LogLevel = BeforeValidator(_log_level)
EmptyIsNone = BeforeValidator(lambda value: None if value == "" else value)
OffIsAWord = BeforeValidator(_off_is_a_word)
OnOffAreWords = BeforeValidator(_on_and_off_are_words)
