"""The secret that signs device tokens: the operator's own, or one made once and kept.

Kept in a file of the data directory that only its owner can read, so that tokens outlive a restart and several workers
agree on it. Not part of `load`: checking or printing a configuration must not write files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings.schema import Settings

FILE_NAME = "auth_key"
_BYTES = 32
_SHORTEST = 16


def token_secret(settings: Settings) -> str:
    """`server.auth_key`, else `manager-api.secret` (a console signs its devices' tokens with that), else the content of
    <data_dir>/auth_key, made on first use. Blocks for the disk.

    Raises SettingsError when the file cannot be written or holds next to nothing."""
    of_console = settings.management_secret if settings.under_console else settings.manager_api.secret
    configured = settings.server.auth_key.get_secret_value() or of_console.get_secret_value()
    if configured:
        return configured
    path = settings.data_dir / FILE_NAME
    try:
        if not path.exists():
            _create(path)
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise SettingsError(
            [Fault(str(path), reason, "must be readable, and its directory writable, or set server.auth_key")]
        ) from error
    if len(secret) < _SHORTEST:
        raise SettingsError(
            [
                Fault(
                    str(path),
                    f"{len(secret)} characters",
                    f"at least {_SHORTEST}; delete the file to have a new one made",
                )
            ]
        )
    return secret


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(_BYTES) + "\n")
        try:
            # A link appears whole or not at all: of several workers that start at once the first one decides.
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
