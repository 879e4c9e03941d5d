"""SIGHUP: what may change while the server runs is read again at once. It knows who reads, and no file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator

logger = logging.getLogger("quire")


class Reread:
    """Calls everybody who has something to read again. The signal ends nothing here, as it would by itself."""

    def __init__(self) -> None:
        self._readers: list[Callable[[], None]] = []

    def add(self, reader: Callable[[], None]) -> None:
        """Call this one too; it tells by itself what came of it."""
        self._readers.append(reader)

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """Listen meanwhile."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def __call__(self) -> None:
        """Have everything read again."""
        if not self._readers:
            logger.warning("SIGHUP: there is nothing to read again (--api-key-file, --ssl-certfile).")
        for reader in self._readers:
            reader()
