"""How many files this process may have open, and how many of them are for clients. It opens none."""

from __future__ import annotations

import contextlib
import resource

ENOUGH = 65_535
"""Open files beyond which more are of no use."""

RESERVED = 128
"""Open files that are not for clients: an engine that is started again needs pipes and sockets, and all need logs."""


def raise_limit() -> None:
    """Let this process, and those that it starts, open as many files as it may allow itself, up to ENOUGH."""
    soft, hard = (_counted(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    wanted = min(ENOUGH, hard)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system may have a limit of its own; the former stays then
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def most_connections() -> int:
    """How many clients can be connected at once, so that there are open files left for all else."""
    soft = _counted(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return max(1, min(soft, ENOUGH) - RESERVED)


def _counted(limit: int) -> int:
    return ENOUGH if limit == resource.RLIM_INFINITY else limit
