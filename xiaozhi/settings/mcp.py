"""The section `mcp`: MCP servers that the server itself connects to. Blocks are as in the files of other MCP clients,
`data/.mcp_server_settings.json` among them; `tools/mcp_servers.py` reads that file with the same model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator

from xiaozhi.settings.fields import Seconds, SecondsOrOff, Section


class McpServerBlock(Section):
    """One server: a program (`command`) or an address (`url`). `${NAME}` and `${NAME:-default}` in its texts stand for
    environment variables."""

    command: str = Field(default="", description="Program to start, such as npx; wins over url.")
    args: tuple[str, ...] = Field(default=(), repr=False, description="Its arguments.")
    env: dict[str, SecretStr] = Field(default_factory=dict, description="Laid over the server's own environment.")
    cwd: str = Field(default="", description="Its working directory; empty: the server's.")
    url: str = Field(default="", repr=False, description="Address of a server that runs elsewhere.")
    transport: Literal["stdio", "sse", "streamable-http", "http"] | None = Field(
        default=None, description="How an address is spoken to: sse (the default), streamable-http or http."
    )
    type: str = Field(default="", description="What other clients call transport.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="HTTP headers of every request.")
    API_ACCESS_TOKEN: SecretStr = Field(default=SecretStr(""), description="Older spelling of a Bearer header.")
    timeout: Seconds | None = Field(
        default=None,
        description="Program: one tool call, s. Address: one step of HTTP, s (5 for sse, else 30), and one tool call "
        "where it is longer than tool_call_timeout.",
    )
    tool_call_timeout: Seconds | None = Field(default=None, description="One tool call of this server, s.")
    late_answer_seconds: SecondsOrOff | None = Field(
        default=None, description="As conversation.late_answer_seconds, for the tools of this server, s; 0: never."
    )
    sse_read_timeout: Seconds = Field(default=300.0, description="Silence after which a stream is given up, s.")
    terminate_on_close: bool = Field(default=True, description="End the session at the server (streamable-http).")
    disabled: bool = Field(default=False, description="Leave this server out.")
    des: str = Field(default="", description="For people; not used.")
    description: str = Field(default="", description="For people; not used.")
    link: str = Field(default="", description="For people; not used.")

    @model_validator(mode="before")
    @classmethod
    def _spellings_of_other_clients(cls, block: Any) -> Any:
        if not isinstance(block, Mapping):
            return block
        made = {key: value for key, value in block.items() if value is not None}
        if made.get("type") and "transport" not in made:
            made["transport"] = made["type"]
        if isinstance(made.get("transport"), str):
            spoken = made["transport"].lower().replace("_", "-")
            made["transport"] = "streamable-http" if spoken in ("streamablehttp", "streamable") else spoken
        return made

    @model_validator(mode="after")
    def _a_place(self) -> McpServerBlock:
        if not self.disabled and not self.command and not self.url:
            raise ValueError("must have a command (a program) or a url (an address)")
        if not self.command and self.url and not self.url.startswith(("http://", "https://", "${")):
            raise ValueError("its url must start with http:// or https://")
        return self


class McpSettings(Section):
    """MCP servers whose tools every device is offered."""

    servers: dict[str, McpServerBlock] = Field(
        default_factory=dict, description="Servers by name, besides those of .mcp_server_settings.json in log.data_dir."
    )
