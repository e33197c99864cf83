"""The addresses of this server: for devices (WebSocket, OTA, firmware, pictures) and for the people who set them up.

Every address that is handed out is made here, from what is configured or else from how the asker reached us
(`net/origin.py`). Not a decision about who may ask."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from xiaozhi.net.origin import Origin, bracketed
from xiaozhi.settings.server import websocket_of

WEBSOCKET_PATH: Final = "/xiaozhi/v1/"
OTA_PATH: Final = "/xiaozhi/ota/"
VISION_PATH: Final = "/mcp/vision/explain"
PICTURE_PATH: Final = "/device-pictures/"
SOUND_PATH: Final = "/device-sounds/"
# Left in by those who copied the example of the existing server: "put your address here".
_PLACEHOLDER: Final = "你的"


@dataclass(frozen=True, slots=True)
class Ports:
    """The two ports of this server."""

    devices: int = 8000
    http: int = 8003


@dataclass(frozen=True, slots=True)
class ServerAddresses:
    """See the module. An origin is one of the HTTP port unless it says otherwise."""

    ports: Callable[[], Ports] = Ports
    """The ports in use: with port 0 they are known only after the start."""
    tls: bool = False
    """Both ports speak TLS."""
    websocket: str = ""
    """Configured, several parted by semicolons; handed out as they are."""
    choose: Callable[[tuple[str, ...]], str] = random.choice
    """Which of several a device is told."""
    public_url: str = ""
    """Configured: where both ports are reached from outside."""
    vision: str = ""
    """Configured; handed out as it is."""
    ota: str = ""
    """Of a management console that devices ask in the place of this server."""

    def websocket_url(self, origin: Origin) -> str:
        """Where devices connect."""
        configured = tuple(filter(_is_set, self.websocket.split(";")))
        if configured:
            return configured[0] if len(configured) == 1 else self.choose(configured)
        return websocket_of(self.public_url) if self.public_url else self._websocket_at(origin)

    def websocket_urls(self, origin: Origin) -> tuple[str, ...]:
        """Where a page that was reached in this way may connect, the nearest first: at the same host, unless the port
        is another one from outside (a container), and where devices are told to."""
        return tuple(dict.fromkeys((self._websocket_at(origin), self.websocket_url(origin))))

    def for_people(self, host: str) -> tuple[str, str, str]:
        """What to tell whoever starts the server: WebSocket, OTA and console, as others reach them at this host."""
        origin = self.at(host)
        return self.websocket_url(origin), self.ota_url(origin), f"{origin.base_url}/console"

    def _websocket_at(self, origin: Origin) -> str:
        if origin.proxied:
            # A proxy that names its own host serves both ports under it.
            secure, port = origin.scheme == "https", origin.port
        else:
            secure, port = self.tls, self.ports().devices
        return f"{'wss' if secure else 'ws'}://{origin.host}{'' if port is None else f':{port}'}{WEBSOCKET_PATH}"

    def ota_url(self, origin: Origin) -> str:
        """Where devices ask at their start."""
        return self.ota or self._base(origin) + OTA_PATH

    def firmware_url(self, origin: Origin, file_name: str) -> str:
        """Where a device downloads a firmware file."""
        return f"{self.ota_url(origin)}download/{file_name}"

    def vision_for(self, reached: Origin | None, own_host: str) -> str:
        """Where a device sends its pictures: the host by which it reached the device port, else `own_host`."""
        return self.vision_url(self.from_device_port(reached) if reached is not None else self.at(own_host))

    def pictures_for(self, reached: Origin | None, own_host: str) -> str:
        """Where a device sends a picture of its screen, without the token."""
        return self._base(self.from_device_port(reached) if reached is not None else self.at(own_host)) + PICTURE_PATH

    def sound_for(self, reached: Origin | None, own_host: str, name: str) -> str:
        """Where a device fetches the sound of a message."""
        base = self._base(self.from_device_port(reached) if reached is not None else self.at(own_host))
        return f"{base}{SOUND_PATH}{name}.ogg"

    def vision_url(self, origin: Origin) -> str:
        """Where devices send pictures."""
        return self.vision if _is_set(self.vision) else self._base(origin) + VISION_PATH

    def _base(self, origin: Origin) -> str:
        return self.public_url.rstrip("/") or origin.base_url

    def from_device_port(self, origin: Origin) -> Origin:
        """The HTTP port, for somebody who reached the device port in this way."""
        if origin.proxied:
            return origin
        return replace(origin, scheme="https" if self.tls else "http", port=self.ports().http)

    def at(self, host: str) -> Origin:
        """The HTTP port under a host name or an address of this machine."""
        return Origin("https" if self.tls else "http", bracketed(host), self.ports().http, "")


def _is_set(url: str) -> bool:
    return bool(url) and _PLACEHOLDER not in url and url != "null"
