"""What the text side delivers for one choice: the only thing replies read. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from quire_engine.sequence import FinishReason, TokenLogprobs


@dataclass(frozen=True, slots=True)
class Output:
    """One delivery of one choice. Deliveries of a choice, put together, are its whole answer."""

    index: int
    """The choice, from 0 to n - 1."""
    text: str
    """New text; empty while characters or a possible stop string are held back."""
    token_ids: tuple[int, ...]
    """New token ids, those whose text is held back or dropped included."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each of `token_ids` when asked for, else empty."""
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    """All of the prompt's, on choice 0's first delivery when asked for; None stands at the first token."""
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    """The stop string, or the stop token's id; None for an end-of-sequence token."""
    cached_tokens: int = 0
    """Prompt tokens taken from the prefix cache."""
    error: str | None = None
    """What went wrong, when `finish_reason` is "error"."""
