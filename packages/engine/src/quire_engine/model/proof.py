"""At load: does this model, called through the seam, compute what it computes by itself? It knows no family by name.

Two checks, both on the loaded model, a few small forward passes in all:

1. *Observe* one pass without a cache: every attention call's shapes and keywords, and what the mask that transformers
   would have built lets through at the far end of the context. A sliding window that is only in the mask, a layer that
   looks ahead, a layer with a state of another kind: found here, at full length, without computing at full length.
2. *Compare* logits: two prompts packed together and cut in two, through the seam, against one prompt alone through the
   model's own eager attention.

A model that does not pass is refused with what was found: no answer is better than a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from quire_engine.attention import AttentionBackend, Layout
from quire_engine.errors import ModelNotSupported, QuireError
from quire_engine.kv.cache import KVCache, LayerShape
from quire_engine.model import seam
from quire_engine.model.forward import ModelForward

OBSERVER = "quire_observer"

# Keywords of an attention call that carry no tensor Quire would have to honour: dropout is for training, positions are
# in the keys already, and `is_causal` is settled by the observed mask.
HARMLESS = frozenset({"dropout", "scaling", "sliding_window", "softcap", "s_aux", "is_causal", "position_ids"})

# Largest distance of a row's logits, relative to their length. Rounding differs between the two ways of summing; a
# dropped scale, sink or softcap, or rows that see each other, is off by far more. In the short dtypes only half of the
# rows must be as near: in a mixture of experts rounding may send a row elsewhere.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}

BLOCK = 8
PROMPTS = (tuple(range(31, 36)), tuple(range(11, 24)))
"""The second one is compared: behind the first one, so that a row's number never is its position."""
CUTS = (3, 9)
"""How much of each prompt the first of the two passes holds."""


@dataclass(slots=True)
class Observer:
    """Collects what each layer's attention was called with."""

    context: int
    layers: dict[int, LayerShape] = field(default_factory=dict)

    def see(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        keywords: dict[str, Any],
    ) -> None:
        """Note one call; ModelNotSupported for what Quire's attention does not do."""
        layer = getattr(module, "layer_idx", None)
        where = f"{type(module).__name__} of layer {layer}"
        if layer is None or layer in self.layers:
            raise ModelNotSupported(
                f"{where} attends more than once per token, or without a layer number: it cannot be cached"
            )
        extra = sorted(name for name, given in keywords.items() if isinstance(given, Tensor) and name not in HARMLESS)
        if extra:
            raise ModelNotSupported(
                f"{where} needs {', '.join(extra)} in its attention, which Quire's attention does not have"
            )
        if key.shape[2] != query.shape[2] or key.shape[-1] != query.shape[-1] or query.shape[1] % key.shape[1]:
            raise ModelNotSupported(f"{where} is not causal self-attention: query {[*query.shape]}, key {[*key.shape]}")
        if (
            mask is None
            or mask.shape[-1] != 3
            or not torch.equal(mask, self.expected(keywords.get("sliding_window") or 0))
        ):
            raise ModelNotSupported(
                f"{where} masks other keys than causal attention with window {keywords.get('sliding_window')} does"
            )
        self.layers[layer] = LayerShape(heads=key.shape[1], key_size=key.shape[-1], value_size=value.shape[-1])

    def expected(self, window: int) -> Tensor:
        """`visible_keys` of causal attention in which a token sees the last `window` ones, itself included; 0: all."""
        last = torch.tensor(probes(self.context))
        first = (last - window + 1).clamp(min=0) if window else torch.zeros_like(last)
        return torch.stack([first, last, last - first + 1], dim=-1)[None, None]


