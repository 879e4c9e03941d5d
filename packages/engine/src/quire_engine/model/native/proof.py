"""Does a description compute what transformers computes? Settled on the checkpoint's own weights, in float32.

One layer of each kind is enough: layers that a description says the same of run the same code on both sides. So the
proof cuts both down to these layers and a small vocabulary, runs the same passes through them, and is strict, quick and
small whatever the size of the model. It first proves transformers' side against its own eager attention
(`model/proof.py`), masks at full length included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from quire_engine.attention.paged import PagedBackend
from quire_engine.errors import ModelNotSupported
from quire_engine.model.embeds import prove_embeds
from quire_engine.model.forward import ModelForward
from quire_engine.model.native.describe import NotDescribed, describe, family_of, layer_shapes
from quire_engine.model.native.forward import NativeForward
from quire_engine.model.native.probe import Probe
from quire_engine.model.native.rope import rope_of
from quire_engine.model.native.weights import Checkpoint, Weights
from quire_engine.model.proof import prove
from quire_kernels.decoder import Decoder, Description

TOLERANCE = 1e-4
"""Largest distance of a row's logits, relative to their length: sums in float32, in another order."""
VOCABULARY = 256
"""Rows that are kept of embedding and head, so that a probe of a large vocabulary costs no more."""
ROWS = 128


@dataclass(frozen=True, slots=True)
class Cut:
    """A model cut down to one layer of each kind."""

    description: Description
    config: PreTrainedConfig
    kept: tuple[int, ...]
    """Numbers that the layers had."""

    @classmethod
    def of(cls, description: Description, config: PreTrainedConfig) -> Cut:
        """NotDescribed where a cut configuration asks for other layers than those that were kept."""
        count = len(description.layers)
        kept = tuple(sorted({layer: number for number, layer in reversed([*enumerate(description.layers)])}.values()))
        vocab = min(description.vocab, VOCABULARY)
        values = {name: _cut(value, count, kept) for name, value in config.to_dict().items()}
        values |= {"num_hidden_layers": len(kept), "vocab_size": vocab}
        values |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
        kind = values.pop("model_type")
        cut = replace(description, layers=tuple(description.layers[number] for number in kept), vocab=vocab)
        config = AutoConfig.for_model(kind, **values)
        if describe(config.to_dict(), rope_of(config)) != cut:
            raise NotDescribed("a layer's kind depends on more than its own entry in config.json")
        return cls(cut, config, kept)

    def original(self, name: str) -> str:
        """The name that a weight has in the whole model."""
        return re.sub(r"(?<=\blayers\.)\d+", lambda match: str(self.kept[int(match[0])]), name, count=1)


def _cut(value: Any, count: int, kept: tuple[int, ...]) -> Any:
    """Lists with an entry for each layer keep those of the kept ones."""
    return [value[number] for number in kept] if isinstance(value, list) and len(value) == count else value


def prove_description(
    description: Description, config: PreTrainedConfig, checkpoint: Checkpoint, *, context: int
) -> bool:
    """NotDescribed unless the decoder computes what transformers does; whether it takes embeddings as well."""
    family = family_of(config.to_dict())
    weights = Weights(checkpoint, family, description)
    cut = Cut.of(description, config)
    model = _transformers_side(cut, checkpoint)
    takes_embeds = _takes_embeds(model)
    try:
        prove(model, PagedBackend, architecture=type(model).__name__, context=context)
    except ModelNotSupported as error:
        raise NotDescribed(str(error)) from error
    decoder = Decoder(
        cut.description,
        lambda name: weights.get(cut.original(name), torch.float32)[: cut.description.weights()[name][0]],
        dtype=torch.float32,
        max_rows=ROWS,
    )
    probe = Probe(
        layer_shapes(cut.description),
        hidden=description.hidden,
        vocab=cut.description.vocab,
        context=context,
        window=max(layer.window for layer in description.layers),
        embeds=takes_embeds,
    )
    wanted = probe.run(ModelForward(model), torch.float32)
    _compare(probe.run(NativeForward(decoder), torch.float32), wanted)
    return takes_embeds


def _compare(got: Tensor, wanted: Tensor) -> None:
    distance = float(((got - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max())
    if not distance <= TOLERANCE:
        raise NotDescribed(
            f"it computes other logits than transformers (relative distance {distance:.2g}, "
            f"at most {TOLERANCE:g} is rounding)"
        )


def _takes_embeds(model: PreTrainedModel) -> bool:
    try:
        prove_embeds(model, architecture=type(model).__name__)
    except ModelNotSupported:
        return False
    return True


def _transformers_side(cut: Cut, checkpoint: Checkpoint) -> PreTrainedModel:
    """transformers' own model of the cut configuration, with the checkpoint's weights, in float32."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(cut.config)  # type: ignore[no-untyped-call]
    state = {}
    for name, place in skeleton.state_dict().items():
        original = cut.original(name)
        if original in checkpoint:
            state[name] = checkpoint.tensor(original)[: len(place)].float()
    loaded: Any = type(skeleton).from_pretrained(
        None,
        config=cut.config,
        state_dict=state,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
    )
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise NotDescribed(f"the checkpoint has no {cut.original(missing[0])}")
    return cast(PreTrainedModel, model.requires_grad_(False).eval())
