"""`repetition_penalty`, `presence_penalty`, `frequency_penalty`: tokens that were there already become less likely."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quire_engine.sampling.base import History, Rows, Step
from quire_engine.sequence import Sequence
from quire_kernels import penalties
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
        def column(value: Callable[[Sequence], float], dtype: torch.dtype) -> Tensor:
            return torch.tensor([value(sequence) for sequence in rows.sequences], dtype=dtype, device=rows.device)

        self._rows = rows.index
        self._first = column(lambda sequence: sequence.first_token, torch.int64)  # [n], as all others
        self._prompt = column(lambda sequence: sequence.prompt_length, torch.int64)
        self._repetition = column(lambda sequence: sequence.params.repetition_penalty, torch.float32)
        self._presence = column(lambda sequence: sequence.params.presence_penalty, torch.float32)
        self._frequency = column(lambda sequence: sequence.params.frequency_penalty, torch.float32)
        self._history = History(rows)

    def apply(self, logits: Tensor, step: Step) -> None:
        """Penalise, in place."""
        tokens, lengths = self._history.follow(step)  # [n, L], [n, 1]
        strengths = self._repetition, self._presence, self._frequency
        penalties(logits, self._rows, tokens, self._first, self._prompt, lengths[:, 0], *strengths)
