"""Which MCP servers a configuration names: `mcp.servers`, and the file that owners of the existing server have.

Reads and checks; connects nothing (`server_mcp.py` does). A fault in `mcp.servers` refuses the configuration as any
other does; the file is somebody else's too, so what is wrong in it costs one server and is told."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr, ValidationError

from xiaozhi.errors import Fault
from xiaozhi.settings import Settings, checks
from xiaozhi.settings.mcp import McpServerBlock

FILE = ".mcp_server_settings.json"
MAX_FILE_BYTES = 1 << 20
SSE_SECONDS = 5.0
HTTP_SECONDS = 30.0
SHORTEST_SECRET = 6
"""Shorter values are switches and numbers; to mask them would spoil every text."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server, ready to be connected to."""

    name: str
    params: Mapping[str, Any] = field(repr=False)
    """What the sidecar is told (`sidecar/mcp_clients.py`)."""
    call_seconds: float | None = None
    """One tool call; None: `tool_call_timeout`."""
    late_after: float | None = None
    """When the conversation goes on without it; None: `conversation.late_answer_seconds`."""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def key(self) -> str:
        """Equal for servers that one connection can serve; a digest, as it is made of secrets."""
        content = json.dumps([self.name, self.params, self.call_seconds, self.late_after], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@dataclass(slots=True)
class McpServers:
    """What was found."""

    servers: list[McpServer] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def configured_servers(settings: Settings, environ: Mapping[str, str] = os.environ) -> McpServers:
    """The servers of a configuration, those of the file first; of two of one name that of `mcp.servers` counts."""
    found = McpServers()
    blocks: dict[str, McpServerBlock] = {}
    for name, written in _of_the_file(settings.data_dir / FILE, found.warnings).items():
        block = _read(name, written, found.warnings)
        if block is not None:
            blocks[name] = block
    blocks |= settings.mcp.servers
    for name, block in blocks.items():
        if block.disabled:
            continue
        try:
            found.servers.append(_made(name, block, settings.tool_call_timeout, environ))
        except KeyError as missing:
            variable = missing.args[0]
            if name in settings.mcp.servers:
                expected = f"names the environment variable {variable}, which must be set"
                found.faults.append(Fault(f"mcp.servers.{name}", f"${{{variable}}}", expected))
            else:
                found.warnings.append(f"{FILE}: {name} is left out: the environment variable {variable} is not set")
    return found


def _of_the_file(path: Path, warnings: list[str]) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        warnings.append(f"{path} cannot be read ({error.strerror}); its MCP servers are left out")
        return {}
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError("too long")
        blocks = json.loads(text.decode("utf-8-sig"))["mcpServers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "no mcpServers"
        warnings.append(f'{path} is not JSON of the form {{"mcpServers": {{...}}}} ({where}); it is ignored')
        return {}
    if not isinstance(blocks, dict):
        warnings.append(f"{path}: mcpServers must be an object of servers by name; it is ignored")
        return {}
    return blocks


def _read(name: str, written: Any, warnings: list[str]) -> McpServerBlock | None:
    """A block of the file; None, and a warning, for one that cannot be used."""
    where = f"{FILE}: {name}"
    try:
        block = McpServerBlock.model_validate(written)
    except ValidationError as error:
        faults = "; ".join(f"{fault.key}: {fault.expected}" for fault in checks.field_faults(error))
        warnings.append(f"{FILE}: {name} is left out: {faults}")
        return None
    warnings += [f"{where}: {warning}" for warning in checks.unknown_keys(written, McpServerBlock)]
    return block


def _made(name: str, block: McpServerBlock, usual: float, environ: Mapping[str, str]) -> McpServer:
    """Raises KeyError with the name of an environment variable that is not set."""

    def filled(text: str | SecretStr) -> str:
        plain = text.get_secret_value() if isinstance(text, SecretStr) else text
        return _VARIABLE.sub(lambda match: _value(match, environ), plain)

    if block.command:
        env = {key: filled(value) for key, value in block.env.items()}
        params: dict[str, Any] = {
            "command": filled(block.command),
            "args": [filled(text) for text in block.args],
            "env": env,
            "cwd": filled(block.cwd) or None,
        }
        seconds = block.tool_call_timeout or block.timeout
        return McpServer(name, params, seconds, block.late_answer_seconds, _secret(env.values()))
    url = filled(block.url)
    headers = {key: filled(value) for key, value in block.headers.items()}
    token = filled(block.API_ACCESS_TOKEN)
    if token and not any(key.lower() == "authorization" for key in headers):
        headers["Authorization"] = f"Bearer {token}"
    sse = block.transport in (None, "sse", "stdio")
    params = {
        "url": url,
        "transport": "sse" if sse else "streamable-http",
        "headers": headers,
        "timeout": block.timeout or (SSE_SECONDS if sse else HTTP_SECONDS),
        "sse_read_timeout": block.sse_read_timeout,
        "terminate_on_close": block.terminate_on_close,
    }
    longer = block.timeout if block.timeout is not None and block.timeout > usual else None
    values = [*headers.values(), token, *(value for _, value in parse_qsl(urlsplit(url).query))]
    bare = [value.partition(" ")[2] for value in headers.values()]
    seconds = block.tool_call_timeout or longer
    return McpServer(name, params, seconds, block.late_answer_seconds, _secret([*values, *bare]))


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name, default = match[1], match[2]
    if default is not None:
        return environ.get(name) or default
    return environ[name]


def _secret(values: Any) -> tuple[str, ...]:
    """The longest first, so that a part of one does not spoil it."""
    return tuple(sorted({value for value in values if len(value) >= SHORTEST_SECRET}, key=len, reverse=True))
