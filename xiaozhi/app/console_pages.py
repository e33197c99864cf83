"""The console in the browser with all of its pages, put together from the parts of a server. One page is one
`console_*` file beside this one and one module in `web/console/`."""

from __future__ import annotations

from xiaozhi.app.console_data import add_data_pages
from xiaozhi.app.console_logs import log_hooks, tell_lines
from xiaozhi.app.console_overview import Overview
from xiaozhi.app.console_settings import SettingsDesk
from xiaozhi.app.console_talk import talk_hooks, tell_turns
from xiaozhi.app.owner_console import OwnerConsole
from xiaozhi.app.server_parts import ServerParts
from xiaozhi.settings import zone_name, zone_of
from xiaozhi.web.console import logs, overview, settings, talk


def open_console(parts: ServerParts, *, enabled: bool) -> OwnerConsole:
    """`enabled`: False for a console without pages."""
    watched = parts.watched
    console = OwnerConsole(
        enabled=enabled,
        database=watched.database,
        inference=watched.inference,
        guesses=watched.guesses,
        key=parts.secret,
    )
    if enabled:
        _add_overview(console, parts)
        _add_talk(console, parts)
        add_data_pages(console, parts)
        _add_settings(console, parts)
        _add_logs(console, parts)
    return console


def _add_overview(console: OwnerConsole, parts: ServerParts) -> None:
    figures = Overview(
        parts.watched, parts.metrics, parts.known, parts.vendors, parts.history, parts.current, parts.management
    )
    console.feed.sample(overview.TOPIC, overview.EVERY_S, figures.sample)
    console.add(overview.create_blueprint(console.access, figures.sample), close=figures.close)


def _add_talk(console: OwnerConsole, parts: ServerParts) -> None:
    parts.observer.on_turn.append(tell_turns(console.feed))
    hooks = talk_hooks(parts.known, parts.addresses, parts.current)
    console.add(talk.create_blueprint(hooks, console.access, console.audit))


def _add_settings(console: OwnerConsole, parts: ServerParts) -> None:
    desk = SettingsDesk(
        current=lambda: parts.current().loaded,
        preview=parts.preview,
        reload=parts.reload,
        pool=parts.watched.pool,
        inference=parts.watched.inference,
    )
    console.about["new"] = lambda: desk.new_installation
    console.about["zone"] = lambda: zone_name(zone_of(parts.current().loaded.settings))
    console.add(settings.create_blueprint(desk.hooks(), console.access, console.audit))


def _add_logs(console: OwnerConsole, parts: ServerParts) -> None:
    hooks = log_hooks(parts.watched.inference, lambda: parts.current().loaded.settings)
    tell_lines(console.feed)
    console.add(logs.create_blueprint(hooks, console.access))
