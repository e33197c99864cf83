"""File descriptors for thousands of sockets: the soft limit of a shell (often 1,024) is too low, the hard one usually
is not."""

from __future__ import annotations

import resource


def raise_descriptor_limit() -> int:
    """Let this process, and the children it starts from now on, open as many files as the system allows; returns how
    many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
