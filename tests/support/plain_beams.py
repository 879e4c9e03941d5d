"""Beam search as one would explain it: every step of it, over whole answers, until the length is used up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

Likeliest = Callable[[Sequence[int], int], Sequence[tuple[int, float]]]
"""The likeliest tokens after a context, best first, with their log-probabilities: as many as asked for."""


@dataclass(frozen=True)
class PlainAnswer:
    """What a search found."""

    tokens: tuple[int, ...]
    logprob: float
    finish_reason: str
    score: float


def plain_beam_search(
    likeliest: Likeliest,
    prompt: Sequence[int],
    *,
    width: int,
    max_tokens: int,
    length_penalty: float = 1.0,
    ends: Collection[int] = (),
    ignored: Collection[int] = (),
) -> list[PlainAnswer]:
    """The best answers, best first. A last token that ends an answer, or would if it were not ignored, does not count
    for its length."""

    def score(tokens: tuple[int, ...], logprob: float) -> float:
        length = len(prompt) + len(tokens) - (tokens[-1] in {*ends, *ignored})
        return float(logprob / length**length_penalty)

    finished: list[PlainAnswer] = []
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(max_tokens):
        grown = [
            ((*tokens, token), before + logprob)
            for tokens, before in beams
            for token, logprob in likeliest([*prompt, *tokens], 2 * width)
        ]
        finished += [PlainAnswer(t, p, "stop", score(t, p)) for t, p in grown if t[-1] in ends]
        going_on = [beam for beam in grown if beam[0][-1] not in ends]
        beams = sorted(going_on, key=lambda beam: -beam[1])[:width]
    finished += [PlainAnswer(t, p, "length", score(t, p)) for t, p in beams]
    return sorted(finished, key=lambda answer: -answer.score)[:width]
