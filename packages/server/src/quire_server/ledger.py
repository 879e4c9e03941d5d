"""What a server has counted since it started: plain numbers, fed on the event loop. It knows no metric's name."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPMethod
from typing import Protocol

from quire_engine.async_engine import RequestOutputs
from quire_engine.config import Decisions
from quire_engine.errors import Overloaded
from quire_engine.link.supervised import EngineState
from quire_engine.sequence import Emission
from quire_engine.stats import Stats
from quire_engine.text.output import Output
from quire_server.accounts import Account
from quire_server.reads import Reads
from quire_server.spreads import Spread, one_two_five

# fmt: off
LATENCIES = (
    0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920,
    7680,
)
"""Seconds that a request, or a part of one, may take."""
FIRST_TOKENS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)
"""Seconds to a first token."""
GAPS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)
"""Seconds from a token to the next."""
HTTP_FINE = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60,
)
"""Seconds that any request takes, routes together."""
# fmt: on
HTTP_COARSE = (0.1, 0.5, 1)
"""The same, by route."""
STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CHOICES = (1, 2, 5, 10, 20)
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)

MOST_TENANTS = 1000
"""Tenants that are counted apart; what others do is counted under OTHERS."""
OTHERS = "others"
MOST_LEFT = 4096
"""Requests whose client went away that are remembered, to count what the engine still generates for them."""

UNWATCHED = frozenset({"/metrics", "/health", "/livez", "/readyz", "/load", "/ping", "/version"})
"""Routes that are asked all the time, and say nothing of what the server does: they are left out."""

METHODS = frozenset(HTTPMethod)
"""Methods that are counted by their names; a client may send any word."""


class HttpLedger:
    """Counts HTTP requests, as prometheus-fastapi-instrumentator does. A Reader of accounts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        """By method, class of status (2xx, …) and route."""
        self.seconds = Spread(HTTP_FINE)
        self.seconds_by_route: dict[tuple[str, str], Spread] = {}
        """By method and route."""
        self.received: dict[str, Sizes] = {}
        """By route."""
        self.sent: dict[str, Sizes] = {}
        """By route."""
        self.refused: Counter[str] = Counter()
        """Errors that say why in one word, by that word."""

    def __call__(self, account: Account) -> None:
        """Count one request, once it is over."""
        if account.reason is not None:
            self.refused[account.reason] += 1
        route, total = account.route, account.total
        if route in UNWATCHED:
            return
        method = account.method if account.method in METHODS else "other"
        self.requests[method, f"{account.status // 100}xx", route] += 1
        self.seconds.add(total)
        self.seconds_by_route.setdefault((method, route), Spread(HTTP_COARSE)).add(total)
        self.received.setdefault(route, Sizes()).add(account.received)
        self.sent.setdefault(route, Sizes()).add(account.sent)


@dataclass(slots=True)
class Sizes:
    """How many there were, and their sum."""

    count: int = 0
    total: int = 0

    def add(self, size: int) -> None:
        """Count one."""
        self.count += 1
        self.total += size


class Engine(Protocol):
    """What a ledger asks of the engine itself: an AsyncEngine, or a hub's."""

    @property
    def stats(self) -> Stats:
        """How it stood after its last step."""

    @property
    def decisions(self) -> Decisions:
        """What was settled when it was loaded."""

    @property
    def state(self) -> EngineState:
        """Whether it is there at this moment."""

    @property
    def restarts(self) -> int:
        """Times it was started again."""


