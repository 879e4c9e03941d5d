"""Whether files have changed since they were last looked at; it reads none of them."""

from __future__ import annotations

import os
from typing import TypeAlias

_State: TypeAlias = tuple[int, int, int] | None


class Watched:
    """Some files that may be written, or replaced, while they are in use."""

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        self._paths = paths
        self._seen = self._states()

    def has_changed(self) -> bool:
        """Whether one is another than it was at the last call, or, at the first, in the beginning."""
        before, self._seen = self._seen, self._states()
        return before != self._seen

    def _states(self) -> tuple[_State, ...]:
        return tuple(map(_state, self._paths))


def _state(path: str | os.PathLike[str]) -> _State:
    """What is other once the file is: its time, its size, which file it is. None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
