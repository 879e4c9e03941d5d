"""`quire serve`: the engine's process first, then the application, then requests until a signal says stop.

A first signal stops it in order: /readyz says no, new requests are refused with 503, and those that run get
--shutdown-timeout to finish; what is left is cut off with an error. A second one cuts off at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError, EngineStopped
from quire_server import descriptors, logs, report, tls
from quire_server.__about__ import __version__
from quire_server.entrance import Application, Entrance
from quire_server.reread import Reread
from quire_server.settings import ServerSettings
from quire_server.tracing import check_tracing
from quire_server.watched import Watched

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Config, Server

    from quire_engine.async_engine import AsyncEngine
    from quire_server.dependencies import Serving
    from quire_server.relay import Relay
    from quire_server.siblings import Company

T = TypeVar("T")

logger = logging.getLogger("quire")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048
LAST_WORDS = 2.0
"""Seconds in which those who are cut off can be told so."""
FEW_CONNECTIONS = 1024
"""Where fewer are possible, this is said."""
LAST_THREADS = 5.0
"""Seconds for which threads that still work for somebody who has gone can hold the end of the process up."""
LAST_BYTES = 5
"""Seconds in which clients can take what was written to them before the server ended."""
CUT_OFF = "The server has ended before this answer was complete."


class Exit(IntEnum):
    """How `quire serve` ends, as the exit status of its process. 2 stands for what was asked wrongly, as everywhere."""

    DONE = 0
    """As a signal asked, and everybody was answered."""
    FAILED = 1
    """The engine did not start or ended for good, or nobody was answered any more."""
    CUT_OFF = 3
    """As a signal asked, but some answers were cut off."""


@dataclass(frozen=True)
class Site:
    """What a process is to answer for, and where; and what tells it to end, and to read again."""

    settings: ServerSettings
    name: str
    """What the model is called unless it is named otherwise."""
    listener: socket.socket
    stop: Stop
    reread: Reread
    entrance: Entrance = field(default_factory=Entrance)


def serve(config: EngineConfig, settings: ServerSettings) -> int:
    """Serve until a signal; how that ended, as an Exit. ConfigError before anything was begun."""
    logs.configure(settings.log_format)
    check_files(settings)
    descriptors.raise_limit()
    if (most := descriptors.most_connections()) < FEW_CONNECTIONS:
        logger.warning(
            "Only %d clients can be connected at once: this process may not open more files (ulimit -n).", most
        )
    with (
        contextlib.closing(bind(settings)) as listener,
        removing(settings.uds),
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        try:
            if settings.api_server_count == 1:
                code: int = runner.run(_serve(config, settings, listener))
            else:
                from quire_server.workers import serve_by_workers

                code = runner.run(serve_by_workers(config, settings, listener))
        except EngineStopped as error:
            print(f"quire: {error}", file=sys.stderr)
            code = Exit.FAILED
        return end_soon(code)


def end_soon(code: int) -> int:
    """The exit status of this process, which it ends with in LAST_THREADS seconds, if it has not by then."""
    clock = threading.Timer(LAST_THREADS, os._exit, (code,))
    clock.daemon = True
    clock.start()
    return code


async def _serve(config: EngineConfig, settings: ServerSettings, listener: socket.socket) -> Exit:
    """The engine's process first, as it takes longest; then somebody who answers; then what answers in earnest."""
    began = time.perf_counter()
    name = report.model_name(config)
    say(f"quire {__version__}: loading {name}")
    stop, reread = Stop(), Reread()

    async def ready(serving: Serving) -> None:
        say(*report.lines(report.described(name, serving.engine.decisions)), *formats_of(serving))
        announce(name, settings, listener, began)

    site = Site(settings, name, listener, stop, reread)
    with stop.on_signals(), reread.on_signal():
        starting = asyncio.create_task(start_engine(config, progress=settings.log_format == "text"))
        return await answer(site, starting, ready)


