"""The process at the other end of a ProcessLink: `python -m quire_engine.link.child SOCKET`."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from queue import SimpleQueue
from threading import Lock, Thread
from typing import BinaryIO, cast

from quire_engine.engine import Engine, EngineFactory
from quire_engine.errors import ConfigError
from quire_engine.link.base import Pulse, serve
from quire_engine.link.frames import (
    PREFIX,
    Beat,
    Command,
    Down,
    Failed,
    Logged,
    Ready,
    Start,
    Stop,
    Trial,
    Up,
    decode_down,
    encode,
)

logger = logging.getLogger(__name__)

BEAT = 1.0
"""Seconds between two signs of life."""

TRACEBACKS = logging.Formatter()
"""Writes them as Python does."""


def main(path: str) -> int:
    """Connect, load the engine that is asked for, and serve it; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group: the parent decides what they mean
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return run(connection)


def run(connection: socket.socket) -> int:
    """Load and serve; whatever goes wrong is told to the parent."""

    turn = Lock()

    def tell(message: Up) -> None:
        with turn:  # other threads have something to log at any time
            connection.sendall(encode(message))

    frames = connection.makefile("rb")
    start = receive(frames)
    if not isinstance(start, Start):
        return 1
    logging.getLogger().addHandler(LogsUpward(tell))
    inbox: SimpleQueue[Command] = SimpleQueue()
    Thread(target=listen, args=(frames, inbox), name="quire-commands", daemon=True).start()
    try:
        engine = find_factory(start)(start.config, progress=start.progress)
        engine.on_trial = lambda handle: tell(Trial(handle))
        gc.freeze()  # what is loaded stays: looking through it again and again would hold up every step
        tell(Ready(engine.decisions))
        pulse = Pulse()
        Thread(target=beat, args=(engine, pulse, tell), name="quire-beats", daemon=True).start()
        serve(engine, inbox, tell, pulse)
        engine.close()
    except ConnectionError:
        return 1  # the parent has gone
    except Exception as error:
        if not isinstance(error, ConfigError):  # a refusal is the parent's to show
            logger.error("The engine ended.", exc_info=error)
        tell(Failed(type(error).__name__, str(error), getattr(error, "suspects", ())))
        return 1
    return 0


class LogsUpward(logging.Handler):
    """Passes what is logged here on to the parent, so that there is one log, of one form."""

    def __init__(self, tell: Callable[[Logged], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one line."""
        try:
            traceback = TRACEBACKS.formatException(record.exc_info) if record.exc_info else ""
            self._tell(Logged(record.levelno, record.name, record.getMessage(), record.created, traceback))
        except Exception:
            self.handleError(record)  # writes to standard error


def listen(frames: BinaryIO, inbox: SimpleQueue[Command]) -> None:
    """Pass commands on until the last one. Without it this process ends at once: nobody could tell it anything more."""
    while True:
        try:
            command = receive(frames)
        except ConnectionError:
            command = None
        except Exception:
            logger.exception("A command could not be read, and the engine ends.")
            command = None
        if command is None:
            os._exit(1)
        inbox.put(cast(Command, command))
        if isinstance(command, Stop):
            return


def beat(engine: Engine, pulse: Pulse, tell: Callable[[Beat], None]) -> None:
    """Say what the engine is at, time and again, until nobody can be told. In silence, this process is stopped."""
    while True:
        try:
            tell(Beat(pulse.turn, engine.at_hand))
        except OSError:
            return
        time.sleep(BEAT)


def receive(frames: BinaryIO) -> Down | None:
    """The next frame; None if the parent has gone."""
    prefix = frames.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    (length,) = PREFIX.unpack(prefix)
    body = frames.read(length)
    return decode_down(body) if len(body) == length else None


def find_factory(start: Start) -> EngineFactory:
    """The function that loads the engine, imported from where the parent would import it."""
    sys.path.extend(path for path in start.path if path not in sys.path)
    module, _, name = start.factory.partition(":")
    return cast(EngineFactory, attrgetter(name)(import_module(module)))


def leave(exit_code: int) -> None:
    """End this process with what was written, but without taking the interpreter apart.

    That takes a while with torch in it, and Triton complains of what it has leaked itself.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    exit_code = 1
    atexit.register(lambda: leave(exit_code))  # the first one here, so called last
    exit_code = main(sys.argv[1])
