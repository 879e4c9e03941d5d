"""From emissions to what replies read: text, ids, log-probabilities and the reason an answer ended. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire_engine.sequence import Emission, FinishReason, TokenLogprobs
from quire_engine.text.detokenizer import detokenizer
from quire_engine.text.pieces import REPLACEMENT
from quire_engine.text.stops import StopStrings
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import GenerateRequest, SamplingParams


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
    bypassed_tokens: int = 0
    """Prompt tokens that the prefix cache had, and that were computed all the same because the prompt was scored."""
    error: str | None = None
    """What went wrong, when `finish_reason` is "error"."""
    param: str | None = None
    """The field of the request that is to blame for it, if one is."""


class OutputProcessor:
    """The text state of one request: takes what the engine emits, gives what replies deliver.

    Owned by the event loop (or the caller of `LLM`). Without a tokenizer, texts are empty and stop strings unknown.
    """

    def __init__(self, request: GenerateRequest, tokenizer: Tokenizer | None) -> None:
        self._prompt = request.token_ids
        self._params = request.sampling_params
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
            choice = self._choices[emission.index] = _Choice(self._tokenizer, self._prompt, self._params)
        if choice.is_finished:
            return None
        if self._prompt_logprobs is not None and emission.prompt_logprobs:
            self._prompt_logprobs.extend(emission.prompt_logprobs)
        if not emission.token_ids and emission.finish_reason is None:
            return None
        text, taken, stop = choice.take(emission.token_ids, emission.finish_reason)
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
        )

    def _hand_over_prompt_logprobs(self) -> tuple[TokenLogprobs | None, ...] | None:
        """All of the prompt's, the first time."""
        collected, self._prompt_logprobs = self._prompt_logprobs, None
        return None if collected is None else tuple(collected)


class _Choice:
    """The text of one choice so far, as far as it is not delivered."""

    def __init__(self, tokenizer: Tokenizer | None, prompt: Sequence[int], params: SamplingParams) -> None:
        self._detokenizer = None if tokenizer is None else detokenizer(tokenizer, prompt, params)
        self._stops = StopStrings(params.stop, include=params.include_stop_str_in_output) if params.stop else None
        self._min_tokens = params.min_tokens
        self._shows_stop_token = params.include_stop_str_in_output
        self._length = 0
        self.is_finished = False

    def take(self, token_ids: Sequence[int], reason: FinishReason | None) -> tuple[str, int, str | None]:
        """The text to deliver, how many of the tokens belong to the answer, and the stop string that ended it."""
        self.is_finished = reason is not None
        if self._detokenizer is None:
            return "", len(token_ids), None
        hidden = 1 if reason == "stop" and not self._shows_stop_token else 0
        text = ""
        for place in range(len(token_ids) - hidden):
            self._length += 1
            released, stop = self._release(self._detokenizer.push(token_ids[place]))
            text += released
            if stop is not None:
                self.is_finished = True
                return text, place + 1, stop
        if reason is None:
            return text, len(token_ids), None
        # An answer may be cut inside a character. Its ids are delivered; half a character is not text.
        released, stop = self._release(self._detokenizer.finish().rstrip(REPLACEMENT))
        rest = self._stops.finish() if self._stops is not None else ""
        return text + released + rest, len(token_ids), stop

    def _release(self, text: str) -> tuple[str, str | None]:
        """What of the text can be delivered, and the stop string that ended it."""
        if self._stops is None:
            return text, None
        return self._stops.push(text, may_stop=self._length > self._min_tokens)