async def answer(
    site: Site,
    starting: asyncio.Task[AsyncEngine],
    ready: Callable[[Serving], Awaitable[None]],
    company: Company | None = None,
    relay: Relay | None = None,
) -> Exit:
    """Answer by an engine that is still being started, until it ends or one is asked to stop; then wind up.

    `ready` is called once requests are answered. `company` says who answers beside this process, and `relay` passes on
    what they keep.
    """
    settings, stop, reread, entrance = site.settings, site.stop, site.reread, site.entrance
    async with answering(entrance, settings, site.listener, stop, reread) as answered:
        building = asyncio.create_task(asyncio.to_thread(build_application, settings, relay))
        engine = await stop.unless_asked(starting)
        if engine is None:
            return Exit.DONE
        try:
            app = await building
            if settings.api_key_file is not None:
                reread.add(app.state.keys.read_again)
            from quire_server.app import attach
            from quire_server.siblings import Alone

            serving = attach(app, engine, settings, site.name, company or Alone)
            gc.freeze()  # what is loaded stays: looking through it again and again would hold up every stream
            entrance.open(app if relay is None else relay.in_front_of(app, app.state.keys))
            await ready(serving)
            await first_of(stop.asked.wait(), engine.until_stopped(), asyncio.wait((answered,)))
            return await wind_up(serving, entrance, stop)
        finally:
            await engine.close()


async def start_engine(config: EngineConfig, *, progress: bool) -> AsyncEngine:
    """The engine in a process of its own, which begins before this one imports what it needs to talk to it.

    `progress` shows a bar on standard error while it loads.
    """
    from quire_engine.link.process import ProcessLink

    link = asyncio.create_task(ProcessLink.start(config, progress=progress))
    early = [link]

    async def start_link(config: EngineConfig, *, progress: bool) -> ProcessLink:
        """The first one was begun above; those that take its place begin here."""
        return await (early.pop() if early else ProcessLink.start(config, progress=progress))

    try:
        front = await asyncio.to_thread(import_module, "quire_engine.async_engine")
        engine: AsyncEngine = await front.AsyncEngine.start(config, start_link)
        return engine
    except BaseException:
        link.cancel()  # does nothing once it is there; who has it then closes it
        raise


