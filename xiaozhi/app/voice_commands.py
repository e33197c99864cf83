"""`server.py voices ...`: whose voices are kept, on the terminal. A voice may also be learnt from a recording.

Works on the database, whether a server runs or not; a running one knows the voice from the next utterance on."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from xiaozhi.app.banner import show_faults, width
from xiaozhi.app.wiring import make_database
from xiaozhi.audio.decode import DecodeError, decode_file
from xiaozhi.errors import Fault, SettingsError, XiaozhiError
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.contracts.voiceprint import LearningVoiceprint
from xiaozhi.providers.pool import LeasedProviders, ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.settings import Loaded, zone_of
from xiaozhi.storage import voices
from xiaozhi.storage.database import Database

USAGE: Final = ("voices list", "voices enrol ID NAME FILE", "voices forget ID [NAME]")
EXIT_FAILED: Final = 1
CONSENT: Final = "told by an operator"
MAX_FILE_BYTES: Final = 20_000_000
_COUNTS: Final = {"list": (0,), "enrol": (3,), "forget": (1, 2)}


def is_voice_command(words: Sequence[str]) -> bool:
    """Whether these words of a command line are one of `USAGE`."""
    return len(words) >= 2 and words[0] == "voices" and len(words) - 2 in _COUNTS.get(words[1], ())


def run(words: Sequence[str], loaded: Loaded) -> int:
    """Carry out one of `USAGE`; the exit code."""
    verb, arguments = words[1], list(words[2:])
    database = make_database(loaded.settings)
    try:
        if arguments:
            arguments[0] = checked_device_id(arguments[0])
        database.start()
        if verb == "list":
            print(_listed(database, loaded))
        elif verb == "forget":
            print(_forget(database, *arguments))
        else:
            print(_enrol(database, loaded, *arguments))
    except SettingsError as error:
        show_faults(error.faults)
        return EXIT_FAILED
    except (XiaozhiError, DecodeError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    finally:
        database.close()
    return 0


def _listed(database: Database, loaded: Loaded) -> str:
    kept = database.read(voices.everyone)
    if not kept:
        return "Nobody's voice is kept."
    rows = [("DEVICE", "PERSON", "SINCE", "CONSENT", "VOICE", "MODEL")]
    for each in kept:
        since = datetime.datetime.fromtimestamp(each.made_at, zone_of(loaded.settings)).strftime("%Y-%m-%d %H:%M")
        sample = each.known.sample
        rows.append((each.owner, each.known.name, since, each.consent, f"{sample.seconds:.1f} s", sample.model))
    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _forget(database: Database, device: str, name: str = "") -> str:
    if name:
        gone = database.run(lambda connection: voices.erase(connection, device, name))
        return f"The voice of {', '.join(gone)} is erased." if gone else f"{device} knows no voice of {name}."
    count = database.run(lambda connection: voices.erase_device(connection, device))
    return f"{count} voices of {device} are erased."


def _enrol(database: Database, loaded: Loaded, device: str, name: str, file: str) -> str:
    person, path = name.strip(), Path(file)
    if not person:
        raise XiaozhiError("A person needs a name.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise XiaozhiError(
            f"{file} is larger than {MAX_FILE_BYTES // 1_000_000} MB; some ten seconds of one voice are enough"
        )
    pcm = decode_file(path.read_bytes(), ASR_SAMPLE_RATE)
    inference = InferencePool(1)
    inference.start()
    pool = ProviderPool(inference, lambda report: None, database=database)
    leased = LeasedProviders(pool, loaded)
    try:
        provider = leased.selected("voiceprint") if loaded.settings.selected("voiceprint") else None
        if not isinstance(provider, LearningVoiceprint):
            found = loaded.settings.voiceprint.type
            raise SettingsError([Fault("voiceprint.type", found, "local, as voices are not learnt otherwise")])
        sample = provider.identify(pcm, device).sample
        if sample is None:
            raise XiaozhiError(f"{file} has too little voice in it")
        provider.remember(device, person, [sample], CONSENT)
    finally:
        leased.release()
        pool.close()
        inference.close()
    return f"{device} knows the voice of {person} now ({sample.seconds:.1f} s). Have that person's consent."
