"""Who may join the waiting line now: as many as it holds, and nobody whose deadline is lost. No torch.

It stands above the link, where a refusal costs the engine nothing, and knows who waits and who runs, whose they are,
and how long their prompts; neither what they ask for nor what is computed of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

from quire_engine.config import Decisions
from quire_engine.errors import DeadlineUnreachable, Overloaded
from quire_engine.forecast import Ahead, Forecast
from quire_engine.sequence import FinishReason, Terms
from quire_engine.stats import Stats
from quire_protocol import GenerateRequest

LONGEST_WAIT = 60.0
"""Seconds after which, at the latest, who was refused is told to come back; clients take longer ones for never."""

AS_LONG_AS_ASKED: frozenset[FinishReason] = frozenset({"stop", "length"})
"""How answers end that are as long as they were to be."""
BY_THEMSELVES: frozenset[FinishReason] = AS_LONG_AS_ASKED | {"timeout"}
"""How answers end that took as long as they were to take, or longer."""

LEAST_CAUTION, MOST_CAUTION = 1.2, 4.0
"""Times as long as foretold, at least and at most, that an answer is expected to take: machines waver."""
LESSONS, EXCEPTIONS = 512, 0.01
"""Answers that are remembered, and the share of these that may have taken longer than expected; two may in any case."""
FORGETTING = 30.0
"""Seconds without a lesson after which half of what was learned is gone: whoever is refused teaches nothing."""


class Caution:
    """Times as long as foretold that an answer is expected to take, judged by the last ones that ended.

    A line that is shorter than it might be costs no speed, and what it is short of is what a machine wavers by.
    So caution stays as high as nearly all of the answers remembered need it, however many of them came in time since.
    """

    def __init__(self) -> None:
        self._lessons: deque[float] = deque()
        """How many times as long as foretold answers took, the newest last."""
        self._sorted: list[float] = []
        self._learned = 0.0
        """When, last."""

    def at(self, now: float) -> float:
        """What to expect."""
        allowed = max(2, int(EXCEPTIONS * len(self._sorted)))
        needed = self._sorted[-1 - allowed] if len(self._sorted) > allowed else LEAST_CAUTION
        return _faded(needed, self._pauses(now))

    def learn(self, times: float, now: float) -> None:
        """One answer has ended, and took so many times as long as foretold."""
        if pauses := self._pauses(now):
            self._lessons = deque(_faded(each, pauses) for each in self._lessons)
            self._sorted = sorted(self._lessons)
        if len(self._lessons) == LESSONS:
            del self._sorted[bisect_left(self._sorted, self._lessons.popleft())]
        self._lessons.append(times)
        insort(self._sorted, times)
        self._learned = now

    def _pauses(self, now: float) -> int:
        return int((now - self._learned) // FORGETTING)


def _faded(times: float, pauses: int) -> float:
    """What is left of a lesson after so many pauses, within the bounds of caution."""
    return LEAST_CAUTION * math.pow(min(max(times, LEAST_CAUTION), MOST_CAUTION) / LEAST_CAUTION, math.pow(0.5, pauses))


@dataclass(slots=True)
class Standing:
    """What one tenant has here."""

    weight: float = 1.0
    waiting: int = 0
    tokens: int = 0
    """Of the prompts of those who wait."""
    answers: float = 0.0
    """Tokens that their answers will have."""
    running: int = 0


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that was let in."""

    tokens: int
    """Of its prompt."""
    answer: float
    """Tokens that it will have, by what is usual."""
    terms: Terms
    priority: int
    joined: float
    pauses: int
    """Times that there had been no engine before."""
    foretold: float = 0.0
    """Seconds that its answer would take; 0 where nobody asked, or knew."""

    def is_close(self, caution: float) -> bool:
        """Whether it was expected to take a quarter of its time or more: only these can teach caution."""
        return self.terms.deadline is not None and 4 * caution * self.foretold >= self.terms.deadline - self.joined


