"""`bad_words`: a token that would complete one in the output is excluded."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.sampling.base import History, Rows, Step
from quire_protocol import SamplingParams


class BadWords:
    """Excludes the last token of a word wherever the output ends with all its other tokens."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether words are named."""
        return any(params.bad_words_token_ids)

    def __init__(self, rows: Rows) -> None:
        words = [
            (at, word)
            for at, sequence in enumerate(rows.sequences)
            for word in sequence.params.bad_words_token_ids
            if word
        ]
        longest = max(len(word) for _, word in words) - 1

        def tensor(values: list[int] | list[list[int]]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=rows.device)

        # W words of n rows; a prefix is all of a word but its last token, at most P tokens, aligned right.
        self._owner = tensor([at for at, _ in words])  # [W] into the n rows
        self._prefix = tensor([[0] * (longest + 1 - len(word)) + list(word[:-1]) for _, word in words])  # [W, P]
        self._prefix_length = tensor([[len(word) - 1] for _, word in words])  # [W, 1]
        self._back = torch.arange(longest, 0, -1, device=rows.device)  # [P] how far each column lies from the end
        self._target = (rows.index[self._owner], tensor([word[-1] for _, word in words]))
        self._prompt = tensor([[rows.sequences[at].prompt_length] for at, _ in words])  # [W, 1]
        self._history = History(rows)

    def apply(self, logits: Tensor, step: Step) -> None:
        """Compare every word's prefix with the end of its sequence's output."""
        tokens, lengths = self._history.follow(step)
        ends = lengths[self._owner]  # [W, 1]
        columns = (ends - self._back).clamp(min=0)  # [W, P]
        equal = tokens[self._owner[:, None], columns] == self._prefix
        unused = self._back > self._prefix_length
        matches = (equal | unused).all(-1) & (ends - self._prefix_length >= self._prompt)[:, 0]  # [W]
        # Adding rather than setting: words of one row may end alike, and only some of them match.
        logits.index_put_(self._target, torch.where(matches, float("-inf"), 0.0), accumulate=True)
