"""What was decided, in a few lines a person can read: printed by `quire serve` and `quire check`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from quire_engine.checkpoint import DEFAULT_MODEL_NAME
from quire_engine.config import Decisions, EngineConfig, Fused, Quantized
from quire_server.__about__ import __version__
from quire_server.hosts import is_loopback
from quire_server.settings import ServerSettings

WIDTH = 100

ORDERS = {
    "fcfs": "first come, first served",
    "priority": "lowest priority first",
    "fair": "keys in turn, by their shares",
}
"""What each order of service is called."""


def check(config: EngineConfig) -> int:
    """Load the model, print what was decided, and let it go again. Formats are those that its chat template shows."""
    from quire_engine.engine import Engine
    from quire_engine.text.load import load_tokenizer
    from quire_server import formats

    engine = Engine.load(config, progress=True)
    try:
        print(f"quire {__version__}", *lines(described(model_name(config), engine.decisions)), sep="\n")
    finally:
        engine.close()
    if (tokenizer := load_tokenizer(config)) is not None:
        settings = ServerSettings(api_key=())
        print(*lines(formats.described(formats.answers_of(tokenizer, settings, engine.decisions), settings)), sep="\n")
    return 0


def model_name(config: EngineConfig) -> str:
    """What a model is called unless it is named otherwise: as it was asked for."""
    return config.model or DEFAULT_MODEL_NAME


def described(name: str, decisions: Decisions) -> Iterator[tuple[str, str]]:
    """The decisions as (label, text)."""
    prefix = "prompts that begin alike share it" if decisions.enable_prefix_caching else "nothing is shared"
    yield "model", f"{name} ({decisions.architecture}, {count(decisions.parameters)} parameters, {decisions.dtype})"
    yield "device", f"{decisions.device}, computed by {decisions.compute}, attention by {decisions.attention_backend}"
    yield "context", f"{decisions.max_model_len:,} tokens, prompt and answer together"
    yield (
        "cache",
        f"{decisions.kv_cache_tokens:,} tokens in {decisions.num_blocks:,} blocks of {decisions.block_size} "
        f"({size(decisions.kv_cache_bytes)}); {prefix}",
    )
    yield (
        "batch",
        f"up to {decisions.max_num_seqs:,} sequences and {decisions.max_num_batched_tokens:,} tokens a step",
    )
    yield (
        "line",
        f"{ORDERS[decisions.scheduling_policy]}; up to {decisions.max_num_queued_reqs:,} requests with "
        f"{decisions.max_num_queued_tokens:,} tokens wait",
    )
    if how := ", ".join(steps(decisions)):
        yield "steps", how
    if decisions.fusion:
        yield "fusion", "; ".join(map(fused, decisions.fusion))
    if decisions.quantized is not None:
        yield "weights", rounded(decisions.quantized)
    for note in decisions.notes:
        yield "note", note


def steps(decisions: Decisions) -> Iterator[str]:
    """How steps are run where that is not one after the other as they come."""
    if decisions.captures_graphs:
        yield "captured as CUDA graphs in idle moments"
    if decisions.async_scheduling:
        yield "launched before the tokens of the one before are read"
    if decisions.batch_invariant:
        yield "the same to the last bit in any company"


def fused(kind: Fused) -> str:
    """What became of one kind of module, and why the others were left."""
    left = f" ({', '.join(kind.reasons)})" if kind.reasons else ""
    return f"{kind.fused} of {kind.found} {kind.what}{left}"


def rounded(weights: Quantized) -> str:
    """What rounding weights saved and cost."""
    return (
        f"{weights.kind} in {weights.products} linear layers, {count(weights.weights)} weights in "
        f"{size(weights.nbytes)}; over random tokens logits moved by {weights.distance:.2%} of their length, and the "
        f"likeliest token stayed in {weights.agreement:.0%}"
    )


def addressed(address: str, names: Sequence[str], settings: ServerSettings) -> Iterator[tuple[str, str]]:
    """Where the server is to be found and what else to know of it, as (label, text)."""
    if not settings.needs_keys and not is_loopback(settings.host) and settings.uds is None:
        yield "note", "anybody who reaches this address may use it; --api-key asks for a key"
    yield "names", ", ".join(names)
    yield "address", f"{address}/v1" + ("" if settings.disable_fastapi_docs else f"   (routes: {address}/docs)")


def curl(address: str, settings: ServerSettings) -> str:
    """A first request to try."""
    where = f"--unix-socket {settings.uds} http://localhost" if settings.uds else address
    key = ' -H "Authorization: Bearer $QUIRE_API_KEY"' if settings.needs_keys else ""
    body = """'{"messages": [{"role": "user", "content": "Hello!"}]}'"""
    return f"curl {where}/v1/chat/completions -H 'Content-Type: application/json'{key} -d {body}"


def lines(described: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Labels and texts in two columns."""
    for label, text in described:
        yield textwrap.fill(
            text, WIDTH, initial_indent=f"  {label:<9}", subsequent_indent=" " * 11, break_on_hyphens=False
        )


def count(number: int) -> str:
    """A large number in three digits or so."""
    for unit, name in ((10**9, " B"), (10**6, " M"), (10**3, " K")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)


def size(number: int) -> str:
    """Bytes in three digits or so."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} B"
