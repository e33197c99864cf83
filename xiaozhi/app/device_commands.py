"""`server.py devices ...`: what operators see of devices and decide about them, on the terminal.

Works on the database, whether a server runs or not; a running one sees decisions within a second."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from xiaozhi.app.banner import show_faults, width
from xiaozhi.app.device_settings import change_own
from xiaozhi.app.wiring import make_database
from xiaozhi.devices.directory import DeviceDirectory, UnknownDevice
from xiaozhi.devices.lines import REPORT, Lines
from xiaozhi.devices.message_queue import MessageQueue, NobodyHere
from xiaozhi.devices.messages import MAX_TEXT_CHARS, DeviceMessage, MessageKind
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.devices.report import INTERNAL
from xiaozhi.errors import Overloaded, ProtocolError, SettingsError, StorageError
from xiaozhi.protocol.device_id import checked_device_id, normal_device_id
from xiaozhi.settings import Loaded, zone_of
from xiaozhi.settings.masking import mask_tree
from xiaozhi.storage.devices import DeviceRecord
from xiaozhi.web.device_line import described_line

USAGE = (
    "devices list",
    "devices show ID",
    "devices set ID KEY=VALUE ...",
    "devices unset ID KEY ...",
    "devices approve CODE",
    "devices revoke ID",
    "devices forget ID",
    "devices say ID TEXT",
    "devices notify ID TEXT",
    "devices alert ID TEXT",
    "devices reboot ID",
    "devices messages",
)
EXIT_FAILED = 1
_AT_LEAST = {
    "list": 0,
    "show": 1,
    "set": 2,
    "unset": 2,
    "approve": 1,
    "revoke": 1,
    "forget": 1,
    "say": 2,
    "notify": 2,
    "alert": 2,
    "reboot": 1,
    "messages": 0,
}
_MANY = ("set", "unset", "say", "notify", "alert")
_WHO = "command line"
_GOOD_FOR_S = 3600.0
"""How long a message of the command line waits for its device."""
_MAX_SHOWN = 500


def is_device_command(words: Sequence[str]) -> bool:
    """Whether these words of a command line are one of `USAGE`."""
    if len(words) < 2 or words[0] != "devices" or words[1] not in _AT_LEAST:
        return False
    given, least = len(words) - 2, _AT_LEAST[words[1]]
    return given >= least if words[1] in _MANY else given == least


def run(words: Sequence[str], loaded: Loaded) -> int:
    """Carry out one of `USAGE`; the exit code."""
    _, verb, *arguments = words
    database = make_database(loaded.settings)
    try:
        if arguments and verb != "approve":
            checked_device_id(arguments[0])
        database.start()
        if verb in (*MessageKind, "messages"):
            queue = MessageQueue(database, NobodyHere(), worker=_WHO)
            print(_waiting(queue, loaded) if verb == "messages" else _hand_over(queue, verb, arguments))
        else:
            print(_VERBS[verb](DeviceDirectory(database, DeviceNotes(database)), loaded, arguments))
    except SettingsError as error:
        show_faults(error.faults)
        return EXIT_FAILED
    except (UnknownDevice, ProtocolError, StorageError, Overloaded) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    finally:
        database.close()
    return 0


def _list(directory: DeviceDirectory, loaded: Loaded, arguments: Sequence[str]) -> str:
    records = directory.all()
    if not records:
        return "No device has asked or connected yet."
    rows = [("DEVICE", "STATE", "BOARD", "FIRMWARE", "ADDRESS", "LAST SEEN", "OWN SETTINGS")]
    for record in records:
        report = record.report or {}
        rows.append(
            (
                record.device,
                _state(record),
                str(report.get("board", "")),
                str(report.get("firmware", "")),
                str(report.get("address", "")),
                _time(record.last_seen, loaded),
                ", ".join(map(str, record.settings or ())),
            )
        )
    waiting = [
        f"  {code}  {record.device} from {address}, client id {client}"
        for record in records
        for code, client, address, _ in record.waiting
    ]
    lines = _table(rows)
    return "\n".join([*lines, *(["", "Waiting for approval (devices approve CODE):", *waiting] if waiting else [])])


def _show(directory: DeviceDirectory, loaded: Loaded, arguments: Sequence[str]) -> str:
    record = directory.of(arguments[0])
    report = {key: value for key, value in (record.report or {}).items() if key not in (*INTERNAL, "asked_at", REPORT)}
    rows = [
        ("device", record.device),
        ("state", _state(record)),
        ("first seen", _time(record.first_seen, loaded)),
        ("last seen", _time(record.last_seen, loaded)),
        *((key.replace("_", " "), str(value)) for key, value in report.items()),
    ]
    if record.client:
        by = f" from {record.enrolled_from}" if record.enrolled_from else ""
        why = f", {record.how}" if record.how else ""
        rows.append(("enrolled", f"client id {record.client}, {_time(record.enrolled_at, loaded)}{by}{why}"))
    else:
        rows.append(("enrolled", "no"))
    if record.standing.tokens_from:
        rows.append(("tokens", f"only those issued since {_time(record.standing.tokens_from, loaded)}"))
    line = described_line(Lines(), record)
    rows += [("line", f"{line['sentence']['en']} ({_time(line['at'], loaded)})")] if line["at"] else []
    for code, client, address, since in record.waiting:
        rows.append(("waits", f"code {code}: client id {client} from {address}, since {_time(since, loaded)}"))
    lines = _table(rows)
    if record.settings:
        own = yaml.safe_dump(mask_tree(dict(record.settings)), allow_unicode=True, sort_keys=False).rstrip()
        lines += ["own settings", *(f"  {line}" for line in own.splitlines())]
    return "\n".join(lines)


def _set(directory: DeviceDirectory, loaded: Loaded, arguments: Sequence[str]) -> str:
    device, *assignments = arguments
    change_own(directory, loaded, device, assignments, who=_WHO)
    return f"{device} has these settings from its next visit on."


def _unset(directory: DeviceDirectory, loaded: Loaded, arguments: Sequence[str]) -> str:
    device, *keys = arguments
    left = change_own(directory, loaded, device, {}, keys, who=_WHO)
    return f"{device} follows the configuration in this from its next visit on" + ("." if left else ", as in all else.")


def _approve(directory: DeviceDirectory, loaded: Loaded, arguments: Sequence[str]) -> str:
    return directory.approve(arguments[0])


def _revoke(directory: DeviceDirectory, loaded: Loaded, arguments: Sequence[str]) -> str:
    directory.revoke(arguments[0])
    return (
        f"{arguments[0]} is revoked: its tokens are void, it is disconnected. devices approve {arguments[0]} undoes it."
    )


def _forget(directory: DeviceDirectory, loaded: Loaded, arguments: Sequence[str]) -> str:
    device = arguments[0]
    if directory.forget(device):
        return f"{device} is enrolled anew when it next starts; its tokens of before are void."
    return f"{device} is not enrolled; its reminders and the voices of its people are erased."


def _hand_over(queue: MessageQueue, verb: str, arguments: Sequence[str]) -> str:
    """Keep a message for the servers that run on this database."""
    device, text, now = normal_device_id(arguments[0]), " ".join(arguments[1:]), time.time()
    if len(text) > MAX_TEXT_CHARS:
        raise ProtocolError(f"The text may have at most {MAX_TEXT_CHARS} characters.")
    message = DeviceMessage(
        device=device, kind=MessageKind(verb), text=text, due_at=now, expires_at=now + _GOOD_FOR_S, in_quiet_hours=True
    )
    result = queue.send(message)
    why = f" ({result.reason})" if result.reason else ""
    return (
        f"Message {result.id} waits for {device}{why}; a running server delivers it within {_GOOD_FOR_S / 60:.0f} min."
    )


def _waiting(queue: MessageQueue, loaded: Loaded) -> str:
    found = queue.page(limit=_MAX_SHOWN)
    if not found:
        return "No message waits."
    rows = [("MESSAGE", "DEVICE", "KIND", "SENDER", "STATE", "WHY", "UNTIL")]
    for kept in found:
        sender, until = str(kept.body.get("sender", "")), _time(kept.expires_at, loaded)
        rows.append((kept.id, kept.device, kept.kind, sender, kept.state, kept.reason, until))
    return "\n".join(_table(rows))


_VERBS: dict[str, Callable[[DeviceDirectory, Loaded, Sequence[str]], str]] = {
    "list": _list,
    "show": _show,
    "set": _set,
    "unset": _unset,
    "approve": _approve,
    "revoke": _revoke,
    "forget": _forget,
}


def _state(record: DeviceRecord) -> str:
    if record.standing.revoked:
        return "revoked"
    if record.workers or record.reached_by:
        return "online"
    return "waiting" if record.waiting and not record.client else "offline"


def _time(seconds: float | None, loaded: Loaded) -> str:
    if seconds is None:
        return "-"
    return datetime.datetime.fromtimestamp(seconds, zone_of(loaded.settings)).strftime("%Y-%m-%d %H:%M")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns side by side; what came from devices shows only what can be printed."""
    clean: list[list[Any]] = [["".join(filter(str.isprintable, cell)) or "-" for cell in row] for row in rows]
    widths = [max(width(row[column]) for row in clean) for column in range(len(clean[0]))]
    return [
        "  ".join(cell + " " * (widths[column] - width(cell)) for column, cell in enumerate(row)).rstrip()
        for row in clean
    ]
