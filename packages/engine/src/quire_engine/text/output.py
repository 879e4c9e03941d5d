"""From emissions to what replies read: text, ids, log-probabilities and the reason an answer ended. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import msgspec
from msgspec.structs import replace

from quire_engine.sequence import Emission, FinishReason, TokenLogprobs, rendered
from quire_engine.text.detokenizer import Detokenizer, detokenizer
from quire_engine.text.pieces import REPLACEMENT
from quire_engine.text.stops import StopStrings
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import GenerateRequest, SamplingParams


class Output(msgspec.Struct, frozen=True, gc=False):
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
    bypassed_tokens: int = 0
    """Prompt tokens that the prefix cache had, and that were computed all the same because the prompt was scored."""
    error: str | None = None
    """What went wrong, when `finish_reason` is "error"."""
    param: str | None = None
    """The field of the request that is to blame for it, if one is."""
    shares: tuple[int, ...] = ()
    """How many characters of the text each of several tokens released."""

    @property
    def pieces(self) -> list[str]:
        """The text as one token after the other released it; what the end of the answer released goes to the last."""
        ends = list(accumulate(self.shares[:-1]))
        return [self.text[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)]

    def changed(self, **fields: Any) -> Output:
        """The same with these fields instead."""
        return replace(self, **fields)

    @classmethod
    def joined(cls, outputs: Sequence[Output]) -> Output:
        """Consecutive deliveries of one choice as one."""
        if len(outputs) == 1:
            return outputs[0]
        shares = (output.shares or (len(output.text),) for output in outputs if output.token_ids)
        return replace(
            outputs[-1],
            text="".join(output.text for output in outputs),
            token_ids=tuple(chain.from_iterable(output.token_ids for output in outputs)),
            logprobs=tuple(chain.from_iterable(output.logprobs for output in outputs)),
            prompt_logprobs=outputs[0].prompt_logprobs,
            shares=tuple(chain.from_iterable(shares)),
        )


class OutputProcessor:
    """The text state of one request: takes what the engine emits, gives what replies deliver.

    Owned by the event loop (or the caller of `LLM`). Without a tokenizer, texts are empty and stop strings unknown.
    """

    __slots__ = ("_choices", "_params", "_prompt", "_prompt_logprobs", "_shown", "_tokenizer")

    def __init__(self, request: GenerateRequest, tokenizer: Tokenizer | None) -> None:
        self._prompt = request.token_ids
        self._params = request.sampling_params
        self._shown = rendered(request).shown_ids
        self._tokenizer = tokenizer if self._params.detokenize else None
        self._choices: dict[int, _Choice] = {}
        self._prompt_logprobs: list[TokenLogprobs | None] | None = (
            None if self._params.prompt_logprobs is None else [None]
        )

    def process(self, emission: Emission) -> Output | None:
        """What this emission delivers; None while a prompt is computed, and for a choice that has finished.

        An Output whose `stop_reason` is a string was ended here: the engine does not know yet and is to be told.
        """
        choice = self._choices.get(emission.index)
        if choice is None:
            choice = self._choices[emission.index] = _Choice(self._detokenizer(), self._params)
        if choice.is_finished:
            return None
        if self._prompt_logprobs is not None and emission.prompt_logprobs:
            self._prompt_logprobs.extend(emission.prompt_logprobs)
        if not emission.token_ids and emission.finish_reason is None:
            return None
        text, shares, stop = choice.take(emission)
        taken = len(shares)
        return Output(
            index=emission.index,
            text=text,
            token_ids=emission.token_ids[:taken],
            logprobs=emission.logprobs[:taken],
            prompt_logprobs=self._hand_over_prompt_logprobs() if emission.index == 0 else None,
            finish_reason=emission.finish_reason if stop is None else "stop",
            stop_reason=emission.stop_reason if stop is None else stop,
            cached_tokens=emission.cached_tokens,
            bypassed_tokens=emission.bypassed_tokens,
            error=emission.error,
            param=emission.param,
            shares=shares if taken > 1 else (),
        )

    def _detokenizer(self) -> Detokenizer | None:
        return detokenizer(self._tokenizer, self._prompt, self._params, self._shown) if self._tokenizer else None

    def _hand_over_prompt_logprobs(self) -> tuple[TokenLogprobs | None, ...] | None:
        """All of the prompt's, the first time."""
        collected, self._prompt_logprobs = self._prompt_logprobs, None
        return None if collected is None else tuple(collected)


class _Choice:
    """The text of one choice so far, as far as it is not delivered."""

    __slots__ = ("_detokenizer", "_length", "_min_tokens", "_shows_stop_token", "_stops", "is_finished")

    def __init__(self, detokenizer: Detokenizer | None, params: SamplingParams) -> None:
        self._detokenizer = detokenizer
        self._stops = StopStrings(params.stop, include=params.include_stop_str_in_output) if params.stop else None
        self._min_tokens = params.min_tokens
        self._shows_stop_token = params.include_stop_str_in_output
        self._length = 0
        self.is_finished = False

    def take(self, emission: Emission) -> tuple[str, tuple[int, ...], str | None]:
        """The text to deliver, what each token that belongs to the answer released of it, and the stop string that
        ended it."""
        token_ids, reason = emission.token_ids, emission.finish_reason
        self.is_finished = reason is not None
        if self._detokenizer is None:
            return "", (0,) * len(token_ids), None
        if reason is None and len(token_ids) == 1:  # nearly always so: what follows is the same for any number, slower
            self._length += 1
            text, stop = self._release(self._detokenizer.push(token_ids[0]))
            self.is_finished = stop is not None
            return text, (len(text),), stop
        is_ended_by_token = bool(token_ids) and reason == "stop" and not emission.is_complete
        hidden = 1 if is_ended_by_token and not self._shows_stop_token else 0
        text = ""
        shares: list[int] = []
        for token_id in token_ids[: len(token_ids) - hidden]:
            self._length += 1
            released, stop = self._release(self._detokenizer.push(token_id))
            text += released
            shares.append(len(released))
            if stop is not None:
                self.is_finished = True
                return text, tuple(shares), stop
        shares += [0] * hidden
        if reason is None:
            return text, tuple(shares), None
        # An answer may be cut inside a character. Its ids are delivered; half a character is not text.
        released, stop = self._release(self._detokenizer.finish().rstrip(REPLACEMENT))
        rest = self._stops.finish() if self._stops is not None else ""
        return text + released + rest, tuple(shares), stop

    def _release(self, text: str) -> tuple[str, str | None]:
        """What of the text can be delivered, and the stop string that ended it."""
        if self._stops is None:
            return text, None
        return self._stops.push(text, may_stop=self._length > self._min_tokens)