class Gate:
    """Counts who waits and who runs, and lets requests in or refuses them. Owned by the GatedLink.

    `now` is on the deadlines' clock.
    """

    def __init__(self, decisions: Decisions) -> None:
        self.decisions = decisions
        self.forecast = Forecast(decisions)
        self.caution = Caution()
        self.waiting_tokens = 0
        """Of the prompts of all who wait."""
        self._waiting_answers = 0.0
        self._waiting: dict[int, Ticket] = {}
        self._running: dict[int, Ticket] = {}
        self._tenants: dict[str, Standing] = {}
        self._promised = 0.0
        """When the last of those who were refused was told to come back."""
        self._pauses = 0
        """Times that there was no engine."""

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._waiting)

    def join(self, handle: int, request: GenerateRequest, terms: Terms, now: float) -> None:
        """Let a request into the line. Overloaded if that is full, DeadlineUnreachable if it would end too late.

        ValueError if its tenant has no share at all.
        """
        if not terms.weight > 0:
            raise ValueError(f"The weight of tenant {terms.tenant!r} is {terms.weight}; a share is above 0.")
        answer = self.forecast.length_of(request.sampling_params)
        ticket = Ticket(len(request.token_ids), answer, terms, request.priority, now, self._pauses)
        self._check_room(ticket, now)
        if terms.deadline is not None:
            ticket = replace(ticket, foretold=self._check_deadline(ticket, request.sampling_params.n, terms.deadline))
        self._waiting[handle] = ticket
        self.waiting_tokens += ticket.tokens
        self._waiting_answers += answer
        standing = self._tenants.setdefault(terms.tenant, Standing())
        standing.weight = terms.weight
        standing.waiting += 1
        standing.tokens += ticket.tokens
        standing.answers += answer

    def began(self, handle: int) -> None:
        """A request runs from now on. Who ran before is passed over."""
        ticket = self._waiting.pop(handle, None)
        if ticket is not None:
            self._running[handle] = ticket
            self._leave_line(ticket).running += 1

    def ended(self, handle: int, now: float, reasons: Collection[FinishReason] = (), tokens: int = 0) -> None:
        """A request has ended: for these reasons, with so many tokens, or because nobody waits for all of it."""
        if (ticket := self._waiting.pop(handle, None)) is not None:
            standing = self._leave_line(ticket)
        elif (ticket := self._running.pop(handle, None)) is not None:
            standing = self._tenants[ticket.terms.tenant]
            standing.running -= 1
        else:
            return
        if not standing.waiting and not standing.running:
            del self._tenants[ticket.terms.tenant]
        if reasons:
            self._learn(ticket, now, reasons, tokens)

    def observe(self, stats: Stats) -> None:
        """Take in how the engine stands after a step, or that there is none: everybody waits, and nothing is computed.

        How long those take who have waited for an engine says nothing about it.
        """
        if stats.waiting and not stats.running and stats.steps == self.forecast.stats.steps:
            self._pauses += 1
        self.forecast.observe(stats)

    def _learn(self, ticket: Ticket, now: float, reasons: Collection[FinishReason], tokens: int) -> None:
        """Learn how long answers are, and take, from one that has ended."""
        if AS_LONG_AS_ASKED.issuperset(reasons):
            self.forecast.answered(tokens, len(reasons))
        caution = self.caution.at(now)
        is_telling = ticket.pauses == self._pauses and BY_THEMSELVES.issuperset(reasons)
        if is_telling and ticket.is_close(caution):
            left = 0.0
            if "timeout" in reasons:  # what it lacks would have taken longer still
                left = self.forecast.decode((ticket.answer - tokens) / len(reasons))
            self.caution.learn((now - ticket.joined + left) / ticket.foretold, now)

    def _leave_line(self, ticket: Ticket) -> Standing:
        self.waiting_tokens -= ticket.tokens
        self._waiting_answers = self._waiting_answers - ticket.answer if self._waiting else 0.0
        standing = self._tenants[ticket.terms.tenant]
        standing.waiting -= 1
        standing.tokens -= ticket.tokens
        standing.answers = standing.answers - ticket.answer if standing.waiting else 0.0
        return standing

    def _check_room(self, ticket: Ticket, now: float) -> None:
        most, most_tokens = self.decisions.max_num_queued_reqs, self.decisions.max_num_queued_tokens
        if self._is_due(ticket.terms.tenant):
            return
        if self.waiting - self._empty_seats >= most:
            limit = "max_num_queued_reqs"
            full = f"{self.waiting} requests are waiting, and the line holds {most} ({limit})"
        elif self.waiting and self.waiting_tokens + ticket.tokens > most_tokens:
            limit = "max_num_queued_tokens"
            full = (
                f"The prompts of {self.waiting} waiting requests have {self.waiting_tokens} tokens, this one has "
                f"{ticket.tokens}, and the line holds {most_tokens} ({limit})"
            )
        else:
            return
        wait = self._promise(ticket.tokens, now)
        raise Overloaded(
            f"{full}. Nothing was computed; try again in {math.ceil(wait)} s.", retry_after=wait, limit=limit
        )

    @property
    def _empty_seats(self) -> int:
        """Of those in line, how many the engine takes as soon as it hears of them: they stand there in name only."""
        if self.forecast.stats.waiting:  # somebody could not be taken, whatever there is of seats
            return 0
        return max(self.decisions.max_num_seqs - len(self._running), 0)

    def _is_due(self, tenant: str) -> bool:
        """Whether a tenant has one place whatever the line holds: it has none there, and others have filled it.

        There are at most as many such places as tenants, and nobody is shut out by the others' requests. Where there is
        no line, nobody has a place in it.
        """
        if self.decisions.scheduling_policy != "fair" or not self.decisions.max_num_queued_reqs:
            return False
        own = self._tenants.get(tenant)
        return own is None or not own.waiting

    def _promise(self, tokens: int, now: float) -> float:
        """Seconds until there should be room: each of those who are refused is told a moment of its own.

        Told the same one, all would come back at once, and all but one be refused again. Once they fill twice the time
        in which the line drains, they begin anew: not all come back.
        """
        one = self.forecast.drain(tokens)
        last = now + min(2 * one * max(self.waiting, 1), LONGEST_WAIT)
        self._promised = max(self._promised, now) + one
        if self._promised > last:
            self._promised = min(now + one, last)
        return max(self._promised - now, 1.0)

    def _check_deadline(self, ticket: Ticket, choices: int, deadline: float) -> float:
        """Seconds that the answer is foretold to take. DeadlineUnreachable if that is too long.

        Nobody is refused, and nothing foretold, where there is nobody else: it costs no one anything, and shows how
        long things take now.
        """
        left = deadline - ticket.joined
        if left <= 0:
            problem = f"The deadline passed {-left:.3f} s before the request came"
            raise DeadlineUnreachable(f"{problem}; nothing was computed.", retry_after=1.0)
        if not self._waiting and not self._running:
            return 0.0
        first = self.forecast.first_token(ticket.tokens, self._ahead(ticket), self._free_seats(ticket.terms))
        foretold = first + self.forecast.decode(ticket.answer / choices)
        needed = self.caution.at(ticket.joined) * foretold
        if needed > left:
            problem = (
                f"The answer would take about {needed:.1f} s ({first:.1f} s to its first token, with {self.waiting} "
                f"requests in line), and the deadline is in {left:.1f} s"
            )
            wait = min(needed - left, LONGEST_WAIT)
            raise DeadlineUnreachable(f"{problem}. Nothing was computed; allow more time.", retry_after=wait)
        return foretold

    def _ahead(self, ticket: Ticket) -> Ahead:
        """What would be served before this one."""
        policy = self.decisions.scheduling_policy
        if policy == "priority":
            before = [each for each in self._waiting.values() if each.priority <= ticket.priority]
            return Ahead(len(before), sum(each.tokens for each in before), sum(each.answer for each in before))
        if policy == "fcfs":
            return Ahead(self.waiting, self.waiting_tokens, self._waiting_answers)
        return self._ahead_by_shares(ticket)

    def _ahead_by_shares(self, ticket: Ticket) -> Ahead:
        """While its tenant's own line is served, each other tenant is served as much for its weight, if it has that."""
        own = self._tenants.get(ticket.terms.tenant, Standing())
        requests, prompts, answers = float(own.waiting), float(own.tokens), own.answers
        for tenant, other in self._tenants.items():
            if tenant != ticket.terms.tenant and other.waiting:
                share = other.weight / ticket.terms.weight
                requests += min(other.waiting, share * (own.waiting + 1))
                prompts += min(other.tokens, share * (own.tokens + ticket.tokens))
                answers += min(other.answers, share * (own.answers + ticket.answer))
        return Ahead(int(requests), int(prompts), answers)

    def _free_seats(self, terms: Terms) -> int:
        """Seats that a tenant would be given if it came, because others hold more than their share of them."""
        others = sum(each.weight for tenant, each in self._tenants.items() if tenant != terms.tenant)
        if self.decisions.scheduling_policy != "fair" or not others:
            return 0
        own = self._tenants.get(terms.tenant, Standing())
        share = self.decisions.max_num_seqs * terms.weight / (terms.weight + others)
        return max(int(share) - own.running - own.waiting, 0)
