"""Whether a server takes requests, or is about to end. It knows no signal, and does not wait."""

from __future__ import annotations

from quire_server.errors import ShuttingDown

REASON = "This server is about to end and takes no more requests; another one may."


class Closing:
    """The state of one server. Only `serve` changes it, once."""

    def __init__(self) -> None:
        self.has_begun = False

    def begin(self) -> None:
        """Take no more requests from now on."""
        self.has_begun = True

    def check(self) -> None:
        """ShuttingDown where no more requests are taken."""
        if self.has_begun:
            raise ShuttingDown(REASON)
