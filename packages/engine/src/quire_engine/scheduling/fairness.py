"""Fair shares: tenants are served in turn, by how many tokens each was given. It knows tenants and counts, no device.

After Sheng et al. 2024 (Fairness in Serving Large Language Models): each tenant has a virtual counter of the service
that it got, and the one with the least is next in line. Who comes anew begins at the least counter of those who are
there, so that nobody saves up shares by staying away; who asked for less than its share is next for a while, and no
longer. Unlike there, tenants also take seats from each other, but only from one that holds two more than they do: each
such move makes the seats more even, and none can be undone by another one, so that nobody is thrown back and forth.
What nobody else wants, anybody may have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from collections.abc import Sequence as Seq

from quire_engine.scheduling.policy import Fits, Line
from quire_engine.sequence import Sequence, Terms

PROMPT, CACHED, DRAWN = 1.0, 0.1, 2.0
"""What a token counts: one of a prompt, one of a prompt that came from the prefix cache, and one of an answer."""

LOSS, MOST_LOSS = 0.02, 8192
"""Of the tokens that are computed, the share that may be lost by who gives way; and how many of these may be saved up.

Who gives a seat up has its blocks cached, and comes back to them at next to no cost, unless blocks are what is short.
"""

MOST_CREDIT = 8192
"""Tokens, by its weight, that whoever asked for less than its share may be behind those in line: a few prompts."""

LEAST_WEIGHT = 1e-3
"""A share cannot be smaller: it would be served in no time that anybody waits."""

SWEEP = 64
"""Tenants that are not there, above which those who have nothing on their account are forgotten."""


class Ledger:
    """What each tenant was served, divided by its weight. Owned by the order of service."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._present: Counter[str] = Counter()
        """Unfinished requests."""
        self._last = ""
        """Who left the line last."""

    def __len__(self) -> int:
        """Tenants that have requests."""
        return len(self._present)

    def served(self, tenant: str) -> float:
        """The virtual counter of a tenant."""
        return self._served.get(tenant, 0.0)

    def weight(self, tenant: str) -> float:
        """As its newest request has it."""
        return self._weights.get(tenant, 1.0)

    def enter(self, terms: Terms, waiting: Collection[str] = ()) -> None:
        """Count a request that has come, while these tenants have others in line."""
        tenant = terms.tenant
        self._weights[tenant] = max(terms.weight, LEAST_WEIGHT)
        if tenant not in waiting:
            next_served = min((self.served(each) for each in waiting), default=self.served(self._last))
            least = 0.0 if tenant in self._present else self._least
            self._served[tenant] = max(self.served(tenant), least, next_served - MOST_CREDIT)
        self._present[tenant] += 1

    def began(self, tenant: str, tokens: float) -> None:
        """Count a request that leaves the line, and the service that it is given with that."""
        self._last = tenant
        self.charge(tenant, tokens)

    def leave(self, terms: Terms) -> None:
        """Count a request that has ended. Who is alone from then on owes nothing to those who went before."""
        self._present[terms.tenant] -= 1
        if not self._present[terms.tenant]:
            del self._present[terms.tenant]
            if not self._present or len(self._served) > len(self._present) + SWEEP:
                self._forget()

    def charge(self, tenant: str, tokens: float) -> None:
        """Count service; what is taken back is below zero."""
        self._served[tenant] = self.served(tenant) + tokens / self.weight(tenant)

    @property
    def _least(self) -> float:
        return min((self._served[tenant] for tenant in self._present), default=0.0)

    def _forget(self) -> None:
        """Those who are not there, and would begin with no less if they were new; all, when nobody is there."""
        least = self._least
        kept = {self._last, *self._present}
        gone = [tenant for tenant, served in self._served.items() if tenant not in kept and served <= least]
        for tenant in gone if self._present else tuple(self._served):
            del self._served[tenant]
            self._weights.pop(tenant, None)


