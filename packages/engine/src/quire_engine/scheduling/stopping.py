"""When a sequence has ended, judged by its tokens alone. Stop strings are the text side's business."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from quire_engine.sequence import FinishReason, Sequence


class Ending(NamedTuple):
    """Why a sequence ended, and the stop token that did it, unless that is an end-of-sequence token."""

    reason: FinishReason
    stop_token: int | None = None


def room_for(sequence: Sequence, max_length: int) -> int:
    """Tokens that `sequence` may still have. `max_length` is of prompt and output together."""
    room, limit = max_length - len(sequence.tokens), sequence.params.max_tokens
    return room if limit is None else min(room, limit - sequence.output_length)


def ends_next(sequence: Sequence, max_length: int) -> bool:
    """Whether the next token of `sequence` is its last, whichever it is."""
    return room_for(sequence, max_length) <= 1


def is_over(sequence: Sequence) -> bool:
    """Whether the form that `sequence` is held to lets nothing follow its tokens."""
    return sequence.guide is not None and sequence.guide.is_over


def over(sequence: Sequence) -> Ending:
    """Why a sequence ended whose form lets nothing follow: it is whole, or what it began has no room."""
    assert sequence.guide is not None, "only a form is ever over"
    return Ending("length" if sequence.guide.is_cut else "stop")


def ending(sequence: Sequence, eos_token_ids: AbstractSet[int], max_length: int) -> Ending | None:
    """Whether the newest token of `sequence` is its last: an end or stop token, or the length is used up.

    `min_tokens` come before any end or stop token counts. `max_length` is of prompt and output together.
    """
    params = sequence.params
    token = sequence.tokens[-1]
    if sequence.output_length > params.min_tokens:
        if token in eos_token_ids and not params.ignore_eos:
            return Ending("stop")
        if token in params.stop_token_ids:
            return Ending("stop", token)
    if params.max_tokens is not None and sequence.output_length >= params.max_tokens:
        return Ending("length")
    if len(sequence.tokens) >= max_length:
        return Ending("length")
    return None
