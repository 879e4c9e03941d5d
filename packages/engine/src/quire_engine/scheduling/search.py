"""The sequences of one beam search: which of them carry live beams, and which beam goes where at each step.

It changes no sequence: the Scheduler does. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import NamedTuple

from quire_engine.scheduling.beams import BeamGroup, Continuation, Hypothesis
from quire_engine.sequence import Sequence, TokenLogprobs


class Move(NamedTuple):
    """One live beam of the next step: `target` holds what `source` held, and `token`. Both may be the same sequence."""

    source: Sequence
    target: Sequence
    token: int


class Moves(NamedTuple):
    """How the sequences of a search come to hold the beams of its next step, in this order."""

    vacated: list[Sequence]
    """Hold nothing of use any more."""
    forks: list[Move]
    """From one sequence to another one."""
    stays: list[Move]
    """Within one sequence; they come last, as a fork needs what its source held before."""


class Search:
    """A beam search on sequences that are computed like any others, each at its own time.

    They advance in lock step: a sequence whose continuations are known waits for the others (it is settled). There are
    as many sequences as beams, and they stay the same: what a beam leaves behind, another one moves into.
    """

    def __init__(self, sequences: Seq[Sequence], beams: BeamGroup) -> None:
        """Begins with the first of `sequences`, which computes the prompt."""
        self.sequences = tuple(sequences)
        self.beams = beams
        self.live = [sequences[0]]
        """In the order of the group's live beams."""
        self._settled: dict[Sequence, TokenLogprobs] = {}

    def settle(self, sequence: Sequence, continuations: TokenLogprobs) -> bool:
        """Take in what may follow in one sequence; True when all that carry beams are settled."""
        self._settled[sequence] = continuations
        return len(self._settled) == len(self.live)

    @property
    def is_over(self) -> bool:
        """Whether the answers are certain."""
        return self.beams.is_over

    @property
    def reports_logprobs(self) -> bool:
        """Whether the answers come with log-probabilities."""
        return self.beams.rules.logprobs is not None

    def answers(self) -> list[Hypothesis]:
        """One for each sequence, best first."""
        return self.beams.answers()

    def advance(self) -> Moves:
        """Go one token on."""
        sources = self.live
        kept = self.beams.advance([self._settled.pop(sequence) for sequence in sources])
        return self._moves(sources, kept)

    def _moves(self, sources: list[Sequence], kept: list[Continuation]) -> Moves:
        """The first beam that continues a sequence stays in it; the others go where no beam stays."""
        staying = {sources[place] for place, _ in kept}
        vacated = [sequence for sequence in self.sequences if sequence not in staying]
        free = iter(vacated)
        moves = Moves(vacated, [], [])
        self.live = []
        for place, token in kept:
            source = sources[place]
            target = source if source in staying else next(free)
            staying.discard(source)
            (moves.stays if target is source else moves.forks).append(Move(source, target, token))
            self.live.append(target)
        return moves
