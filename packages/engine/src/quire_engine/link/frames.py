"""What crosses a link, and its form on a socket: length-prefixed MessagePack, typed at both ends. No pickle.

Down:  Start, then any number of Add, Abort and ResetPrefixCache, then Stop.
Up:    Ready or Failed, then one Report for each step, and a Trial before each suspect that is computed alone in it.
       Beat each second, and Logged at any time.
"""

from __future__ import annotations

import struct
from asyncio import StreamReader
from typing import Any, TypeAlias

import msgspec
from pydantic import BaseModel

from quire_engine.config import Decisions, EngineConfig
from quire_engine.sequence import Emission, Submission
from quire_engine.stats import Stats
from quire_engine.timing import Progress
from quire_protocol import GenerateRequest

PREFIX = struct.Struct("<I")
"""Before each frame: how many bytes it has."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """Load an engine."""

    config: EngineConfig
    factory: str
    """Who loads it, as `module:name`."""
    progress: bool
    path: tuple[str, ...]
    """Where the parent imports from."""


class Add(msgspec.Struct, frozen=True, tag=True):
    """Take in a request."""

    submission: Submission


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Forget a request, or one choice of it."""

    handle: int
    index: int | None = None


class ResetPrefixCache(msgspec.Struct, frozen=True, tag=True):
    """Let nothing that was computed before be found by what comes after."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End; nothing more is answered."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The engine is loaded."""

    decisions: Decisions


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine could not be loaded, or has ended."""

    kind: str
    """The exception's name: a ConfigError arrives as one."""
    message: str
    suspects: tuple[int, ...] = ()
    """The handles of the requests that it was at, where that may be why."""


class Report(msgspec.Struct, frozen=True, tag=True):
    """What one step emitted, and how the engine stands after it."""

    emissions: list[Emission]
    stats: Stats
    resets: int = 0
    """How many ResetPrefixCache were carried out before the step."""
    progress: list[Progress] = []
    """Of the requests that began to run in it, or gave way."""


class Trial(msgspec.Struct, frozen=True, tag=True):
    """A request by which an engine may have ended is computed alone from now on, until the next Trial or Report."""

    handle: int


class Beat(msgspec.Struct, frozen=True, tag=True):
    """A sign of life."""

    turn: int | None
    """The number of the turn of its loop that the engine is at; None while it has nothing to do."""
    handles: tuple[int, ...] = ()
    """The requests that are computed at this moment."""


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A line for the log, which the parent keeps for both."""

    level: int
    logger: str
    message: str
    created: float
    """Seconds since 1970."""
    traceback: str = ""


Command: TypeAlias = Add | Abort | ResetPrefixCache | Stop
Down: TypeAlias = Start | Command
Told: TypeAlias = Ready | Failed | Report | Trial | Beat
Up: TypeAlias = Told | Logged

_MODELS = (GenerateRequest, EngineConfig, Decisions)


def to_wire(value: Any) -> Any:
    """The form of what msgspec has none for: one of our own models."""
    if isinstance(value, BaseModel):  # without fields that no schema knows: nothing below could read them
        return value.model_dump(exclude_defaults=True, exclude=set(value.model_extra or ()))
    raise TypeError(f"{type(value).__name__} does not cross a link")


def from_wire(kind: type, value: Any) -> Any:
    """The model again, checked."""
    if kind in _MODELS:
        return kind.model_validate(value)
    raise TypeError(f"{kind.__name__} does not cross a link")


_encoder = msgspec.msgpack.Encoder(enc_hook=to_wire)
_down: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down, dec_hook=from_wire)
_up: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up, dec_hook=from_wire)


def encode(message: msgspec.Struct) -> bytes:
    """A whole frame, length first: of the kinds above, or of those that a hub has besides."""
    return framed(_encoder.encode(message))


def framed(body: bytes) -> bytes:
    """A body, length first."""
    return PREFIX.pack(len(body)) + body


async def read_body(reader: StreamReader) -> bytes:
    """The next frame without its length. IncompleteReadError or ConnectionError where there is none."""
    (length,) = PREFIX.unpack(await reader.readexactly(PREFIX.size))
    return await reader.readexactly(length)


def decode_down(body: bytes) -> Down:
    """What the parent said, from a frame without its length."""
    return _down.decode(body)


def decode_up(body: bytes) -> Up:
    """What the child said, from a frame without its length."""
    return _up.decode(body)
