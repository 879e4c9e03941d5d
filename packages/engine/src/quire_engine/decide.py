"""What was asked, what the model allows and what the machine has, settled: `Decisions`. Pure: no files, no device."""

from __future__ import annotations

from quire_engine.config import Decisions, EngineConfig, Fused, Quantized
from quire_engine.errors import ConfigError
from quire_engine.kv.budget import Machine
from quire_engine.kv.cache import LayerShape
from quire_engine.model.spec import DTYPES, ModelSpec

UNSTATED_CONTEXT = 2048
"""Context length of a model whose configuration states none."""
CPU_CACHE_BYTES = 4 << 30
"""A CPU's memory is shared with everything else on the machine: more than this is only taken when it is asked for."""
BLOCK_SIZE = 16
"""Tokens: small enough that prompts share most of what they have in common; larger ones were not faster anywhere."""


def decide(
    config: EngineConfig,
    spec: ModelSpec,
    machine: Machine,
    *,
    attention: str,
    layers: tuple[LayerShape, ...],
    parameters: int,
    embeds_width: int | None = None,
    fusion: tuple[Fused, ...] = (),
    compute: str = "transformers",
    not_native: str | None = None,
    quantized: Quantized | None = None,
    left: str | None = None,
) -> Decisions:
    """Settle everything, once. ConfigError where the wishes contradict the model or the machine.

    `attention`, `layers`, `parameters`, `embeds_width` and `fusion` are what the loaded model came to: its backend's
    name, what each layer caches for a token, the number of its weights, and of numbers in an embedding if it is to take
    these, and which of its modules were replaced. `compute` names what computes a step, `not_native` says why the
    native decoder does not, where it might have been expected to; `quantized` is what rounding weights came to, `left`
    why products were not packed.
    """
    notes = [f"not computed natively, which is faster: {not_native}"] if not_native else []
    notes += [left] if left else []
    dtype = settle_dtype(config, spec)
    wanted_length = settle_context(config, spec, notes)
    block_size = config.block_size or BLOCK_SIZE
    token_bytes = sum(layer.elements for layer in layers) * DTYPES[dtype].itemsize

    useful = config.max_num_seqs * -(-wanted_length // block_size)
    room = _cache_bytes(config, machine, useful * block_size * token_bytes, notes)
    num_blocks = min(useful, room // (block_size * token_bytes))
    max_model_len = _fit_one_sequence(config, wanted_length, num_blocks * block_size, block_size * token_bytes, notes)
    return Decisions(
        model_path=str(spec.path),
        architecture=spec.architecture,
        dtype=dtype,
        device=machine.device,
        parameters=parameters,
        vocab_size=spec.vocab_size,
        eos_token_ids=spec.eos_token_ids,
        max_model_len=max_model_len,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        block_size=block_size,
        num_blocks=num_blocks,
        kv_cache_bytes=num_blocks * block_size * token_bytes,
        attention_backend=attention,
        compute=compute,
        enable_prefix_caching=config.enable_prefix_caching,
        scheduling_policy=config.scheduling_policy,
        max_num_queued_reqs=config.max_num_queued_reqs,
        max_num_queued_tokens=config.max_num_queued_tokens,
        max_logprobs=config.max_logprobs,
        max_grammar_size=config.max_grammar_size,
        max_grammar_seconds=config.max_grammar_seconds,
        max_cached_grammars=config.max_cached_grammars,
        logprobs_mode=config.logprobs_mode,
        logits_processor_pattern=config.logits_processor_pattern,
        sampling_defaults=dict(spec.sampling_defaults),
        embeds_width=embeds_width,
        batch_invariant=config.batch_invariant,
        captures_graphs=not machine.is_cpu and not config.enforce_eager,
        async_scheduling=not machine.is_cpu if config.async_scheduling is None else config.async_scheduling,
        fusion=fusion,
        quantized=quantized,
        notes=tuple(notes),
    )


def settle_dtype(config: EngineConfig, spec: ModelSpec) -> str:
    """The type asked for, else the checkpoint's own."""
    return spec.dtype if config.dtype == "auto" else config.dtype


def settle_context(config: EngineConfig, spec: ModelSpec, notes: list[str]) -> int:
    """The context length asked for, else the model's limit; never beyond it."""
    limit, asked = spec.context, config.max_model_len
    if limit is None:
        if asked is None:
            notes.append(
                f"max_model_len is {UNSTATED_CONTEXT}: the model's configuration states no context length; "
                "set max_model_len if it has a longer one"
            )
        return asked or UNSTATED_CONTEXT
    if asked is not None and asked > limit.tokens:
        raise ConfigError(
            f"max_model_len is {asked}, but the model's limit is {limit.tokens} tokens: {limit.reason}; ask for less"
        )
    if asked is None and limit.tokens < limit.advertised:
        notes.append(f"max_model_len is {limit.tokens}, not {limit.advertised}: {limit.reason}")
    return asked or limit.tokens


def _cache_bytes(config: EngineConfig, machine: Machine, useful: int, notes: list[str]) -> int:
    """Bytes the KV cache may take: as asked, or a share of what is free."""
    if config.kv_cache_memory_bytes is not None:
        return config.kv_cache_memory_bytes
    if not machine.is_cpu:
        others = int(machine.memory_bytes * (1 - config.gpu_memory_utilization))
        return max(machine.free_bytes - others, 0)
    share = int(machine.free_bytes * config.gpu_memory_utilization)
    if "gpu_memory_utilization" in config.model_fields_set or min(share, useful) <= CPU_CACHE_BYTES:
        return share
    notes.append(
        f"the KV cache takes {_gib(CPU_CACHE_BYTES)} of {_gib(machine.free_bytes)} free memory; "
        "kv_cache_memory_bytes or gpu_memory_utilization give it more"
    )
    return CPU_CACHE_BYTES


def _fit_one_sequence(config: EngineConfig, wanted: int, tokens: int, block_bytes: int, notes: list[str]) -> int:
    """The cache must hold one whole sequence, or a lone long request could never finish."""
    if tokens >= wanted:
        return wanted
    if tokens == 0:
        raise ConfigError(
            f"no memory is left for the KV cache: one block takes {block_bytes} bytes; "
            "free memory, raise gpu_memory_utilization, or choose a smaller model"
        )
    if config.max_model_len is not None:
        raise ConfigError(
            f"max_model_len is {wanted}, but the KV cache holds {tokens} tokens; lower max_model_len, or raise "
            "gpu_memory_utilization or kv_cache_memory_bytes"
        )
    notes.append(
        f"max_model_len is lowered from {wanted} to {tokens}, the tokens that fit the KV cache; "
        "gpu_memory_utilization or kv_cache_memory_bytes raise it"
    )
    return tokens


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
