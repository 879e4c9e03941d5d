"""Beam search by numbers alone: which continuations are kept, what is finished, when nothing can change any more.

It knows token ids and log-probabilities; no sequences, no blocks, no schedule.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from heapq import nsmallest
from math import pow
from typing import NamedTuple

from quire_engine.scheduling.stopping import Ending
from quire_engine.sequence import TokenLogprobs
from quire_protocol import BeamSearchParams, SamplingParams


@dataclass(frozen=True, slots=True)
class BeamRules:
    """What was asked of a search."""

    width: int
    """Beams kept at each step, and answers given."""
    max_tokens: int
    length_penalty: float
    eos: frozenset[int]
    """End-of-sequence tokens. At the end of a beam they do not count for its length."""
    stops: frozenset[int] = frozenset()
    """Tokens that end a beam beside those; they do not count either."""
    ignore_eos: bool = False
    logprobs: int | None = None
    """Likeliest tokens to report at each position of an answer; -1 for all."""

    @classmethod
    def of(cls, search: BeamSearchParams, params: SamplingParams, eos_token_ids: Collection[int]) -> BeamRules:
        """The rules of a request that searches."""
        return cls(
            width=search.beam_width,
            max_tokens=search.max_tokens,
            length_penalty=search.length_penalty,
            eos=frozenset(eos_token_ids),
            stops=frozenset(params.stop_token_ids),
            ignore_eos=search.ignore_eos,
            logprobs=params.logprobs,
        )

    @property
    def candidates(self) -> int:
        """Continuations that each beam brings to a step: were half of them ends, enough would be left to go on with."""
        return 2 * self.width

    def ending(self, token: int) -> Ending | None:
        """Whether a beam ends with this token."""
        if token in self.eos and not self.ignore_eos:
            return Ending("stop")
        return Ending("stop", token) if token in self.stops else None

    def score(self, logprob: float, length: int) -> float:
        """What beams of different lengths are compared by: the higher, the better. `length` is of prompt and answer."""
        return logprob / pow(max(length, 1), self.length_penalty)


@dataclass(frozen=True, slots=True, eq=False)
class Beam:
    """One continuation of the prompt: a link to the beam that it continues, and one token more."""

    length: int
    """Tokens, prompt included."""
    logprob: float = 0.0
    """Of all its tokens after the prompt."""
    newest: TokenLogprobs | None = None
    parent: Beam | None = None

    def answer(self) -> tuple[TokenLogprobs, ...]:
        """Its tokens after the prompt."""
        path: list[TokenLogprobs] = []
        beam = self
        while beam.newest is not None and beam.parent is not None:
            path.append(beam.newest)
            beam = beam.parent
        return tuple(reversed(path))


class Hypothesis(NamedTuple):
    """A beam that goes on no more."""

    beam: Beam
    score: float
    ending: Ending


class Continuation(NamedTuple):
    """A beam that goes on: `token` after the live beam in this place."""

    place: int
    token: int


class BeamGroup:
    """One search. Each step takes every live beam's likeliest continuations and keeps the best ones of all.

    A continuation that ends is a hypothesis, however likely the others are; it takes no live beam's place. The answers
    are the best hypotheses, those included that the live beams are when their length is used up. The search is over
    before, when no live beam can become one of them: log-probabilities only fall.
    """

    def __init__(self, rules: BeamRules, prompt_length: int, max_length: int) -> None:
        """`max_length` is the most tokens that prompt and answer may have together."""
        self.rules = rules
        self.max_length = min(max_length, prompt_length + rules.max_tokens)
        self.live = [Beam(prompt_length)]
        """Likeliest first; all of one length."""
        self.finished: list[Hypothesis] = []
        """Best first, and no more than can be answers."""

    def advance(self, continuations: Seq[TokenLogprobs]) -> list[Continuation]:
        """Take one step with the likeliest tokens after each live beam; says how the live beams came about."""
        going_on: list[tuple[float, int, int]] = []
        for place, (beam, likeliest) in enumerate(zip(self.live, continuations, strict=True)):
            for rank, token in enumerate(likeliest.top_ids[: self.rules.candidates]):
                ending = self.rules.ending(token)
                if ending is not None:
                    self._finish(self._grown(beam, likeliest, rank), ending)
                else:
                    going_on.append((-beam.logprob - likeliest.top_logprobs[rank], place, rank))
        kept = nsmallest(self.rules.width, going_on)  # of equals, what continues the likelier beam comes first
        self.live = [self._grown(self.live[place], continuations[place], rank) for _, place, rank in kept]
        return [Continuation(place, continuations[place].top_ids[rank]) for _, place, rank in kept]

    @property
    def is_over(self) -> bool:
        """Whether the answers are certain."""
        if not self.live or self.live[0].length == self.max_length:
            return True
        return len(self.finished) == self.rules.width and self.finished[-1].score >= self._best_possible()

    def answers(self) -> list[Hypothesis]:
        """The best hypotheses, best first: as many as the search is wide."""
        cut = [Hypothesis(beam, self._score(beam), Ending("length")) for beam in self.live]
        return sorted([*self.finished, *cut], key=_from_the_best)[: self.rules.width]

    def _grown(self, beam: Beam, likeliest: TokenLogprobs, rank: int) -> Beam:
        """`beam` with the token of this rank, from 0, after it."""
        token, logprob = likeliest.top_ids[rank], likeliest.top_logprobs[rank]
        told = self.rules.logprobs
        reported = None if told == -1 else told or 0
        newest = TokenLogprobs(
            token, logprob, rank + 1, likeliest.top_ids[:reported], likeliest.top_logprobs[:reported]
        )
        return Beam(beam.length + 1, beam.logprob + logprob, newest, beam)

    def _finish(self, beam: Beam, ending: Ending) -> None:
        insort(self.finished, Hypothesis(beam, self._score(beam), ending), key=_from_the_best)
        del self.finished[self.rules.width :]

    def _score(self, beam: Beam) -> float:
        assert beam.newest is not None, "a prompt alone is no answer"
        is_end = beam.newest.token_id in self.rules.eos or beam.newest.token_id in self.rules.stops
        return self.rules.score(beam.logprob, beam.length - is_end)

    def _best_possible(self) -> float:
        """What no live beam can surpass: the likeliest one, if all that follows were certain.

        A penalty favours long answers or short ones, so the best length is the longest possible or the shortest.
        """
        logprob, shortest = self.live[0].logprob, self.live[0].length - 1  # an ignored end does not count
        return max(self.rules.score(logprob, length) for length in (shortest, self.max_length))


def scoring_params(params: SamplingParams, rules: BeamRules) -> SamplingParams:
    """How the sequences of a search are computed: nothing is drawn, the likeliest continuations are reported."""
    count = -1 if rules.logprobs == -1 else max(rules.candidates, rules.logprobs or 0)
    return SamplingParams(temperature=0, max_tokens=None, logprobs=count, prompt_logprobs=params.prompt_logprobs)


def _from_the_best(hypothesis: Hypothesis) -> float:
    return -hypothesis.score
