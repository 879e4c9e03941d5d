"""Rows of a pass that come as embeddings, mixed with those of token ids, for a model that is seen to take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quire_engine.errors import ModelNotSupported

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE = tuple(range(11, 24))
"""Token ids; folded into small vocabularies."""


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows of a packed pass whose embeddings came with their requests."""

    rows: Tensor
    """[G] int64"""
    values: Tensor
    """[G, E] float32"""


def mixed(model: PreTrainedModel, ids: Tensor, given: GivenRows) -> Tensor:
    """[T, E]: the model's own embeddings of ids [T], and those given in the place of theirs."""
    embeds: Tensor = model.get_input_embeddings()(ids)
    return embeds.index_copy(0, given.rows, given.values.to(embeds.dtype))


@torch.inference_mode()
def prove_embeds(model: PreTrainedModel, *, architecture: str) -> int:
    """Numbers in one embedding of this model. ModelNotSupported unless it computes the same from ids and from their
    embeddings, and takes embeddings that no id has: some models look up more by id than these.

    `model` still runs its own attention.
    """
    ids = torch.tensor([PROBE], device=model.device) % model.config.get_text_config().vocab_size
    embeds: Tensor = model.get_input_embeddings()(ids)
    try:
        wanted = model(input_ids=ids, use_cache=False).logits
        got = model(inputs_embeds=embeds, use_cache=False).logits
        model(inputs_embeds=embeds.flip(-1), use_cache=False)
    except Exception as error:  # each model's own code has its own way to say so
        reason = " ".join(str(error).split())
        raise ModelNotSupported(
            f"{architecture} does not run on embeddings alone ({reason}): leave enable_prompt_embeds out"
        ) from error
    if not (got - wanted).norm() <= 0.01 * wanted.norm():  # not equal on a device that sums in any order
        raise ModelNotSupported(
            f"{architecture} computes something else from embeddings than from the ids they belong to: leave "
            "enable_prompt_embeds out"
        )
    return embeds.shape[-1]
