"""Requests from an event loop to an engine beside it, and their outputs back. It knows no HTTP.

One task reads the engine's reports and gives each request its part; whoever iterates a request's outputs is woken
once for each step. Stop strings are found as tokens arrive, fetched or not. Outputs that nobody has fetched yet are
joined when somebody does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from itertools import count
from types import TracebackType
from typing import Literal, Self

from quire_engine.admission import check_request
from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import EngineStopped, Overloaded
from quire_engine.link.base import LinkStarter
from quire_engine.link.frames import Abort, Report, ResetPrefixCache
from quire_engine.link.gated import AdmittingLink, GatedLink
from quire_engine.link.process import ProcessLink
from quire_engine.link.supervised import EngineState
from quire_engine.link.thread import ThreadLink
from quire_engine.observer import Guarded, Nobody, Observer
from quire_engine.sequence import Emission, FinishReason, Submission, Terms
from quire_engine.stats import Stats
from quire_engine.text.answers import Answers
from quire_engine.text.grammar.compile import Grammars
from quire_engine.text.load import load_tokenizer
from quire_engine.text.output import Output, OutputProcessor
from quire_engine.text.template import Renderer
from quire_engine.text.tokenizer import Tokenizer
from quire_engine.timing import Stopwatch, Timing
from quire_protocol import GenerateRequest

logger = logging.getLogger(__name__)

LINKS: Mapping[str, LinkStarter] = {"process": ProcessLink.start, "thread": ThreadLink.start}


class AsyncEngine:
    """An engine as an event loop sees it: submit requests, iterate their outputs.

    Owns the link and the table of requests that are being answered. Use it on the event loop that it was made on.
    """

    def __init__(
        self, link: AdmittingLink, tokenizer: Tokenizer | None = None, renderer: Renderer | None = None
    ) -> None:
        self.decisions: Decisions = link.decisions
        self.tokenizer = tokenizer
        self.renderer = renderer
        self.stats = Stats()
        """How the engine stood after its last step."""
        self._observer = Guarded(Nobody())
        self._link = link
        self._handles = count(link.first_handle)
        self._requests: dict[int, RequestOutputs] = {}
        self._stopped: str | None = None
        self._resets: deque[asyncio.Future[bool]] = deque()
        """Who waits for the prefix cache to be reset, in the order in which that was asked for."""
        self._reader = asyncio.create_task(self._read(), name="quire-reports")

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        link: Literal["process", "thread"] | LinkStarter = "process",
        *,
        progress: bool = False,
    ) -> Self:
        """Load an engine, and its tokenizer meanwhile. ConfigError if that cannot be served.

        In a process of its own, it is started again when it ends by itself, and goes on with its requests.
        """
        start_link = LINKS[link] if isinstance(link, str) else link
        return await cls.over(GatedLink.start(config, start_link, progress=progress), config)

    @classmethod
    async def over(cls, link: Awaitable[AdmittingLink], config: EngineConfig) -> Self:
        """An engine at the other end of a link that is still to come; its tokenizer is loaded meanwhile."""
        starting = asyncio.ensure_future(link)
        loading = asyncio.ensure_future(asyncio.to_thread(load_tokenizer, config))
        try:
            await asyncio.wait((starting, loading), return_when=asyncio.FIRST_EXCEPTION)
            for task in (starting, loading):
                if task.done():
                    task.result()  # raises what went wrong, without waiting for the other one
            started, tokenizer = starting.result(), loading.result()
            renderer = None
            if tokenizer is not None:
                grammars = Grammars.within(tokenizer, started.decisions)
                answers = Answers(tokenizer, None, None, grammars=grammars)
                renderer = Renderer(tokenizer, started.decisions, answers=answers)
        except BaseException:
            await _undo(starting, loading)
            raise
        return cls(started, tokenizer, renderer)

    async def submit(self, request: GenerateRequest, terms: Terms = Terms()) -> RequestOutputs:  # noqa: B008
        """Begin to answer a request. RequestError, Overloaded or EngineStopped before anything is computed."""
        self._check_running()
        check_request(request, self.decisions, has_tokenizer=self.tokenizer is not None)
        handle = next(self._handles)
        outputs = RequestOutputs(self, handle, request, terms)
        try:
            await self._link.add(Submission.of(handle, heeded(request, self.decisions), terms))
        except Overloaded as error:
            self.observer.refused(error)
            raise
        self._requests[handle] = outputs
        self.observer.submitted(outputs)
        return outputs

    @property
    def observer(self) -> Observer:
        """Who is told of every request; nobody, until whoever owns the engine puts somebody here."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer) -> None:
        self._observer = Guarded(observer)

    @property
    def is_healthy(self) -> bool:
        """Whether requests are answered, be it after a pause."""
        return self._stopped is None

    @property
    def state(self) -> EngineState:
        """Whether there is an engine at this moment, and why not."""
        return self._link.state if self._stopped is None else "stopped"

    @property
    def restarts(self) -> int:
        """Times the engine had ended by itself and was started again."""
        return self._link.restarts

    async def until_stopped(self) -> str:
        """Wait until no request is answered any more, for good; says why."""
        await asyncio.wait((self._reader,))
        assert self._stopped is not None, "the reader ends with the engine"
        return self._stopped

    @property
    def is_sleeping(self) -> bool:
        """Whether the engine has given its memory back until it is woken up."""
        return self.state == "sleeping"

    async def sleep(self) -> None:
        """Give all of the engine's memory back: its process ends. Requests wait, also those that are being answered."""
        self._check_running()
        await self._link.sleep()

    async def wake_up(self) -> None:
        """Load the engine again, which goes on with the requests that wait.

        ConfigError or EngineStopped if that cannot be done, for want of memory, say: then it sleeps on.
        """
        self._check_running()
        await self._link.wake_up()

    async def reset_prefix_cache(self) -> bool:
        """Let nothing that was computed so far be found by requests that come after; True once that is so.

        Requests that are being answered go on with what they hold.
        """
        self._check_running()
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._resets.append(done)
        self._link.send(ResetPrefixCache())
        return await done

    def _check_running(self) -> None:
        if self._stopped is not None:
            raise EngineStopped(self._stopped)

    @property
    def num_requests(self) -> int:
        """How many requests wait or are computed."""
        return len(self._requests)

    def cancel(self, request_ids: Collection[str], tenant: str | None = None) -> set[str]:
        """End requests by their ids, those of one tenant or anybody's: what was generated is their answer.

        Returns the ids of those that still ran.
        """
        running = tuple(self._requests.values())
        ended = [each for each in running if each.request_id in request_ids and tenant in (None, each.tenant)]
        for outputs in ended:
            outputs.cancel()
        return {each.request_id for each in ended}

    def cut_off(self, error: Exception) -> None:
        """End every request with this error, after what it has ready; the engine goes on."""
        for handle, outputs in tuple(self._requests.items()):
            self.abort(handle)
            outputs.fail(error)

    async def close(self) -> None:
        """End the engine. Requests that are being answered raise EngineStopped."""
        self._stop("The engine was closed.")
        self._reader.cancel()
        await asyncio.wait((self._reader,))
        await self._link.close()

    async def _read(self) -> None:
        """Take in reports until the engine ends, or one cannot be taken in: then nobody would be answered any more."""
        try:
            while True:
                self._take_in(await self._link.receive(), time.monotonic())
        except EngineStopped as error:
            self._stop(str(error))
        except Exception as error:
            logger.exception("A report of the engine could not be taken in, and the engine is ended.")
            self._stop(f"A report of the engine could not be taken in ({type(error).__name__}: {error}).")
            await self._link.close()

    def _take_in(self, report: Report, now: float) -> None:
        """Give each request its part of a report."""
        self.stats = report.stats
        self.observer.stepped(report.stats)
        for _ in range(report.resets):
            if not (done := self._resets.popleft()).done():  # else nobody waits for it any more
                done.set_result(True)
        for progress in report.progress:
            if progress.handle in self._requests:
                self._requests[progress.handle].stopwatch.progressed(progress)
        for emission in report.emissions:
            if emission.handle in self._requests:
                self._requests[emission.handle].deliver(emission, now)
            else:  # it was closed meanwhile
                self.observer.unclaimed(emission)

    def _stop(self, reason: str) -> None:
        """Take no more requests, and let go of those that wait."""
        self._stopped = self._stopped or reason
        for done in self._resets:
            if not done.done():
                done.set_exception(EngineStopped(self._stopped))
        self._resets.clear()
        for outputs in tuple(self._requests.values()):
            outputs.fail(EngineStopped(self._stopped))

    def abort(self, handle: int, index: int | None = None) -> None:
        """Tell the engine to forget a request, or one choice of it."""
        if self._stopped is None:
            self._link.send(Abort(handle, index))

    def forget(self, handle: int) -> None:
        """Give a request nothing more: it has ended."""
        ended = self._requests.pop(handle, None)
        if ended is not None:
            now = time.monotonic()
            reasons = tuple(ended.finish_reasons.values()) if ended.is_complete else ()
            self._link.ended(handle, reasons, ended.timing.generation_tokens)
            ended.stopwatch.end(now)
            self.observer.ended(ended)