class EngineLedger:
    """Counts what becomes of an engine's requests. The engine's Observer: `AsyncEngine` calls it as things happen.

    What becomes of requests is counted here, above the line, so that a restart of the engine's process loses and
    repeats none; what only the engine sees comes with its reports, which the link adds up over restarts.
    """

    def __init__(self, engine: Engine, told: Sequence[Callable[[RequestOutputs], None]] = ()) -> None:
        """`told` are called with each request that is taken in, in the context of whoever submits it."""
        self.engine = engine
        self._told = told
        self.since = time.time()
        """When counting began, in seconds since 1970."""
        self.finished: Counter[str] = Counter()
        """Choices that ended, by reason."""
        self.rejections: Counter[str] = Counter()
        """Requests that were not taken in: by the limit of the line, or `deadline`."""
        self.deadlines_missed: Counter[str] = Counter()
        """Choices that their deadline ended: `waiting` for their request's first token, or `running`."""
        self.prompt_tokens: Counter[str] = Counter()
        """Of requests that ended, by tenant."""
        self.generation_tokens: Counter[str] = Counter()
        """The same, of their answers."""
        self.reads: Reads = Counter()
        """How often chat answers were read for tool calls."""
        self.tokens_after_disconnect = 0
        """Generated for requests whose client had gone."""
        self.stats = engine.stats
        """How the engine stands, with its counters since this server started."""
        self._left: OrderedDict[int, None] = OrderedDict()
        """Requests whose client went away, oldest first."""
        self._answers: dict[int, Counter[int]] = {}
        """By handle and choice: the tokens of requests with several choices."""

        lengths = one_two_five(engine.decisions.max_model_len)
        self.time_to_first_token = Spread(FIRST_TOKENS)
        self.inter_token = Spread(GAPS)
        self.per_output_token = Spread(GAPS)
        self.total = Spread(LATENCIES)
        self.queued = Spread(LATENCIES)
        self.inference = Spread(LATENCIES)
        self.prefill = Spread(LATENCIES)
        self.decode = Spread(LATENCIES)
        self.step_tokens = Spread(STEP_TOKENS)
        self.prompt_lengths = Spread(lengths)
        self.answer_lengths = Spread(lengths)
        self.longest_answers = Spread(lengths)
        self.max_tokens = Spread(lengths)
        self.computed_prompts = Spread(lengths)
        self.choices = Spread(CHOICES)
        self.preemptions = Spread(PREEMPTIONS)

    def answered(self, account: Account) -> None:
        """An HTTP request is over. A Reader of accounts."""
        self.reads.update(account.reads)

    # --- the Observer -------------------------------------------------------------------------------------------------

    def submitted(self, outputs: RequestOutputs) -> None:
        """A request was taken in."""
        for tell in self._told:
            tell(outputs)
        if outputs.request.sampling_params.n > 1:
            self._answers[outputs.handle] = Counter()

    def refused(self, error: Overloaded) -> None:
        """A request was not taken in."""
        self.rejections[error.limit or "deadline"] += 1

    def delivered(self, outputs: RequestOutputs, output: Output, gap: float | None) -> None:
        """A choice has something new, `gap` seconds after its request's last token; None where it is the first."""
        if output.token_ids:
            if gap is None:
                self.time_to_first_token.add(outputs.timing.to_first_token or 0.0)
            elif gap:  # choices that have a token from the same step wait for none
                self.inter_token.add(gap)
            if (answers := self._answers.get(outputs.handle)) is not None:
                answers[output.index] += len(output.token_ids)
        if output.finish_reason is not None:
            self.finished[output.finish_reason] += 1
        if output.finish_reason == "timeout":
            self.deadlines_missed["waiting" if outputs.timing.first_token is None else "running"] += 1

    def ended(self, outputs: RequestOutputs) -> None:
        """A request is over: its choices finished, it failed, or its client went away."""
        timing, params = outputs.timing, outputs.request.sampling_params
        if unfinished := params.n - len(outputs.finish_reasons):
            self.finished["error" if outputs.error else "abort"] += unfinished
            if not outputs.error:
                self._leave(outputs.handle)
        tenant = self._counted_as(outputs.terms.tenant)
        self.prompt_tokens[tenant] += timing.prompt_tokens
        self.generation_tokens[tenant] += timing.generation_tokens
        self.choices.add(params.n)
        self.prompt_lengths.add(timing.prompt_tokens)
        self.answer_lengths.add(timing.generation_tokens)
        answers = self._answers.pop(outputs.handle, Counter())
        self.longest_answers.add(max(answers.values(), default=timing.generation_tokens))
        self.computed_prompts.add(timing.prompt_tokens - timing.cached_tokens)
        self.preemptions.add(timing.preemptions)
        if params.max_tokens is not None:
            self.max_tokens.add(params.max_tokens)
        inference = None
        if timing.scheduled is not None and timing.last_token is not None:
            inference = timing.last_token - timing.scheduled
        for spread, seconds in (
            (self.total, timing.total),
            (self.queued, timing.queued),
            (self.prefill, timing.prefill),
            (self.decode, timing.decode),
            (self.inference, inference),
            (self.per_output_token, timing.per_token),
        ):
            if seconds is not None:
                spread.add(seconds)

    def stepped(self, stats: Stats) -> None:
        """The engine has computed a step, and stands like this."""
        computed = stats.computed_tokens - self.stats.computed_tokens
        if computed:
            self.step_tokens.add(computed)
        self.stats = stats

    def unclaimed(self, emission: Emission) -> None:
        """The engine emitted something for a request that is over."""
        if emission.handle in self._left:
            self.tokens_after_disconnect += len(emission.token_ids)

    def _leave(self, handle: int) -> None:
        self._left[handle] = None
        if len(self._left) > MOST_LEFT:
            self._left.popitem(last=False)

    def _counted_as(self, tenant: str) -> str:
        known = tenant in self.prompt_tokens or len(self.prompt_tokens) < MOST_TENANTS
        return tenant if known else OTHERS
