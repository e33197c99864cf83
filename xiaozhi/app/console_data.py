"""The console's pages about devices and about what was said, put together.

Part of the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from xiaozhi.app.console_devices import DevicePages
from xiaozhi.app.console_voice import VoiceTrials
from xiaozhi.app.owner_console import OwnerConsole
from xiaozhi.app.server_parts import ServerParts
from xiaozhi.errors import Overloaded, StorageError
from xiaozhi.history.entries import KeptSound
from xiaozhi.settings import Loaded, zone_of
from xiaozhi.web import device_pictures
from xiaozhi.web.console import devices, history, messages, reminders, voices
from xiaozhi.web.console.history import HistoryPageHooks

LOOK_S: Final = 2.0
"""Between two looks whether a page has to ask anew."""
WAV_S: Final = 10.0


def add_data_pages(console: OwnerConsole, parts: ServerParts) -> None:
    """Have the console offer them."""

    def current() -> Loaded:
        return parts.current().loaded

    services, known, kept = parts.watched.services, parts.known, parts.history
    directory, inference = known.directory, services.inference
    tokens = device_pictures.picture_tokens(parts.secret)
    trials = VoiceTrials(parts.watched.pool, inference)
    pages = DevicePages(known, services, trials, parts.addresses, tokens, current)

    def wav(sound: KeptSound) -> bytes:
        made: bytes = inference.run(sound.wav, kind="codec", deadline=WAV_S)
        return made

    def state() -> Mapping[str, Any]:
        settings = current().settings
        return {
            "mode": settings.history.mode,
            "days": settings.history.days,
            "sound_days": settings.history.sound_days,
            "console": settings.manager_api.url if settings.under_console else "",
        }

    said = HistoryPageHooks(
        pages=kept.pages,
        store=kept.store,
        labels=directory.labels,
        wav=wav,
        zone=lambda: zone_of(current().settings),
        state=state,
    )
    console.add(
        devices.create_blueprint(pages.hooks(), console.access, console.audit),
        history.create_blueprint(said, console.access, console.audit),
        messages.create_blueprint(parts.messaging.queue, console.access, console.audit),
        reminders.create_blueprint(parts.reminders, console.access, console.audit),
        voices.create_blueprint(directory, console.access, console.audit),
        device_pictures.create_blueprint(tokens, directory.keep_picture, known.guesses),
    )
    console.feed.sample(
        "devices", LOOK_S, _steady(lambda: dict(zip(("online", "mark"), directory.pulse(), strict=True)))
    )
    console.feed.sample("history", LOOK_S, _steady(lambda: {"mark": kept.pages.pulse()}))


def _steady(look: Callable[[], Mapping[str, Any]]) -> Callable[[], Mapping[str, Any]]:
    """`look`, and where that fails, what it saw before."""
    seen: Mapping[str, Any] = {}

    def take() -> Mapping[str, Any]:
        nonlocal seen
        try:
            seen = look()
        except (StorageError, Overloaded):
            return seen  # the page shows what it has
        return seen

    return take
