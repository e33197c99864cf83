"""The tables of the database as they are today. How a database gets there is told by `migrations/`; a test holds the
two together.
 Times are seconds since 1970 (UTC). Texts are cleaned on the way in: PostgreSQL takes no NUL character, and neither
engine takes half of a surrogate pair, both of which a language model or a device may send.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects import postgresql, sqlite


class CleanText(TypeDecorator[str]):
    """A text without what no database can hold."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """SQLAlchemy calls this for every value that is sent."""
        return value if value is None else value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


metadata = MetaData()

output_count = Table(
    "output_count",
    metadata,
    Column("day", Date, primary_key=True),
    Column("device", CleanText(), primary_key=True),
    Column("characters", BigInteger, nullable=False),
    Column("updated_at", Double, nullable=False),
)
"""Characters a device was told on a day, all workers together."""

memory_summary = Table(
    "memory_summary",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("summary", CleanText(), nullable=False),
    Column("updated_at", Double, nullable=False),
)
"""What the local memory knows of a device's user."""

voice = Table(
    "voice",
    metadata,
    Column("owner", CleanText(), primary_key=True),
    Column("person", CleanText(), primary_key=True),
    Column("name", CleanText(), nullable=False),
    Column("model", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("consent", Text, nullable=False),
)
"""What people's voices are known by. `owner`: the user of a device, as the memory knows it (its id, and "@client"
behind it for somebody who is not enrolled as it); `person`: the name without case; `vector`: of a voice, see
`speech/voice_likeness.py`; `consent`: how it was given."""

pending_memory = Table(
    "pending_memory",
    metadata,
    Column("id", Text, primary_key=True),
    Column("device", CleanText(), nullable=False),
    Column("session", CleanText(), nullable=False),
    Column("said", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("owner", Text, nullable=False),
)
"""Visits whose memory is not saved yet. `owner`: the worker at it ("": none). `due_at`: from then on any worker may
take it; while a worker is at it, that is the end of its lease."""
Index("pending_memory_due_at", pending_memory.c.due_at)

enrolment = Table(
    "enrolment",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("client", CleanText(), nullable=False),
    Column("enrolled_at", Double, nullable=False),
    Column("how", CleanText(), nullable=False, server_default=""),
    Column("address", CleanText(), nullable=False, server_default=""),
)
"""The client id that each device shows who it is by; why it was believed, and the address that it asked from."""

waiting_device = Table(
    "waiting_device",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("client", CleanText(), primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("challenge", Text, nullable=False),
    Column("address", CleanText(), nullable=False),
    Column("asked_at", Double, nullable=False),
)
"""Who waits for an operator's approval, since when (the first time it asked)."""

device = Table(
    "device",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("report", JSON, nullable=False),
)
"""Devices that have asked by OTA or connected. `report`: what the device said of itself, see `devices/report.py`."""

device_settings = Table(
    "device_settings",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("settings", JSON, nullable=False),
    Column("changed_at", Double, nullable=False),
)
"""A device's own settings, laid over the configuration."""

device_label = Table(
    "device_label",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("label", CleanText(), nullable=False),
)
"""What its owner calls a device."""

settings_version = Table(
    "settings_version",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", CleanText(), nullable=False),
    Column("at", Double, nullable=False),
    Column("who", CleanText(), nullable=False),
    Column("settings", JSON, nullable=False),
)
"""A device's own settings as they were until `who` changed them at `at`."""
Index("settings_version_device", settings_version.c.device, settings_version.c.id)

device_picture = Table(
    "device_picture",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("at", Double, nullable=False),
    Column("picture", LargeBinary, nullable=False),
)
"""The last picture of its screen that a device was asked for."""

device_standing = Table(
    "device_standing",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("revoked", Integer, nullable=False),
    Column("tokens_from", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
)
"""Devices that an operator has revoked (1) or let in again (0). Tokens issued before `tokens_from` are void."""
Index("device_standing_changed_at", device_standing.c.changed_at)

worker = Table(
    "worker",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("websocket", CleanText(), nullable=False),
    Column("connections", Integer, nullable=False),
    Column("beat_at", Double, nullable=False),
)
"""Processes that serve devices. `websocket`: the address that leads to this one, "" when it is not known."""

worker_order = Table(
    "worker_order",
    metadata,
    Column("id", Text, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("place", CleanText(), nullable=False),
    Column("action", Text, nullable=False),
    Column("ordered_at", Double, nullable=False),
)
"""What a worker was ordered to do, for the others of its `place`; forgotten after a while."""

presence = Table(
    "presence",
    metadata,
    Column("visit", Text, primary_key=True),
    Column("device", CleanText(), nullable=False),
    Column("worker", Text, nullable=False),
    Column("arrived_at", Double, nullable=False),
)
"""Connections, of whichever worker."""
Index("presence_device", presence.c.device)
Index("presence_arrived_at", presence.c.arrived_at)

dialogue = Table(
    "dialogue",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("client", CleanText(), primary_key=True),
    Column("snapshot", LargeBinary, nullable=False),
    Column("said_at", Double, nullable=False),
    Column("kept_at", Double),
)
"""What was said last, for the device's next visit; forgotten `conversation.resume_seconds` after `kept_at`. Of two the
one with the later `said_at` counts: a visit may end long after its device has gone on elsewhere. Releases before
version 11 write no `kept_at`, and the time of the end as `said_at`."""

history_session = Table(
    "history_session",
    metadata,
    Column("id", CleanText(), primary_key=True),
    Column("device", CleanText(), nullable=False),
    Column("client", CleanText(), nullable=False),
    Column("began_at", Double, nullable=False),
    Column("ended_at", Double),
)
"""Sessions of which turns are kept. `ended_at`: null while it goes on."""
Index("history_session_device", history_session.c.device, history_session.c.began_at)

history_turn = Table(
    "history_turn",
    metadata,
    Column("session", CleanText(), primary_key=True),
    Column("turn", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("said", CleanText(), nullable=False),
    Column("spoken", JSON, nullable=False),
    Column("tools", JSON, nullable=False),
    Column("outcome", CleanText(), nullable=False),
    Column("reason", CleanText(), nullable=False),
    Column("announcement", Boolean, nullable=False),
    Column("timings", JSON, nullable=False),
    Column("speaker", CleanText(), nullable=False),
)
"""What was said and answered."""
Index("history_turn_at", history_turn.c.at)

history_sound = Table(
    "history_sound",
    metadata,
    Column("session", CleanText(), primary_key=True),
    Column("turn", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("sound", LargeBinary, nullable=False),
)
"""What the user said, as sound: Opus packets, each behind its length (`history/encoding.py`)."""
Index("history_sound_at", history_sound.c.at)

history_erasure = Table(
    "history_erasure",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("erased_at", Double, nullable=False),
)
"""When the history of a device, or of one session (then `device` is its id), was erased: what still waits in a journal
and is older is not taken any more."""

console_password = Table(
    "console_password",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("made_at", Double, nullable=False),
)
"""The hash of the console's password; one row."""

console_change = Table(
    "console_change",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", CleanText(), nullable=False),
    Column("address", CleanText(), nullable=False),
    Column("what", CleanText(), nullable=False),
    Column("details", JSON, nullable=False),
)
"""What was changed by the console, by whom."""

device_message = Table(
    "device_message",
    metadata,
    Column("id", Text, primary_key=True),
    Column("device", CleanText(), nullable=False),
    Column("key", CleanText()),
    Column("kind", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", CleanText(), nullable=False),
    Column("owner", Text, nullable=False),
    Column("touched_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),
)
"""Messages for devices, and for a while what became of them. `key`: null where each message counts. `owner`: the worker
at it ("": none). `touched_at`: since then others have had reason to look at it. `next_at`: when somebody has to look at
it whatever happens: it expires, its owner's lease ends, or it is forgotten."""
Index("device_message_key", device_message.c.device, device_message.c.key, unique=True)
Index("device_message_state", device_message.c.state)
Index("device_message_touched_at", device_message.c.touched_at)
Index("device_message_next_at", device_message.c.next_at)

device_sound = Table(
    "device_sound",
    metadata,
    Column("name", Text, primary_key=True),
    Column("device", CleanText(), nullable=False),
    Column("made_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("fetched_at", Double),
    Column("size", Integer, nullable=False),
    Column("sound", LargeBinary, nullable=False),
)
"""Sounds that devices were told to fetch and play, by the part of their address that nobody can guess. `fetched_at`:
null until one was."""
Index("device_sound_expires_at", device_sound.c.expires_at)

standing_presence = Table(
    "standing_presence",
    metadata,
    Column("device", CleanText(), primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("since", Double, nullable=False),
)
"""Devices that can be told something while nobody talks, and the worker that has the connection for it."""

reminder = Table(
    "reminder",
    metadata,
    Column("id", Text, primary_key=True),
    Column("device", CleanText(), nullable=False),
    Column("person", CleanText(), nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", CleanText(), nullable=False),
    Column("language", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("rule", Text, nullable=False),
    Column("start", Text, nullable=False),
    Column("rang_at", Double),
    Column("again", Integer, nullable=False),
    Column("look_at", Double),
    Column("worker", Text, nullable=False),
)
"""Timers, alarms and reminders. `person`: the name under which the user who set it is remembered. `due_at`: the coming
time, of one that is over the last. `rule`, `start`: what repeats, see `reminders/recurrence.py`; "": once. `rang_at`:
when it was last heard; `again`: how often it is still to be repeated. `look_at`: from then on any worker may see to it;
while `worker` does, the end of its lease; null: it is over."""
Index("reminder_look_at", reminder.c.look_at)
Index("reminder_device", reminder.c.device)

imported_file = Table(
    "imported_file",
    metadata,
    Column("name", Text, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("modified_ns", BigInteger, primary_key=True),
    Column("imported_at", Double, nullable=False),
)
"""Files of earlier versions whose content has been taken over."""


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that may say what happens on a conflict, which both engines spell alike and SQLAlchemy types apart."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
