"""`logits_processors`: installed code changes the logits of rows that ask for it, one row at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.extensions import ProcessorFailed, Processors
from quire_engine.sampling.base import Rows, Step
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams


class CustomProcessors:
    """Hands each row to its sequence's own processors. A row whose processors fail is left as it was, and reported."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether any is named."""
        return bool(params.logits_processors)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def apply(self, logits: Tensor, step: Step) -> None:
        """Let foreign code work on a copy, and take what it returns if that has the shape of logits."""
        for row, sequence in zip(self._rows.numbers.tolist(), self._rows.sequences, strict=True):
            try:
                if _processors(sequence).prepare():
                    logits[row] = _processed(sequence, logits[row].clone())
            except Exception as failure:  # also what cannot be written back, whatever torch says of it
                step.failures[row] = failure


def _processors(sequence: Sequence) -> Processors:
    assert sequence.processors is not None, "parameters that name processors give their sequence some"
    return sequence.processors


def _processed(sequence: Sequence, logits: Tensor) -> Tensor:
    tokens = sequence.tokens
    prompt, output = tokens[sequence.first_token : sequence.prompt_length], tokens[sequence.prompt_length :]
    changed = _processors(sequence)(prompt, output, logits)
    if not isinstance(changed, Tensor) or changed.shape != logits.shape:
        shape = list(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise ProcessorFailed(f"The logits processors returned {shape}, which is no tensor of {len(logits)} logits.")
    if changed.layout != torch.strided or changed.is_complex():
        kind = f"{changed.dtype} in the layout {changed.layout}"
        raise ProcessorFailed(f"The logits processors returned {kind}, which logits cannot be.")
    return changed
