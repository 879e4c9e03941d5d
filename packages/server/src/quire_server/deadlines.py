"""Until when a request is worth an answer: what its client asks for, and what the server allows at most."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection

from quire_engine.errors import RequestError
from quire_protocol.problems import shown

TIMEOUT_HEADER = "x-request-timeout"
"""Seconds that a request may take, from its arrival to its last token."""

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def deadline_of(http: HTTPConnection, longest: float | None, arrived: float) -> float | None:
    """When the request ends, answered or not; None when nothing limits it. Like `arrived`, in time.monotonic().

    A client may ask for less than `longest` seconds, the server's own limit, and gets no more. RequestError if what it
    asks for is no number of seconds.
    """
    given = http.headers.getlist(TIMEOUT_HEADER)
    if len(given) > 1:
        raise RequestError(f"{TIMEOUT_HEADER} is there {len(given)} times: give it once.", param=TIMEOUT_HEADER)
    asked = given[0] if given else None
    if asked is None and longest is None:
        return None
    seconds = min(limit for limit in (longest, _seconds(asked)) if limit is not None)
    return arrived + seconds


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or float(text) == 0:
        raise RequestError(
            f"{TIMEOUT_HEADER} is a number of seconds above 0, as 30 or 2.5; it is {shown(text)}.", param=TIMEOUT_HEADER
        )
    return float(text)
