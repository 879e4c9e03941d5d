"""The short way of a stream's events, from the engine's report into the connection's buffer in one call.

    RequestOutputs.deliver  ─►  Passing  ─►  Reply.take  ─►  Shortcut.write

The long way wakes a task for each token, which resumes a generator within a generator and passes every middleware: a
hundred objects of each stream that the processor's caches have forgotten since the token before. As long as nobody has
to wait for anything, the short way does the same with a few. Heads, first and last events and errors go the long way,
and so does everything while a client reads too slowly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.types import Scope

SHORTCUT = "quire.shortcut"
"""The ASGI extension under which a connection offers one. Who looks at bodies that are sent takes it out."""
WRITER = "writer"
"""What the Shortcut is called within it."""


class Shortcut(Protocol):
    """Takes pieces of an answer's body, behind what was sent of it the long way."""

    is_free: bool
    """Whether a piece can be written at this moment."""
    written: int
    """Bytes of the body that went this way."""

    def look(self) -> None:
        """See whether it is free now, as the answer has begun."""

    def write(self, body: bytes) -> None:
        """Write a piece, which is not the last; only while it is free."""


def shortcut_of(scope: Mapping[str, Any]) -> Shortcut | None:
    """The shortcut for the body of this request's answer; None where no connection offers one."""
    found: Shortcut | None = (scope.get("extensions") or {}).get(SHORTCUT, {}).get(WRITER)
    return found


def close_shortcut(scope: Scope) -> None:
    """Have all of this request's answer go the long way."""
    (scope.get("extensions") or {}).pop(SHORTCUT, None)
