"""One training: model, optimizers and how far they are; learns from batches, saves itself, goes on. Knows no clock.

On a CPU each thread computes batches of its own, with its own gradients on the same weights. Threads that share each
product instead wait for each other at the end of it: on two cores that was 4,000 to 5,200 tokens a second, and this
5,800.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from tools.demo_model.packing import SILENT, Batch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3ForCausalLM

MATRICES = 4e-3
"""Muon's peak rate, scaled to Adam's step sizes (Liu et al. 2025, "Muon is scalable for LLM training")."""
REST = 3e-3
"""AdamW's peak rate, for the embeddings and the norms."""
CLIP = 1.0
"""The norm that gradients are cut to."""


class Trainer:
    """Owns the model while it learns."""

    def __init__(
        self,
        model: Qwen3ForCausalLM,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self.model = model.to(device)
        self._replicas = [self.model, *(twin(self.model) for _ in range(threads - 1))]
        """One for each thread: gradients of its own, the weights of all."""
        self._threads = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.step = 0
        """Steps done."""
        self.seconds = 0.0
        """Time they took, as whoever drives the training counts it."""
        self._dtype = dtype
        self._device = device
        inner = [one for name, one in model.named_parameters() if one.ndim == 2 and "embed" not in name]
        ids = {id(one) for one in inner}
        rest = [one for one in model.parameters() if id(one) not in ids]
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(inner, lr=MATRICES, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=REST, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self._peaks = (MATRICES, REST)

    def learn(self, batches: Sequence[Batch], rate: float) -> float:
        """One step on all of these at `rate` of the peak; the mean loss of a spoken token, in nats."""
        for each in self._replicas:
            each.train()
        spoken = sum(each.spoken for each in batches)
        parts = [self._threads.submit(self._learned, *each, spoken) for each in self._shared_out(batches)]
        total = sum(each.result() for each in parts)
        self._gather()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        for optimizer, peak in zip(self._optimizers, self._peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return total

    @torch.no_grad()
    def exact(self, batch: Batch) -> list[bool]:
        """Of each row, whether every spoken token is the likeliest: if so, that is what is said at temperature 0."""
        self.model.eval()
        labels = batch.labels.to(self._device)
        likeliest = (
            self._logits(self.model, batch, torch.ones_like(labels, dtype=torch.bool))
            .view(*labels.shape, -1)
            .argmax(-1)
        )
        right: list[bool] = ((likeliest == labels) | (labels == SILENT)).all(-1).tolist()
        return right

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, at once or not at all."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizers": [each.state_dict() for each in self._optimizers],
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Go on from what was saved."""
        state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, own in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self.step, self.seconds = state["step"], state["seconds"]

    def _shared_out(self, batches: Sequence[Batch]) -> list[tuple[Qwen3ForCausalLM, list[Batch]]]:
        """The batches of each replica: the largest first, to whoever has least."""
        shares: list[tuple[Qwen3ForCausalLM, list[Batch]]] = [(each, []) for each in self._replicas]
        for each in sorted(batches, key=lambda batch: -batch.ids.numel()):
            min(shares, key=lambda share: sum(one.ids.numel() for one in share[1]))[1].append(each)
        return shares

    def _learned(self, model: Qwen3ForCausalLM, batches: Sequence[Batch], spoken: int) -> float:
        """Add the gradients of these batches to the model's own; their part of the mean loss of all `spoken` tokens."""
        total = 0.0
        for each in batches:
            loss = self._loss(model, each) / spoken
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _gather(self) -> None:
        """Add up the replicas' gradients, always in the same order: a training that goes on is the same to the bit."""
        own = list(self.model.parameters())
        for replica in self._replicas[1:]:
            for parameter, other in zip(own, replica.parameters(), strict=True):
                if other.grad is not None:
                    parameter.grad = other.grad if parameter.grad is None else parameter.grad.add_(other.grad)
                    other.grad = None

    def _loss(self, model: Qwen3ForCausalLM, batch: Batch) -> Tensor:
        labels = batch.labels.to(self._device)
        is_spoken = labels != SILENT
        return functional.cross_entropy(
            self._logits(model, batch, is_spoken).float(), labels[is_spoken], reduction="sum"
        )

    def _logits(self, model: Qwen3ForCausalLM, batch: Batch, where: Tensor) -> Tensor:
        """[tokens in `where`, vocabulary]: the head is computed only where it is asked for."""
        with torch.autocast(self._device, self._dtype, enabled=self._dtype != torch.float32):
            hidden = model.model(input_ids=batch.ids.to(self._device), use_cache=False).last_hidden_state
            logits: Tensor = model.lm_head(hidden[where])
        return logits


def twin(model: Qwen3ForCausalLM) -> Qwen3ForCausalLM:
    """A model with the same weights, at the same places in memory, and gradients of its own."""
    copy = deepcopy(model)
    for own, others in zip(copy.parameters(), model.parameters(), strict=True):
        own.data = others.data
    return copy