@contextlib.asynccontextmanager
async def answering(
    entrance: Entrance, settings: ServerSettings, listener: socket.socket, stop: Stop, reread: Reread
) -> AsyncIterator[asyncio.Task[None]]:
    """Answer requests meanwhile. The task ends when nobody is answered any more, whyever."""
    listening = asyncio.Event()
    server = await asyncio.to_thread(
        lambda: make_server(uvicorn_config(entrance, settings), listening.set, shares=settings.api_server_count > 1)
    )
    stop.server = server
    answered = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        heard = asyncio.create_task(listening.wait())
        await asyncio.wait((answered, heard), return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()  # where the server ended before it listened
        if (context := server.config.ssl) is not None:
            reread.add(lambda: tls.renew(context, settings))
        async with tls.refreshing(server.config.ssl, settings):
            yield answered
    finally:
        server.should_exit = True
        await answered


async def wind_up(serving: Serving, entrance: Entrance, stop: Stop) -> Exit:
    """Take no more requests, let those that run finish, and cut off what does not. EngineStopped if that is why.

    The listener stays open meanwhile, so that whoever asks is told; nobody waits for those who come now.
    """
    from quire_server.errors import ShuttingDown

    engine, patience = serving.engine, serving.settings.shutdown_timeout
    serving.closing.begin()
    inside = entrance.part()
    if engine.is_healthy and not inside.is_empty:
        say(f"stopping: what runs gets {patience:g} s to finish; a second signal cuts it off")
        await first_of(inside.until_empty(), stop.insisted.wait(), engine.until_stopped(), asyncio.sleep(patience))
    cut_off = not inside.is_empty
    if cut_off:
        stop.hurry()
        engine.cut_off(ShuttingDown(CUT_OFF))
        await first_of(inside.until_empty(), asyncio.sleep(LAST_WORDS))
    if not engine.is_healthy:
        raise EngineStopped(await engine.until_stopped())
    if not stop.asked.is_set():
        return Exit.FAILED  # the HTTP layer has ended by itself
    return Exit.CUT_OFF if cut_off else Exit.DONE


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of these is over; the others are given up."""
    tasks = [asyncio.create_task(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def formats_of(serving: Serving) -> list[str]:
    """What is known of the form of this model's answers, in lines."""
    from quire_server.formats import described

    return [] if serving.answers is None else [*report.lines(described(serving.answers, serving.settings))]


def announce(name: str, settings: ServerSettings, listener: socket.socket, began: float) -> None:
    """Say where the server is to be found, once it is; the last line is the one that scripts wait for."""
    address = url(settings, listener)
    say(*report.lines(report.addressed(address, settings.names(name), settings)))
    say(f"  try      {report.curl(address, settings)}")
    say(f"ready after {time.perf_counter() - began:.1f} s: {address}")


class Stop:
    """Hears SIGINT and SIGTERM: the first asks for an orderly end, a second one insists on an end at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self.server: Server | None = None

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen meanwhile."""
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.add_signal_handler(each, self.ask)
        try:
            yield
        finally:
            for each in SIGNALS:
                loop.remove_signal_handler(each)

    def ask(self) -> None:
        """Once: stop when what runs is done. Twice: stop."""
        if self.asked.is_set():
            self.insisted.set()
            self.hurry()
        self.asked.set()

    def hurry(self) -> None:
        """Let the HTTP layer wait for nobody when it ends."""
        if self.server is not None:
            self.server.force_exit = True

    async def unless_asked(self, starting: asyncio.Task[T]) -> T | None:
        """What `starting` gives; None when told to stop first, and then it is undone."""
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if starting.done():
            return starting.result()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return None


def make_server(config: Config, tell: Callable[[], None], *, shares: bool = False) -> Server:
    """uvicorn's server, which calls `tell` once it listens; `shares`: other processes have its listener too."""
    from quire_server.accepting import AcceptingServer, TellingServer

    return AcceptingServer(config, tell, shares=shares) if shares or config.is_ssl else TellingServer(config, tell)


def uvicorn_config(app: Application, settings: ServerSettings) -> Config:
    """How the HTTP layer is set up."""
    import uvicorn

    from quire_server.connection import ConnectionClass, patience_of

    return uvicorn.Config(
        app,
        log_level=settings.uvicorn_log_level,
        access_log=False,  # ours tells more: quire_server.access
        log_config=None,
        http=cast("type[asyncio.Protocol]", ConnectionClass(patience_of(settings))),
        ws="none",
        root_path=settings.root_path,
        timeout_keep_alive=settings.timeout_keep_alive,
        **tls.options(settings),
        backlog=BACKLOG,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=LAST_BYTES,  # --shutdown-timeout is over by then: wind_up
    )


def check_files(settings: ServerSettings) -> None:
    """Read the files that the settings name, before anything slow happens. ConfigError if one cannot be used."""
    settings.read_chat_template()
    if settings.otlp_traces_endpoint is not None:
        check_tracing(settings.otlp_traces_endpoint)
    settings.read_keys()
    tls.check(settings)


def bind(settings: ServerSettings) -> socket.socket:
    """The socket to listen on, taken before anything slow happens. ConfigError if it cannot be had."""
    if settings.uds is not None:
        return _bind_unix(settings.uds)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {settings.host} is no address of this machine: {error.strerror}.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{settings.host} port {settings.port} cannot be listened on: {error.strerror}; choose another with --port."
        ) from error
    return listener


def _bind_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            _remove_what_was_left(path)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise ConfigError(f"--uds {path} cannot be listened on: {error.strerror}.") from error
    return listener


def _remove_what_was_left(path: str) -> None:
    """Remove a socket on which nobody listens, as a server leaves it that is killed. OSError where somebody does."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX) as one:
        one.setblocking(False)  # whoever has no time to accept is there all the same
        if one.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


@contextlib.contextmanager
def removing(path: str | None) -> Iterator[None]:
    """Remove the socket of this path in the end, unless another has taken its place."""
    own = None if path is None else Watched(path)
    try:
        yield
    finally:
        if path is not None and own is not None and not own.has_changed():
            os.unlink(path)


def url(settings: ServerSettings, listener: socket.socket) -> str:
    """Where the server is to be found, as a client on this machine would write it: without the prefix of a proxy."""
    if settings.uds is not None:
        return f"unix:{settings.uds}"
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if settings.ssl_keyfile else 'http'}://{shown}:{port}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loops where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def build_application(settings: ServerSettings, relay: Relay | None = None) -> FastAPI:
    """The application, in a thread: importing what it is made of takes its time too."""
    from quire_server.app import build_app

    return build_app(settings) if relay is None else build_app(settings, relay.new_name)


def say(*told: str) -> None:
    """Print at once, also into a pipe: whoever started the server may be waiting for these lines."""
    print(*told, sep="\n", flush=True)