class RequestOutputs:
    """What one request gives, choice by choice as it comes: an async iterator of Output.

    Ends when every choice has finished. Closing it, or cancelling the task that waits for it, aborts the rest at once.
    Raises EngineStopped if the engine ends first.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        handle: int,
        request: GenerateRequest,
        terms: Terms = Terms(),  # noqa: B008
    ) -> None:
        self.request = request
        self.terms = terms
        self.finish_reasons: dict[int, FinishReason] = {}
        """Of the choices that have finished."""
        self._engine = engine
        self.handle = handle
        self._processor = OutputProcessor(request, engine.tokenizer)
        self._unfinished = set(range(request.sampling_params.n))
        self._cached_tokens = 0
        self.stopwatch = Stopwatch(time.monotonic(), len(request.token_ids))
        self._ready: dict[int, list[Output]] = {}
        self.error: Exception | None = None
        """What ended it, if it failed."""
        self._sleeper: asyncio.Future[None] | None = None
        """Who waits for an output."""
        self.taker: Callable[[Output], bool] | None = None
        """Is offered what comes while somebody waits for it, but for the end of a choice. What it takes (True) wakes
        nobody. It must be quick; if it raises, the request fails."""

    @property
    def request_id(self) -> str:
        """What its client calls it."""
        return self.request.request_id

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.terms.tenant

    @property
    def is_complete(self) -> bool:
        """Whether all of its choices have finished."""
        return not self._unfinished

    @property
    def timing(self) -> Timing:
        """When what happened to it so far, and how many tokens it has."""
        return self.stopwatch.timing

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output:
        """The next output of any choice; all that one choice has ready is one Output."""
        try:
            while not self._ready:
                if self.error is not None:
                    raise self.error
                if not self._unfinished:
                    raise StopAsyncIteration
                self._sleeper = asyncio.get_running_loop().create_future()
                await self._sleeper
        except asyncio.CancelledError:
            self._close()
            raise
        return self._take()

    def ready(self) -> Output | None:
        """The next output if it is there already; None where one would have to wait, or nothing more comes."""
        return self._take() if self._ready else None

    def _take(self) -> Output:
        return Output.joined(self._ready.pop(next(iter(self._ready))))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Abort what is unfinished, and drop what was not fetched."""
        self._close()

    def deliver(self, emission: Emission, now: float) -> None:
        """Take in what the engine emitted; `now` is when. An error in its text ends this request alone."""
        gap = self.stopwatch.emitted(emission, now)
        try:
            output = self._processor.process(emission)
            if output is None:
                return
            self._cached_tokens = max(self._cached_tokens, output.cached_tokens)
            self._engine.observer.delivered(self, output, gap)
            if output.finish_reason is None and self._is_awaited and self.taker is not None and self.taker(output):
                return
        except Exception as error:
            logger.exception("What was generated for a request could not be passed on, and it is ended.")
            self._engine.abort(self.handle)
            self.fail(error)
            return
        if output.finish_reason is not None:
            self.finish_reasons[output.index] = output.finish_reason
            self._unfinished.discard(output.index)
            if emission.finish_reason is None:  # a stop string ended it: the engine does not know yet
                self._engine.abort(self.handle, output.index)
            if not self._unfinished:
                self._engine.forget(self.handle)
        self._ready.setdefault(output.index, []).append(output)
        self._wake()

    def cancel(self) -> None:
        """End it: each choice that has not finished does so with "abort", and with the text that was held back."""
        self._engine.abort(self.handle)
        for index in sorted(self._unfinished):
            given_up = Emission(self.handle, index, (), finish_reason="abort", cached_tokens=self._cached_tokens)
            self.deliver(given_up, time.monotonic())

    def fail(self, error: Exception) -> None:
        """End with an error, after what is ready."""
        self.error = error
        self._engine.forget(self.handle)
        self._wake()

    @property
    def _is_awaited(self) -> bool:
        """Whether somebody waits for an output, who then has had all that came before."""
        return self._sleeper is not None and not self._sleeper.done()

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def _close(self) -> None:
        if self._unfinished and self.error is None:
            self._engine.abort(self.handle)
            self._engine.forget(self.handle)
        self._unfinished.clear()
        self._ready.clear()
        self._wake()


def heeded(request: GenerateRequest, decisions: Decisions) -> GenerateRequest:
    """A request without the extra arguments that no extension takes: nothing below could read them."""
    extra = request.sampling_params.extra_args or {}
    taken = {name: value for name, value in extra.items() if name in decisions.xargs}
    if len(taken) == len(extra):
        return request
    params = replace(request.sampling_params, extra_args=taken or None)
    return request.model_copy(update={"sampling_params": params})


async def _undo(starting: asyncio.Future[AdmittingLink], loading: asyncio.Future[Tokenizer | None]) -> None:
    """Give up a start: end both halves, and the engine if it had come up already."""
    starting.cancel()
    loading.cancel()
    started, _ = await asyncio.gather(starting, loading, return_exceptions=True)
    if not isinstance(started, BaseException):
        await started.close()
