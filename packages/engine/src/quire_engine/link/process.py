"""A link to an engine in a process of its own: the event loop and the engine share no interpreter lock and no fate.

The child connects to a unix socket in a directory that only this user may enter. It ends when told to, or when the
socket closes because this process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import ConfigError, EngineStopped, ModelNotSupported
from quire_engine.link.frames import (
    Beat,
    Command,
    Down,
    Failed,
    Logged,
    Ready,
    Report,
    Start,
    Stop,
    Told,
    Trial,
    decode_up,
    encode,
    read_body,
)
from quire_engine.link.watch import TICK, Hung, Watch

logger = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that a child has to end by itself."""

READ_AHEAD = 1 << 20
"""Bytes of reports that wait in memory before the child is made to wait."""

REFUSALS = {error.__name__: error for error in (ConfigError, ModelNotSupported)}
"""What a child may refuse to load for, by the name that crosses the link."""


class ProcessLink:
    """Owns the child and the socket to it. A child that hangs is ended; whoever receives hears of it as of any end."""

    is_replaceable = True

    def __init__(self, decisions: Decisions, child: Child, watch: Watch) -> None:
        self.decisions = decisions
        self._child = child
        self._watch = watch
        self._hung: Hung | None = None
        """Why the child was ended, if it was."""
        self._timer = asyncio.get_running_loop().call_later(TICK, self._look)
        self._tried: tuple[int, ...] = ()
        """The handle of the request that is computed alone at this moment, as an engine may have ended by it."""

    @classmethod
    async def start(
        cls, config: EngineConfig, *, progress: bool = False, factory: str = "quire_engine.engine:Engine.load"
    ) -> ProcessLink:
        """Load an engine in a new process; `factory` names the function that does, as `module:name`."""
        child = await Child.spawn()
        try:
            child.send(Start(config, factory, progress, tuple(map(os.path.abspath, sys.path))))
            match await child.receive():
                case Ready(decisions):
                    return cls(decisions, child, Watch(config.engine_step_timeout))
                case Failed(kind, message):
                    refusal = REFUSALS.get(kind)
                    raise refusal(message) if refusal else EngineStopped(f"The engine could not be loaded: {message}")
                case Report() | Trial() | Beat():
                    raise AssertionError("a report came before the engine was ready")
        except BaseException:
            await child.end(grace=0)
            raise

    def send(self, command: Command) -> None:
        """Tell the engine something; it is heard before the next step."""
        self._child.send(command)

    async def receive(self) -> Report:
        """The next step's report. EngineStopped once the engine has ended."""
        while True:
            try:
                message = await self._child.receive()
            except EngineStopped as error:
                self._timer.cancel()
                why = self._hung or Hung(str(error))
                raise EngineStopped(why.reason, suspects=self._tried or why.suspects) from None
            self._watch.heard(message)
            match message:
                case Report() as report:
                    self._tried = ()
                    return report
                case Trial(handle):
                    self._tried = (handle,)
                case Failed(_, words, suspects):
                    self._timer.cancel()
                    raise EngineStopped(f"The engine ended: {words}", suspects=suspects or self._tried)
                case Ready():
                    raise AssertionError("an engine is ready once")

    async def close(self) -> None:
        """End the engine, and wait until it is gone."""
        self._timer.cancel()
        self.send(Stop())
        await self._child.end(grace=GRACE)

    def _look(self) -> None:
        """See whether the child hangs, and look again in a while."""
        self._hung = self._watch.tick()
        if self._hung is not None:
            self._child.kill()
        else:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._look)


class Child:
    """A process that runs quire_engine.link.child, and frames to and from it."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._frames: list[bytes] = []
        """Those of this turn of the event loop."""

    @classmethod
    async def spawn(cls) -> Child:
        """Start the process and wait until it has connected."""
        with TemporaryDirectory(prefix="quire-") as folder, socket.socket(socket.AF_UNIX) as listener:
            path = Path(folder, "engine")  # the folder is ours alone (0700); gone as soon as the child is here
            listener.bind(str(path))
            listener.listen(1)
            listener.setblocking(False)
            command = (sys.executable, "-P", "-m", "quire_engine.link.child", str(path))
            process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL)
            try:
                connection = await _connection(listener, process)
            except BaseException:
                await end_process(process, grace=0)
                raise
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=READ_AHEAD)
        return cls(process, reader, writer)

    def send(self, message: Down) -> None:
        """Send one frame, unless the child has gone: then whoever receives hears of that.

        Frames of one turn of the event loop leave together: each write is a call of the kernel, and wakes the child.
        """
        frame = encode(message)
        if not self._frames:
            asyncio.get_running_loop().call_soon(self._flush)
        self._frames.append(frame)

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if frames and not self._writer.is_closing():
            self._writer.write(b"".join(frames))

    async def receive(self) -> Told:
        """The next frame that is for the link; lines for the log are logged. EngineStopped if the child has gone."""
        try:
            while True:
                message = decode_up(await read_body(self._reader))
                if not isinstance(message, Logged):
                    return message
                _log(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            await end_process(self._process, grace=GRACE)
            raise EngineStopped(f"The engine's process ended ({exit_words(self._process)}).") from None

    def kill(self) -> None:
        """End the process at once. Whoever receives hears that it has gone, though the system may not let it go yet."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._writer.transport.abort()

    async def end(self, *, grace: float) -> None:
        """Wait `grace` seconds for the process to end, then end it; close the socket."""
        self._flush()
        await end_process(self._process, grace=grace)
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


def _log(line: Logged) -> None:
    """Log what the child has to log, as if it had been here."""
    logger = logging.getLogger(line.logger)
    if logger.isEnabledFor(line.level):
        record = logger.makeRecord(line.logger, line.level, "", 0, line.message, (), None)
        record.created, record.exc_text = line.created, line.traceback or None
        logger.handle(record)


async def _connection(listener: socket.socket, process: Process) -> socket.socket:
    """The child's connection. EngineStopped if the child ends without one."""
    accept = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait((accept, ended), return_when=asyncio.FIRST_COMPLETED)
        if accept.done():
            return accept.result()[0]
        raise EngineStopped(f"The engine's process ended before it had begun ({exit_words(process)}).")
    finally:
        accept.cancel()
        ended.cancel()


async def end_process(process: Process, *, grace: float) -> None:
    """Wait `grace` seconds for a process to end, then end it; where the system holds it, as a device may, leave it."""
    if await _has_ended(process, grace):
        return
    with suppress(ProcessLookupError):
        process.kill()
    if not await _has_ended(process, GRACE):
        logger.error("The engine's process %d was killed and does not end; it is left to the system.", process.pid)


async def _has_ended(process: Process, patience: float) -> bool:
    """Whether a process ends within so many seconds."""
    try:
        async with asyncio.timeout(patience):
            await process.wait()
    except TimeoutError:
        return False
    return True


def exit_words(process: Process) -> str:
    """How a process ended, in words."""
    code = process.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
