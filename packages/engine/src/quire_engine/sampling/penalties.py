"""`repetition_penalty`, `presence_penalty`, `frequency_penalty`: tokens that were there already become less likely."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.sampling.base import History, Rows, Step
from quire_protocol import SamplingParams


class Penalties:
    """Touches the logits of a sequence's own tokens only, whatever the size of the vocabulary.

    Repetition (CTRL, Keskar et al. 2019) counts prompt and output; presence and frequency (the OpenAI API's formula)
    the output alone, after it.
    """

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether any of the three is on."""
        return params.repetition_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0

    def __init__(self, rows: Rows) -> None:
        self._rows = rows.index[:, None]  # [n, 1]
        self._repetition = rows.column(lambda params: params.repetition_penalty)  # [n, 1], as the next two
        self._presence = rows.column(lambda params: params.presence_penalty)
        self._frequency = rows.column(lambda params: params.frequency_penalty)
        self._prompt = torch.tensor([[sequence.prompt_length] for sequence in rows.sequences], device=rows.device)
        self._first = torch.tensor([[sequence.first_token] for sequence in rows.sequences], device=rows.device)
        self._history = History(rows)

    def apply(self, logits: Tensor, step: Step) -> None:
        """Penalise; a token that occurs many times is written many times, each time with the same value."""
        tokens, lengths = self._history.follow(step)  # [n, L], [n, 1]
        place = torch.arange(tokens.shape[1], device=tokens.device)  # [L]

        # Columns that hold none of a row's tokens repeat its first one, so that nothing else is written; and a row
        # without any (embeddings, and no output yet) writes back what was there.
        first = tokens.gather(1, self._first.clamp(max=tokens.shape[1] - 1))
        seen = torch.where((place >= self._first) & (place < lengths), tokens, first)
        repetition = torch.where(lengths > self._first, self._repetition, 1.0)
        scores = logits[self._rows, seen]
        logits[self._rows, seen] = torch.where(scores > 0, scores / repetition, scores * repetition)

        # Likewise with the first output token; where there is none yet, nothing is taken off.
        first = tokens.gather(1, self._prompt.clamp(max=tokens.shape[1] - 1))
        is_output = (place >= self._prompt) & (place < lengths)
        output = torch.where(is_output, tokens, first)
        presence = torch.where(lengths > self._prompt, self._presence, 0.0)
        logits[self._rows, output] = logits[self._rows, output] - presence
        logits.index_put_((self._rows, output), torch.where(is_output, -self._frequency, 0.0), accumulate=True)