def probes(context: int) -> list[int]:
    """Positions at which masks are compared: both ends, and what lies between."""
    return sorted({0, 1, context // 3, context // 2, context - 1})


def observe_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **keywords: Any
) -> tuple[Tensor, None]:
    """An attention function that only notes how it was called; its output means nothing."""
    quire: Observer = keywords.pop("quire")
    quire.see(module, query, key, value, attention_mask, keywords)
    groups = query.shape[1] // key.shape[1]
    return value.repeat_interleave(groups, dim=1).transpose(1, 2).contiguous(), None


def observing_mask(context: int) -> Callable[..., Tensor]:
    """A mask function whose "mask" says, for each probe, the first and last key it lets through, and how many.

    Shaped [1, 1, probes, 3] so that models hand it on like a mask.
    """

    def visible_keys(*, mask_function: Callable[..., Tensor], **_: Any) -> Tensor:
        queries, keys, zero = torch.tensor(probes(context)), torch.arange(context), torch.zeros(1, dtype=torch.int64)
        at = (
            zero[:, None, None, None],
            zero[None, :, None, None],
            queries[None, None, :, None],
            keys[None, None, None, :],
        )
        visible = mask_function(*at).expand(1, 1, len(queries), context)  # [1, 1, probes, context]
        first = visible.int().argmax(-1)
        last = context - 1 - visible.flip(-1).int().argmax(-1)
        return torch.stack([first, last, visible.sum(-1)], dim=-1)

    return visible_keys


def prove(
    model: PreTrainedModel, attention: type[AttentionBackend], *, architecture: str, context: int
) -> tuple[LayerShape, ...]:
    """Check the model through the seam; what each layer caches, or ModelNotSupported. Leaves the model on the seam.

    `context` is the longest context that will be served.
    """
    try:
        wanted = _logits_alone(model, PROMPTS[1])
        layers = _observe(model, architecture, context)
        seam.register()
        model.set_attn_implementation(seam.ATTENTION)
        got = _logits_packed(model, attention, layers)
    except (QuireError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a model's own code may fail in any way when it is called in a way it was not made for
        raise ModelNotSupported(f"{architecture} cannot be run on packed sequences: {error}") from error
    _compare(got, wanted, model.dtype, architecture)
    return layers


def logits_distance(got: Tensor, wanted: Tensor, dtype: torch.dtype) -> float:
    """How far apart two [rows, V] are that a model of this dtype gave: what `TOLERANCE` is about."""
    distances = (got - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    return float(distances.max() if dtype == torch.float32 else distances.median())


def _compare(got: Tensor, wanted: Tensor, dtype: torch.dtype, architecture: str) -> None:
    distance = logits_distance(got, wanted, dtype)
    if not distance <= TOLERANCE[dtype]:
        raise ModelNotSupported(
            f"{architecture} computes other logits when sequences are packed and cached in blocks than alone "
            f"(relative distance {distance:.2g}, at most {TOLERANCE[dtype]:g} is rounding); "
            "it may mix tokens outside of attention, or ignore position_ids"
        )


@torch.inference_mode()
def _observe(model: PreTrainedModel, architecture: str, context: int) -> tuple[LayerShape, ...]:
    AttentionInterface.register(OBSERVER, observe_attention)
    AttentionMaskInterface.register(OBSERVER, observing_mask(context))
    model.set_attn_implementation(OBSERVER)
    if not model._can_set_attn_implementation():
        raise ModelNotSupported(f"{architecture} does not go through transformers' attention interface")
    observer = Observer(context)
    try:
        model(input_ids=_ids(PROMPTS[0], model), use_cache=False, quire=observer)
    except (TypeError, KeyError) as error:
        raise ModelNotSupported(f"{architecture} does not hand keywords down to its attention: {error}") from error
    expected = range(model.config.get_text_config().num_hidden_layers)
    other = [layer for layer in expected if layer not in observer.layers]
    if other:
        raise ModelNotSupported(
            f"{architecture}: {len(other)} of {len(expected)} layers (first: {other[:3]}) do not attend through "
            "transformers' attention interface; layers with a state of another kind (recurrent, convolutional, "
            "cross-attention) are not served"
        )
    if len(observer.layers) != len(expected):
        raise ModelNotSupported(f"{architecture} attends in {len(observer.layers)} layers, but says {len(expected)}")
    return tuple(observer.layers[layer] for layer in expected)


@torch.inference_mode()
def _logits_alone(model: PreTrainedModel, prompt: tuple[int, ...]) -> Tensor:
    """[rows, V] float32, by the model's own eager attention."""
    logits: Tensor = model(input_ids=_ids(prompt, model), use_cache=False).logits
    return logits[0].float()


@torch.inference_mode()
def _logits_packed(model: PreTrainedModel, attention: type[AttentionBackend], layers: tuple[LayerShape, ...]) -> Tensor:
    """The second prompt's [rows, V] float32, computed through the seam in two passes behind the first prompt."""
    per_prompt = 2  # blocks; interleaved below, so that a table that is ignored shows
    cache = KVCache.allocate(layers, per_prompt * len(PROMPTS), BLOCK, model.dtype, model.device)
    tables = torch.arange(per_prompt * len(PROMPTS)).view(per_prompt, len(PROMPTS)).T.contiguous()  # [S, 2]
    forward = ModelForward(model)
    parts = []
    for begins, ends in (((0, 0), CUTS), (CUTS, tuple(map(len, PROMPTS)))):
        positions = [torch.arange(begin, end) for begin, end in zip(begins, ends, strict=True)]
        slots = [tables[s][at // BLOCK] * BLOCK + at % BLOCK for s, at in enumerate(positions)]
        counts = torch.tensor([len(at) for at in positions])
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        layout = Layout(
            slots=torch.cat(slots).to(model.device),
            starts=starts.int().to(model.device),
            lengths=torch.tensor(ends).int().to(model.device),
            tables=tables.int().to(model.device),
            longest_span=int(counts.max()),
            longest_context=max(ends),
        )
        ids = [token for prompt, begin, end in zip(PROMPTS, begins, ends, strict=True) for token in prompt[begin:end]]
        rows = torch.arange(int(starts[1]), int(starts[2]), device=model.device)
        at = torch.cat(positions).to(model.device)
        quire = seam.Pass(cache, layout.slots, attention.plan(layout))
        parts.append(forward.logits(_ids(ids, model)[0], at, rows, quire).float())
    return torch.cat(parts)


def _ids(tokens: tuple[int, ...] | list[int], model: PreTrainedModel) -> Tensor:
    """[1, T]; folded into small vocabularies."""
    vocab_size: int = model.config.get_text_config().vocab_size
    return torch.tensor([tokens], device=model.device) % vocab_size
