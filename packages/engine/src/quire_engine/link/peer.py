"""One end of a socket between a hub and a front end: typed frames, and questions that are answered in their own time.

    hub → front end     Begin, then Joined once the engine is there; then Admitted, Refused, Report, State; Over at last
    front end → hub     Add, Abort, ResetPrefixCache, Left
    either way          Ask, Answer

It knows no engine. What is asked, whoever owns the two ends knows: a topic is a word to it, and a body bytes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import TypeAlias

import msgspec

from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import (
    ConfigError,
    DeadlineUnreachable,
    EngineStopped,
    ModelNotSupported,
    Overloaded,
    QuireError,
    RequestError,
)
from quire_engine.link.frames import Abort, Add, Report, ResetPrefixCache, encode, from_wire, read_body
from quire_engine.link.supervised import EngineState
from quire_engine.sequence import FinishReason

logger = logging.getLogger(__name__)

READ_AHEAD = 1 << 20
"""Bytes of frames that wait in memory before the other end is made to wait."""

GRACE = 2.0
"""Seconds in which the other end can take the last of what is sent."""

KINDS: Mapping[str, type[QuireError]] = {
    error.__name__: error
    for error in (ConfigError, DeadlineUnreachable, EngineStopped, ModelNotSupported, Overloaded, RequestError)
}
"""Errors that arrive as what they were, by the name that crosses."""


class PeerGone(Exception):
    """The other end has gone."""


class Wrong(msgspec.Struct, frozen=True):
    """An error on its way."""

    kind: str
    message: str
    retry_after: float = 1.0
    limit: str = ""
    param: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Wrong:
        """The form of an error; what nobody foresaw loses everything but its name and its words."""
        told = Wrong(type(error).__name__, str(error))
        if isinstance(error, Overloaded):
            told = msgspec.structs.replace(told, retry_after=error.retry_after, limit=error.limit)
        if isinstance(error, RequestError):
            told = msgspec.structs.replace(told, kind="RequestError", param=error.param)
        return told

    def error(self) -> Exception:
        """The error again."""
        kind = KINDS.get(self.kind)
        if kind is None:
            return RuntimeError(f"{self.kind}: {self.message}")
        if issubclass(kind, Overloaded):
            return kind(self.message, retry_after=self.retry_after, limit=self.limit)
        return RequestError(self.message, param=self.param) if kind is RequestError else kind(self.message)


class Begin(msgspec.Struct, frozen=True, tag=True):
    """What a front end is to be."""

    config: EngineConfig
    brief: bytes
    """What else there is to know; for whoever is above the link."""


class Joined(msgspec.Struct, frozen=True, tag=True):
    """The engine is there: requests may be added from now on."""

    decisions: Decisions
    state: EngineState
    restarts: int
    first_handle: int
    """Handles of this front end's requests go up from here; no other one ever has the same."""


class Admitted(msgspec.Struct, frozen=True, tag=True):
    """A request was let in."""

    handle: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """A request was not let in."""

    handle: int
    wrong: Wrong


class Left(msgspec.Struct, frozen=True, tag=True):
    """A request has ended, as the gate is to hear it."""

    handle: int
    reasons: tuple[FinishReason, ...]
    tokens: int


class State(msgspec.Struct, frozen=True, tag=True):
    """Whether there is an engine at this moment."""

    state: EngineState
    restarts: int


class Over(msgspec.Struct, frozen=True, tag=True):
    """The engine has ended for good."""

    reason: str


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A question to the other end."""

    number: int
    topic: str
    body: bytes


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to the question of this number."""

    number: int
    body: bytes = b""
    wrong: Wrong | None = None


ToFront: TypeAlias = Begin | Joined | Admitted | Refused | Report | State | Over
ToHub: TypeAlias = Add | Abort | ResetPrefixCache | Left
Frame: TypeAlias = ToFront | ToHub

Handler = Callable[[bytes], Awaitable[bytes]]
"""Answers questions of one topic. What it raises is raised where the question was asked."""

_decoder: msgspec.msgpack.Decoder[Frame | Ask | Answer] = msgspec.msgpack.Decoder(
    Frame | Ask | Answer, dec_hook=from_wire
)


class Peer:
    """Sends and receives frames; asks and is asked. Owns the socket. Somebody must always receive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers: dict[str, Handler] = {}
        """Who answers what, by topic."""
        self._reader = reader
        self._writer = writer
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._is_gone = False

    @classmethod
    async def over(cls, one: socket.socket) -> Peer:
        """The end that has this socket, which is connected."""
        return cls(*await asyncio.open_unix_connection(sock=one, limit=READ_AHEAD))

    @property
    def unsent(self) -> int:
        """Bytes that the other end has not taken yet."""
        return int(self._writer.transport.get_write_buffer_size())

    def send(self, frame: Frame | Ask | Answer) -> None:
        """Send one frame, unless the other end has gone: then whoever receives hears of that."""
        if not self._writer.is_closing():
            self._writer.write(encode(frame))

    async def receive(self) -> Frame:
        """The next frame that is neither a question nor an answer. PeerGone if there will be none."""
        try:
            while True:
                frame = _decoder.decode(await read_body(self._reader))
                if isinstance(frame, Ask):
                    self._begin_answer(frame)
                elif isinstance(frame, Answer):
                    self._take_answer(frame)
                else:
                    return frame
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self._let_go()
            raise PeerGone("the other end of the socket has gone") from error

    async def ask(self, topic: str, body: bytes = b"") -> bytes:
        """What the other end answers. Raises what it raised, and PeerGone if it has gone."""
        if self._is_gone:
            raise PeerGone("the other end of the socket has gone")
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self.send(Ask(number, topic, body))
        try:
            return await answer
        finally:
            del self._asked[number]

    def abort(self) -> None:
        """Drop the socket with all that is on its way; whoever receives hears of that."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is on its way, and close the socket; what is not taken in time is dropped."""
        self._let_go()
        self._writer.close()
        try:
            async with asyncio.timeout(GRACE):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self._writer.transport.abort()

    def _begin_answer(self, question: Ask) -> None:
        task = asyncio.create_task(self._answer(question), name=f"quire-answer-{question.topic}")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, question: Ask) -> None:
        try:
            self.send(Answer(question.number, await self.handlers[question.topic](question.body)))
        except Exception as error:
            if not isinstance(error, QuireError):
                logger.exception("A question could not be answered: %s.", question.topic)
            self.send(Answer(question.number, wrong=Wrong.of(error)))

    def _take_answer(self, answer: Answer) -> None:
        asked = self._asked.get(answer.number)
        if asked is None or asked.done():  # nobody waits for it any more
            return
        if answer.wrong is None:
            asked.set_result(answer.body)
        else:
            asked.set_exception(answer.wrong.error())

    def _let_go(self) -> None:
        """Nobody answers any more, and nobody hears an answer."""
        self._is_gone = True
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(PeerGone("the other end of the socket has gone"))
        for task in self._answering:
            task.cancel()
