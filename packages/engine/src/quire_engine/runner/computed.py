"""From a checkpoint to a model that computes: natively where that is proven, by transformers' model otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quire_engine.attention import BACKENDS, AttentionBackend, InvariantPagedBackend
from quire_engine.config import EngineConfig, Fused, Quantized
from quire_engine.decide import settle_context, settle_dtype
from quire_engine.errors import ConfigError
from quire_engine.kv.cache import LayerShape
from quire_engine.model.forward import Forward, ModelForward
from quire_engine.model.invariant import InvariantForward
from quire_engine.model.native.describe import layer_shapes
from quire_engine.model.native.forward import NativeForward
from quire_engine.model.native.load import load_decoder
from quire_engine.model.native.memory import Known
from quire_engine.model.native.verdict import spec_from, verdict
from quire_engine.model.spec import ModelSpec, read_spec
from quire_engine.runner.packed import pack, probe, quantized, settle_quantization
from quire_kernels.decoder import Decoder

if TYPE_CHECKING:
    from quire_engine.model.fusion import FusionPass

LEAST_ROWS = 512
"""Rows that a native step has room for, however few are asked for: enough for what is tried at load."""


@dataclass(frozen=True, slots=True)
class ComputedModel:
    """A model that is ready to compute, and what it came to."""

    spec: ModelSpec
    forward: Forward
    dtype: torch.dtype
    """Of its cache."""
    layers: tuple[LayerShape, ...]
    """What each layer caches for a token."""
    parameters: int
    """Number of weights."""
    embeds_width: int | None = None
    """Numbers in one embedding, if it is to take these."""
    computed_by: str = "transformers"
    """What computes a step, in words."""
    fusion: tuple[Fused, ...] = ()
    not_native: str | None = None
    """Why the native decoder does not compute it, where it might have been expected to."""
    quantized: Quantized | None = None
    """What rounding its weights came to."""
    left: str | None = None
    """Why its products are torch's, where they might have been packed."""

    @property
    def is_native(self) -> bool:
        """Whether the native decoder computes it."""
        return isinstance(self.forward, NativeForward)


def backend(config: EngineConfig) -> type[AttentionBackend]:
    """The attention that is asked for."""
    return InvariantPagedBackend if config.batch_invariant else BACKENDS[0]


def load_computed(path: Path, config: EngineConfig, device: torch.device, *, progress: bool) -> ComputedModel:
    """The model in this folder, ready; ConfigError, with the way out, where that cannot be done."""
    settle_quantization(config.quantization, device)
    if device.type != "cpu":
        if config.native:
            raise ConfigError("native is asked for, but it is the CPU's; leave it out, or ask for device 'cpu'")
        return _by_transformers(path, config, device, progress=progress)
    found = verdict(path, config)
    if isinstance(found, Known):
        return _natively(path, found, config, progress=progress)
    model = _by_transformers(path, config, device, progress=progress)
    return model if config.native is False else replace(model, not_native=found)


def _natively(path: Path, known: Known, config: EngineConfig, *, progress: bool) -> ComputedModel:
    spec, description = spec_from(known, path, config), known.description
    assert description is not None, "what was proven is described"
    settle_context(config, spec, notes=[])  # contradictions come to light before any weight is read
    layers, dtype = layer_shapes(description), settle_dtype(config, spec)

    def load(kind: str | None) -> tuple[Decoder, int]:
        return load_decoder(
            path,
            description,
            dtype=dtype,
            max_rows=max(config.max_num_batched_tokens, LEAST_ROWS),
            kind=kind,
            invariant=config.batch_invariant,
            progress=progress,
        )

    def logits(decoder: Decoder) -> Tensor:
        return probe(NativeForward(decoder), layers, vocab=spec.vocab_size, dtype=decoder.dtype)

    kind, rounded = config.quantization, None
    exact = None if kind is None else logits(load(None)[0])  # gone again before the rounded weights are read
    decoder, count = load(kind)
    if kind is not None and exact is not None:
        rounded = quantized(kind, decoder.products, logits(decoder), exact)
    torch.set_num_threads(1)  # the decoder's threads have the CPUs; what is left to torch is small
    return ComputedModel(
        spec,
        NativeForward(decoder),
        decoder.dtype,
        layers,
        count,
        description.hidden if config.enable_prompt_embeds else None,
        computed_by=f"the native decoder ({decoder.runs_on})",
        quantized=rounded,
    )


def _by_transformers(path: Path, config: EngineConfig, device: torch.device, *, progress: bool) -> ComputedModel:
    from quire_engine.model.embeds import prove_embeds  # with transformers, which takes seconds to import
    from quire_engine.model.fusion import fuse
    from quire_engine.model.load import load_model
    from quire_engine.model.proof import prove

    spec = read_spec(path, config)
    context = settle_context(config, spec, notes=[])  # contradictions come to light before any weight is read
    model = load_model(
        spec,
        dtype=settle_dtype(config, spec),
        device=device,
        trust_remote_code=config.trust_remote_code,
        progress=progress,
    )
    embeds_width = prove_embeds(model, architecture=spec.architecture) if config.enable_prompt_embeds else None
    layers = prove(model, backend(config), architecture=spec.architecture, context=context)
    count = model.num_parameters()
    fusion = fuse(model, fusion_passes(config, device), layers, context=context)
    rounded, left = (
        (None, None) if device.type != "cpu" else pack(model, layers, config, architecture=spec.architecture)
    )
    forward: Forward = ModelForward(model)
    if config.batch_invariant:
        forward = InvariantForward(forward)
    return ComputedModel(
        spec, forward, model.dtype, layers, count, embeds_width, fusion=fusion, quantized=rounded, left=left
    )


def fusion_passes(config: EngineConfig, device: torch.device) -> tuple[FusionPass, ...]:
    """The passes that were asked for; unless told otherwise, those that pay on this device."""
    from quire_engine.model.fusion import INVARIANT_PASSES, PASSES

    passes = INVARIANT_PASSES if config.batch_invariant else PASSES
    if config.fusion is None and device.type == "cpu" and not config.batch_invariant:
        return tuple(each for each in passes if each.pays_on_cpu)
    # torch sums the squares of one row otherwise than of many: where that must not matter, all is fused.
    return () if config.fusion is False else passes