class Shares(Line):
    """A line by arrival, and within it a line for each tenant."""

    def __init__(self) -> None:
        super().__init__(_all_alike)
        self.of: dict[str, Line] = {}
        """By tenant; none is empty."""

    def join(self, sequence: Sequence) -> None:
        """Take the place that the arrival gives."""
        super().join(sequence)
        self.of.setdefault(sequence.terms.tenant, Line(_all_alike)).join(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Give the place up."""
        super().leave(sequence)
        own = self.of[sequence.terms.tenant]
        own.leave(sequence)
        if not own:
            del self.of[sequence.terms.tenant]


class WaitingShares(Shares):
    """Whose first is the best of those who are first of a tenant."""

    def __init__(self, place: Callable[[Sequence], tuple[float, ...]]) -> None:
        """`place` is what the first of different tenants are compared by: the lowest is served next."""
        super().__init__()
        self.place = place

    @property
    def first(self) -> Sequence:
        """Who is served next."""
        if len(self.of) == 1:
            return super().first
        return min((line.first for line in self.of.values()), key=self.place)


class Fair:
    """Tenants in turn, by what they were served. With one tenant it is first come, first served."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.allowance = float(MOST_LOSS)
        """Tokens that may be lost from now on, by who gives way to somebody in line."""
        self.waiting = WaitingShares(self._place)
        self.running = Shares()

    def heads(self) -> Seq[Sequence]:
        """The first of each tenant, who was served least first."""
        return sorted((line.first for line in self.waiting.of.values()), key=self._place)

    def in_turn(self) -> Seq[Sequence]:
        """Those who need one token first, as they all have room in a step; then prompts, of who was served least first.

        Only who is to have a new token can be short of a block, so nobody has to give way for a prompt.
        """
        if len(self.running.of) < 2:
            return tuple(self.running)
        return sorted(self.running, key=self._turn)

    def precedes(self, newcomer: Sequence, sequence: Sequence) -> bool:
        """Whether the rest of a prompt waits, as another tenant was served no more than the one who brought it."""
        if newcomer.terms.tenant == sequence.terms.tenant:
            return False
        return self._served(newcomer) <= self._served(sequence)

    def yielding(self, spared: Collection[Sequence]) -> Sequence:
        """The newest of the tenant that holds most for its weight."""
        tenants = {s.terms.tenant for s in self.running if s not in spared}
        tenant = max(tenants, key=lambda each: (self._seats(each), self.ledger.served(each)))
        return next(s for s in reversed(self.running.of[tenant]) if s not in spared)

    def displaced(self, fits: Fits, most_tokens: int) -> Seq[Sequence]:
        """The newest of those tenants who hold two seats more than somebody in line who was served no more.

        Nobody gives way in vain: either all of whom a place is taken make room for somebody, or none of them leaves.
        """
        newcomers: list[Sequence] = []
        gone: list[Sequence] = []
        if len(self.ledger) < 2 or self.allowance <= 0:
            return gone
        for head in self.heads():
            more: list[Sequence] = []
            while not fits([*newcomers, head], [*gone, *more]):
                victim = self._victim(head, newcomers, [*gone, *more])
                if victim is None:
                    return gone
                more.append(victim)
            newcomers.append(head)
            gone += more
            most_tokens -= len(head.tokens)
            if most_tokens <= 0:
                break
        return gone

    def may_displace(self, newcomer: Sequence) -> bool:
        """Whether any tenant holds two seats more than its own, whoever was served more."""
        own = newcomer.terms.tenant
        return any(self._is_ahead(tenant, own, (), ()) for tenant in self.running.of if tenant != own)

    def enter(self, terms: Terms) -> None:
        """A request has come."""
        self.ledger.enter(terms, self.waiting.of)

    def leave(self, terms: Terms) -> None:
        """A request has ended."""
        self.ledger.leave(terms)

    def began(self, sequence: Sequence) -> None:
        """Its prompt is counted when it is let in, so that the next in line is chosen in view of it."""
        self.ledger.began(sequence.terms.tenant, _prompt_cost(sequence))

    def drew(self, sequence: Sequence, tokens: int) -> None:
        """Tokens count as they come: nobody knows how many there will be."""
        self.ledger.charge(sequence.terms.tenant, DRAWN * tokens)

    def computed(self, tokens: int) -> None:
        """What is computed earns what may be lost."""
        self.allowance = min(self.allowance + LOSS * tokens, MOST_LOSS)

    def lost(self, tokens: int) -> None:
        """Nobody gives way any more when this was too much, until so much more has been computed."""
        self.allowance -= tokens

    def _served(self, sequence: Sequence) -> float:
        return self.ledger.served(sequence.terms.tenant)

    def _place(self, sequence: Sequence) -> tuple[float, ...]:
        """Who lost its blocks because they ran out comes first, while they still hold what it computed.

        Of two who were served alike, who holds fewer seats is next: not who has just given one up.
        """
        is_new = sequence.preemptions == 0 or sequence.given_up > 0
        return is_new, self._served(sequence), self._seats(sequence.terms.tenant), sequence.arrival

    def _turn(self, sequence: Sequence) -> tuple[bool, float, int]:
        is_prompt = sequence.pending > 1
        return is_prompt, self._served(sequence) if is_prompt else 0.0, sequence.arrival

    def _seats(self, tenant: str, joined: Collection[Sequence] = (), gone: Collection[Sequence] = ()) -> float:
        """Seats that a tenant holds for its weight, once some have joined and some are gone."""
        held = len(self.running.of.get(tenant, ()))
        held += sum(s.terms.tenant == tenant for s in joined) - sum(s.terms.tenant == tenant for s in gone)
        return held / self.ledger.weight(tenant)

    def _is_ahead(self, tenant: str, other: str, joined: Collection[Sequence], gone: Collection[Sequence]) -> bool:
        """Whether a tenant would still hold no less than another one, were a seat given from it to that."""
        kept = self._seats(tenant, joined, gone) - 1 / self.ledger.weight(tenant)
        return kept >= self._seats(other, joined, gone) + 1 / self.ledger.weight(other)

    def _victim(self, head: Sequence, joined: Collection[Sequence], gone: Collection[Sequence]) -> Sequence | None:
        """Who gives way to the first of a tenant, if somebody does."""
        own = head.terms.tenant
        ahead = [
            tenant
            for tenant in self.running.of
            if tenant != own
            and self.ledger.served(tenant) >= self.ledger.served(own)
            and self._is_ahead(tenant, own, joined, gone)
        ]
        if not ahead:
            return None
        tenant = max(ahead, key=lambda each: (self._seats(each, joined, gone), self.ledger.served(each)))
        return next((s for s in reversed(self.running.of[tenant]) if s not in gone), None)


def _prompt_cost(sequence: Sequence) -> float:
    return PROMPT * (sequence.prompt_length - sequence.cached_tokens) + CACHED * sequence.cached_tokens


def _all_alike(sequence: Sequence) -> int:
    return 0
