"""What single kinds of boards need, and the firmware that they are offered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from xiaozhi.settings.fields import OnOffAreWords, Section, Words

Echo = Annotated[Literal["auto", "on", "off"], OnOffAreWords]
"""Who takes the sound of the loudspeaker out of the microphone's; see `conversation.echo`."""


class Board(Section):
    """What one kind of board needs differently; unset keys follow the general ones."""

    prebuffer_frames: int | None = Field(default=None, ge=1, le=40, description="Frames sent ahead of time.")
    max_prebuffer_frames: int | None = Field(
        default=None, ge=1, le=40, description="Most frames that it is ahead on a line that jitters."
    )
    ping: bool | None = Field(
        default=None, description="WebSocket pings (some boards drop the connection at the first one)."
    )
    protocol_version: Literal[1, 2, 3] | None = Field(
        default=None, description="Binary framing that OTA tells the board to use."
    )
    transport: Literal["auto", "both", "websocket", "mqtt", "gateway"] = Field(
        default="auto",
        description="What OTA tells the board of, where mqtt.port or server.mqtt_gateway is set; auto: both, unless a "
        "proxy is in between.",
    )
    notify: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether it plays messages while it idles (notify); auto: try, and remember it for its firmware.",
    )
    echo: Echo | None = Field(default=None, description="Echo cancelling on the server: auto, on, off.")


class FirmwareRelease(Section):
    """Who is offered one file of data/bin, and how urgently."""

    percent: int = Field(default=100, ge=0, le=100, description="Share of the devices that are offered it.")
    devices: Words = Field(default=(), description="Device ids that are offered it whatever their share.")
    force: bool = Field(
        default=False, description="Install it whatever the device runs, also if that is newer (OTA field force)."
    )


@dataclass(frozen=True, slots=True)
class BoardTraits:
    """What holds for the device at hand: `boards` laid over the general keys."""

    prebuffer_frames: int
    ping: bool
    protocol_version: int | None
    """None: the device keeps the framing it announced."""
    transport: str = "auto"
    """What OTA tells of: "auto", "both", "websocket", "mqtt", "gateway"."""
    notify: Literal["auto"] | bool = "auto"
    """Whether it plays messages while it idles."""
    max_prebuffer_frames: int = 4
    """Without effect where it is less than `prebuffer_frames`."""
    echo: str = "auto"
    """Echo cancelling on the server: "on", "off", "auto" (for devices that ask for it)."""
