"""What the console's pages about devices ask, from the parts of one process.

Part of the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from xiaozhi.app import wiring
from xiaozhi.app.console_voice import VoiceTrials
from xiaozhi.app.device_settings import change_own, laid_own, restore_own
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.listeners import operator_tools, own_host, release_of
from xiaozhi.errors import SettingsError, ToolError
from xiaozhi.net.origin import Origin
from xiaozhi.net.proxies import is_loopback_host
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.providers import registry
from xiaozhi.session.services import SessionServices
from xiaozhi.settings import Loaded, Settings
from xiaozhi.settings.checks import spellings
from xiaozhi.settings.device_form import changed_keys, form_of, other_keys
from xiaozhi.settings.device_settings import with_settings, without_settings
from xiaozhi.tools.base import Action
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.console.devices import DeviceForm, DevicePageHooks, EarlierSettings, VoiceField
from xiaozhi.web.firmware import FirmwareShelf

SNAPSHOT: Final = "self.screen.snapshot"
"""The firmware's tool that sends a picture of the screen (main/mcp_server.cc of 78/xiaozhi-esp32)."""
QUALITY: Final = 80
"""Of the JPEG, 1 to 100."""
FORM_S: Final = 20.0
_PRIVATE_VOICE: Final = "private_voice"
"""The existing server's name for the voice of one device: every option that it means is the voice."""
_VOICES: Final = ("voice", "voice_id", "speaker", "reference_id", "spk_id")


class DevicePages:
    """`current`: the configuration in force."""

    def __init__(
        self,
        known: KnownDevices,
        services: SessionServices,
        voices: VoiceTrials,
        addresses: ServerAddresses,
        tokens: VisionTokens,
        current: Callable[[], Loaded],
    ) -> None:
        self._known = known
        self._directory = known.directory
        self._services = services
        self._voices = voices
        self._addresses = addresses
        self._tokens = tokens
        self._current = current
        self._find = operator_tools(services.sessions)
        self._shelf: FirmwareShelf | None = None

    def hooks(self) -> DevicePageHooks:
        """All of it."""
        return DevicePageHooks(
            directory=self._directory,
            form=self._form,
            earlier=self._earlier,
            change=lambda device, values, removed, who: change_own(
                self._directory, self._current(), device, values, removed, who=who
            ),
            restore=lambda device, version, who: restore_own(
                self._directory, self._current(), device, version, who=who
            ),
            hear=self._hear,
            messages=self._services.messages,
            tools=self._find,
            photograph=self._photograph,
            firmware=self._firmware,
            quota=self._quota,
            under_console=lambda: self._current().settings.under_console,
            ota_url=self._ota_url,
            lines=self._known.lines,
            look=self._known.look,
        )

    def _form(self, device: str) -> DeviceForm:
        loaded, own = self._current(), self._directory.settings_of(device)
        # The first one is made of the whole schema, which takes a while.
        fields = self._services.inference.run(form_of, loaded, own, kind="other", deadline=FORM_S)
        voice = voice_field(self._settings_of(device, own), own)
        others = [key for key in other_keys(own) if voice is None or key != voice.key]
        return DeviceForm(fields, voice, others)

    def _earlier(self, device: str) -> Sequence[EarlierSettings]:
        after, found = self._directory.settings_of(device), []
        for version in self._directory.versions_of(device):
            changed = changed_keys(version.settings, after)
            found.append(EarlierSettings(version.id, version.at, version.who, changed))
            after = version.settings
        return found

    def _hear(self, device: str, values: Mapping[str, Any], removed: Sequence[str], text: str) -> bytes:
        loaded, own = self._current(), self._directory.settings_of(device)
        wanted = with_settings(without_settings(own, removed, loaded), values, loaded)
        laid = laid_own(wanted, loaded, f"device {device}")
        faults = wiring.check(laid, loaded.settings)
        if faults:
            raise SettingsError(faults)
        return self._voices.hear(laid, text)

    def _photograph(self, device: str) -> str:
        session = self._services.sessions.of_device(device)
        mcp = session.mcp if session is not None else None
        if session is None or mcp is None:
            return "This device has no tools of its own (no MCP), so it cannot send a picture."
        asked_at = time.time()
        address = self._addresses.pictures_for(session.origin, own_host(self._current().settings))
        url = address + self._tokens.issue(device, now=asked_at)
        try:
            outcome = mcp.call_for_operators(SNAPSHOT, {"url": url, "quality": QUALITY})
        except ToolError as error:
            return f"{error}."
        if outcome.action is Action.ERROR:
            return outcome.text
        kept = self._directory.picture_of(device)
        if kept is None or kept[1] < asked_at:
            return f"The device said that it had sent a picture, and none came to {address}."
        return ""

    def _firmware(self, device: str, board: str, version: str) -> Mapping[str, Any] | None:
        settings = self._current().settings
        if settings.under_console:
            return None
        if self._shelf is None:
            self._shelf = FirmwareShelf(settings.data_dir / "bin")
        found = self._shelf.newest(board, version, device, lambda name: release_of(settings, name))
        if found is None:
            return None
        return {"version": found.version, "file": found.file_name, "force": found.force}

    def _ota_url(self, origin: Origin) -> str:
        if is_loopback_host(origin.host):  # which leads no device here
            origin = self._addresses.at(own_host(self._current().settings))
        return self._addresses.ota_url(origin)

    def _quota(self, device: str) -> Mapping[str, int | None]:
        settings = self._settings_of(device, self._directory.settings_of(device))
        return {"used": self._services.quota.used(device), "limit": settings.device_max_output_size}

    def _settings_of(self, device: str, own: Mapping[str, Any]) -> Settings:
        """What holds for a device; the configuration alone where its own settings cannot be used."""
        loaded = self._current()
        try:
            return laid_own(own, loaded, f"device {device}").settings
        except SettingsError:
            return loaded.settings


def voice_field(settings: Settings, own: Mapping[str, Any]) -> VoiceField | None:
    """The voice in the TTS block in use; None where it has none, or cannot be used. `own`: the device's own
    settings."""
    name = settings.selected("tts")
    try:
        block = settings.block("tts", name)
        options = registry.validate("tts", name, block)
    except (SettingsError, KeyError):
        return None
    fields = type(options).model_fields
    known = {field: spellings(field, info) for field, info in fields.items()}
    found = next((field for field, names in known.items() if _PRIVATE_VOICE in names), None)
    found = found or next((field for field in _VOICES if field in fields), None)
    if found is None:
        return None
    key = next((each for each in known[found] if each in block), known[found][0])
    mine = own.get("TTS", {}).get(name, {}) if isinstance(own.get("TTS"), Mapping) else {}
    return VoiceField(f"TTS.{name}.{key}", str(getattr(options, found) or ""), key in mine, name)
