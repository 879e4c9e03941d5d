"""Server-sent events as bytes, both ways; it knows the wire format, and nothing of what the events mean.

After the WHATWG HTML standard, section 9.2 (server-sent events), plus the one habit of the OpenAI API: a last event
whose data is the literal `[DONE]` ends the stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json

DONE = "[DONE]"
"""Data of the event that ends an OpenAI stream."""

END = b"\n\n"
"""How every event, and every comment, ends on the wire."""

_LINE_END = re.compile(rb"\r\n|\r|\n")


def encode(
    event: BaseModel | Mapping[str, Any] | str | bytes,
    *,
    name: str | None = None,
    id: str | None = None,
    exclude_unset: bool = False,
) -> bytes:
    """One event as the bytes to send.

    A model or a mapping becomes one line of JSON under its wire names; text and bytes (UTF-8) are sent as they are, one
    `data:` line each line. `exclude_unset` leaves out a model's fields that nobody set. ValueError if `name` or
    `id` holds a character that would end its line.
    """
    head = b""
    if name is not None:
        head += b"event: " + _one_line("name", name) + b"\n"
    if id is not None:
        head += b"id: " + _one_line("id", id) + b"\n"
    return head + b"data: " + _data(event, exclude_unset) + END


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was received. `id` is the last one seen so far, as a reconnecting client would send it back."""

    data: str
    name: str = "message"
    id: str | None = None

    def json(self) -> Any:
        """The data parsed as JSON. ValueError if it is not JSON."""
        return from_json(self.data)


def decode(lines: Iterable[str | bytes]) -> Iterator[Event]:
    """Every event in `lines`, up to `[DONE]`; lines may keep their line ends or not, as `iter_lines()` gives them."""
    decoder = Decoder()
    for line in lines:
        raw = line.encode() if isinstance(line, str) else line
        yield from decoder.push(raw.rstrip(b"\r\n") + b"\n")
        if decoder.done:
            return


class Decoder:
    """The events in a stream of bytes that arrives in chunks of any size; no IO, so it serves sync and async alike.

    `done` turns true at `[DONE]`, which is not an event; what follows it is ignored. An event that the end of the
    stream cuts off never becomes one, as the standard has it.
    """

    def __init__(self) -> None:
        self.done = False
        self._line: list[bytes] = []  # pieces of the line that has not ended yet
        self._started = False  # past the first line, the only one that a byte order mark may open
        self._ended_in_cr = False  # the next chunk's leading LF would be the second half of a CRLF
        self._data: list[str] = []
        self._name = ""
        self._id: str | None = None

    def push(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes."""
        if not chunk:
            return []
        if self._ended_in_cr:
            chunk = chunk.removeprefix(b"\n")
        self._ended_in_cr = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        events = []
        for piece in ended:
            line = b"".join((*self._line, piece))
            self._line.clear()
            if (event := self._take(line)) is not None:
                events.append(event)
        if rest:
            self._line.append(rest)
        return events

    def _take(self, raw: bytes) -> Event | None:
        if self.done:
            return None
        if not self._started:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        if not raw:
            return self._dispatch()
        field, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self._id = value
        return None  # comments (an empty field name), `retry` and unknown fields carry nothing for a reader

    def _dispatch(self) -> Event | None:
        data, name = "\n".join(self._data), self._name or "message"
        seen = bool(self._data)
        self._data.clear()
        self._name = ""
        if data == DONE:
            self.done = True
            return None
        return Event(data, name, self._id) if seen else None


def _data(event: BaseModel | Mapping[str, Any] | str | bytes, exclude_unset: bool) -> bytes:
    if isinstance(event, BaseModel):
        return event.__pydantic_serializer__.to_json(event, by_alias=True, exclude_unset=exclude_unset)
    if isinstance(event, Mapping):
        return to_json(event)
    raw = event.encode() if isinstance(event, str) else event
    return b"\ndata: ".join(_LINE_END.split(raw))


def _one_line(what: str, value: str) -> bytes:
    if any(end in value for end in "\r\n\0"):
        raise ValueError(f"an event's {what} must be one line without NUL, got {value!r}")
    return value.encode()
