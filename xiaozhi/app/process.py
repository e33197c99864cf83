"""Switches of the whole process: garbage collection, the interpreter's switch interval, and gevent's threads for name
look-ups. Set once at start, because they belong to no part of the server. And who may read its data."""

from __future__ import annotations

import ctypes
import gc
import os
import stat
import sys
from pathlib import Path
from typing import Final

import gevent

from xiaozhi.net.name_lookup import NameResolver
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.thread_names import name_pool

log = get_logger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread that wants the interpreter lock waits before it asks for it; see `runtime/inference.py`."""
NAME_THREADS: Final = 4
"""gevent looks names up on native threads of its own: up to ten, each made when it is needed and gone after five idle
seconds, unless it is told otherwise. Ours are all there from the start and stay: load never adds a thread."""
FOREVER_S: Final = 1e9
"""gevent's configuration has no word for it."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""malloc.h"""
_LARGE_BYTES: Final = 4 << 20
GC_THRESHOLDS: Final = (10_000, 50, 100)
"""CPython's defaults collect every 700 new objects, and everything after 70,000: with 400 talking devices that stopped
the hub for 60 to 190 ms at a time (measured). With these the young ones take 5 ms, rarely; what sessions leave behind
dies by reference count anyway. The oldest generation is collected when the process has grown
(`runtime/collection.py`)."""


def prepare() -> None:
    """Before anything is started. Idempotent."""
    _bound_allocator()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gevent.config.threadpool_idle_task_timeout = FOREVER_S
    resolvers = gevent.get_hub().threadpool
    resolvers.maxsize = resolvers.size = NAME_THREADS
    name_pool(resolvers, "resolver")
    if not isinstance(gevent.get_hub().resolver, NameResolver):
        gevent.get_hub().resolver = NameResolver(gevent.get_hub(), NAME_THREADS)


def _bound_allocator() -> None:
    """Large pieces of memory, the scratch of speech models, go back to the system when they are freed, and threads
    share one arena. Left alone, glibc learns to keep pieces of up to 32 MB, in an arena for each thread: 27 MB more
    once Whisper has heard a whole window, for 5 to 9 % less CPU of its short ones. Nothing where the C library is
    another."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGE_BYTES), (_M_TRIM_THRESHOLD, _LARGE_BYTES)):
        mallopt(option, value)


def keep_private(data_dir: Path) -> None:
    """What people said is nobody else's business: other users of the machine have no access to the data directory, and
    nobody but its owner to databases in it, also those of earlier versions. What belongs to another user is left as it
    is, and whether the directory can be used is found out by those who use it."""
    for path, others in ((data_dir, 0o007), *((file, 0o077) for file in data_dir.glob("*.sqlite*"))):
        try:
            found = path.stat()
            if found.st_uid == os.geteuid() and found.st_mode & others:
                path.chmod(stat.S_IMODE(found.st_mode) & ~others)
        except OSError as error:
            log.debug("access not taken away", path=str(path), reason=str(error))


def settle() -> None:
    """Everything has been started: what start-up made lives for ever, so keep it out of every later collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def release() -> None:
    """Everything has been stopped: let it be collected."""
    gc.unfreeze()
