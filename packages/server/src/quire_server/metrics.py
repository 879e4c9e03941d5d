"""Every metric that GET /metrics gives: its name, what it says, and where its value comes from, in one table.

Names, labels and bounds are those of vLLM where it has the metric, so that its dashboards, alerts and autoscalers read
this server as they are; bounds were added below its smallest ones, where a small model's whole life takes place. What
is only here begins with `quire:`. Values are read when somebody asks; between two scrapes nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from quire_engine.config import Decisions
from quire_engine.link.supervised import EngineState
from quire_protocol.errors import ERROR_REASONS
from quire_server.ledger import Engine, EngineLedger, HttpLedger, Sizes
from quire_server.reads import MODES, OUTCOMES
from quire_server.spreads import Spread

L = TypeVar("L")

Kind = Literal["gauge", "counter", "histogram", "summary"]
Value: TypeAlias = float | Spread | Sizes
Values: TypeAlias = Value | Mapping[Any, Value]
"""One value, or one for each combination of the metric's own labels, which is a tuple of strings."""

ENGINE = "0"
"""What the label `engine` says: one engine runs in a server."""

FINISH_REASONS = ("stop", "length", "abort", "error", "timeout")


@dataclass(frozen=True, slots=True)
class Entry(Generic[L]):
    """One metric, read from the ledger of a kind."""

    name: str
    """As a query writes it: a counter's ends in `_total`."""
    kind: Kind
    about: str
    read: Callable[[L], Values]
    labels: tuple[str, ...] = ()
    """Its own, behind those that all metrics of its table have."""
    is_engines: bool = False
    """Whether it says something of the engine itself: then it is the same, however many processes answer for that."""

    @property
    def family(self) -> str:
        """As prometheus-client has it: a counter's name is without the ending, which is put behind it again."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name


def _by(counted: Mapping[str, int], *always: str) -> dict[tuple[str, ...], Value]:
    """Counts by one label; those of `always` are there from the beginning, at 0."""
    return {(name,): counted.get(name, 0) for name in dict.fromkeys((*always, *counted))}


def _sleep_states(seen: EngineLedger) -> dict[tuple[str, ...], Value]:
    asleep = seen.engine.state == "sleeping"
    return {("awake",): not asleep, ("weights_offloaded",): 0, ("discard_all",): asleep}


def _sources(seen: EngineLedger) -> dict[tuple[str, ...], Value]:
    stats = seen.stats
    hits = stats.prefix_cache_hits
    return {("local_compute",): max(0, stats.prompt_tokens - hits), ("local_cache_hit",): hits}


def _cache_config(decisions: Decisions) -> dict[tuple[str, ...], Value]:
    told = (decisions.block_size, decisions.num_blocks, decisions.dtype, decisions.enable_prefix_caching)
    return {tuple(map(str, told)): 1}


def _reads(seen: EngineLedger) -> dict[tuple[str, ...], Value]:
    kinds = product(MODES, OUTCOMES)
    chats: dict[tuple[str, ...], Value] = {(*kind, "chat_completions"): seen.reads[kind] for kind in kinds}
    return chats | {(*kind, other): 0 for kind in product(MODES, OUTCOMES) for other in ("responses", "other")}


ENGINE_METRICS: tuple[Entry[EngineLedger], ...] = (
    Entry(
        "vllm:num_requests_running",
        "gauge",
        "Choices that hold blocks of the KV cache and are computed.",
        lambda seen: seen.stats.running,
        is_engines=True,
    ),
    Entry(
        "vllm:num_requests_waiting",
        "gauge",
        "Choices in line.",
        lambda seen: seen.stats.waiting,
        is_engines=True,
    ),
    Entry(
        "vllm:num_requests_waiting_by_reason",
        "gauge",
        "Choices in line, by what they wait for: `capacity` is the only thing so far.",
        lambda seen: {("capacity",): seen.stats.waiting},
        ("reason",),
        is_engines=True,
    ),
    Entry(
        "vllm:engine_sleep_state",
        "gauge",
        "1 at the state that the engine is in: `awake`, or `discard_all` while it sleeps without weights.",
        _sleep_states,
        ("sleep_state",),
        is_engines=True,
    ),
    Entry(
        "vllm:kv_cache_usage_perc",
        "gauge",
        "Share of the KV cache's blocks that are referenced, from 0 to 1.",
        lambda seen: seen.stats.kv_usage,
        is_engines=True,
    ),
    Entry(
        "vllm:cache_config_info",
        "gauge",
        "Always 1: the KV cache is what its labels say.",
        lambda seen: _cache_config(seen.engine.decisions),
        ("block_size", "num_gpu_blocks", "cache_dtype", "enable_prefix_caching"),
        is_engines=True,
    ),
    Entry(
        "vllm:prefix_cache_queries_total",
        "counter",
        "Prompt tokens looked up in the prefix cache.",
        lambda seen: seen.stats.prefix_cache_queries,
        is_engines=True,
    ),
    Entry(
        "vllm:prefix_cache_hits_total",
        "counter",
        "Prompt tokens found there.",
        lambda seen: seen.stats.prefix_cache_hits,
        is_engines=True,
    ),
    Entry(
        "vllm:num_preemptions_total",
        "counter",
        "Times that a choice gave its blocks back, to be computed again later.",
        lambda seen: seen.stats.preemptions,
        is_engines=True,
    ),
    Entry(
        "vllm:prompt_tokens_total",
        "counter",
        "Tokens of prompts taken in.",
        lambda seen: seen.stats.prompt_tokens,
        is_engines=True,
    ),
    Entry(
        "vllm:prompt_tokens_by_source_total",
        "counter",
        "The same by source: `local_compute`, or `local_cache_hit` for what the prefix cache had.",
        _sources,
        ("source",),
        is_engines=True,
    ),
    Entry(
        "vllm:prompt_tokens_cached_total",
        "counter",
        "Those of them that some cache had.",
        lambda seen: seen.stats.prefix_cache_hits,
        is_engines=True,
    ),
    Entry(
        "vllm:prompt_tokens_cached_by_source_total",
        "counter",
        "The same by cache; the device's is the only one so far.",
        lambda seen: {("device",): seen.stats.prefix_cache_hits},
        ("source",),
        is_engines=True,
    ),
    Entry(
        "vllm:generation_tokens_total",
        "counter",
        "Tokens drawn.",
        lambda seen: seen.stats.generation_tokens,
        is_engines=True,
    ),
    Entry(
        "vllm:request_success_total",
        "counter",
        "Choices that ended, by reason; those that ended badly too, as vLLM has it.",
        lambda seen: _by(seen.finished, *FINISH_REASONS),
        ("finished_reason",),
    ),
    Entry(
        "vllm:corrupted_requests_total",
        "counter",
        "Requests for which the model gave no numbers at least once; those that were mended too.",
        lambda seen: seen.stats.corrupted_requests,
        is_engines=True,
    ),
    Entry(
        "vllm:tool_call_parser_invocations_total",
        "counter",
        "Times that text was read for tool calls, by whether it had any: an answer at once, a stream by each delivery.",
        _reads,
        ("mode", "outcome", "request_type"),
    ),
    Entry(
        "vllm:admission_rejections_total",
        "counter",
        "Requests that were not taken in: by the limit of the line that was reached, or for their `deadline`.",
        lambda seen: _by(seen.rejections, "max_num_queued_reqs", "max_num_queued_tokens", "deadline"),
        ("reason",),
    ),
    Entry(
        "vllm:request_prompt_tokens",
        "histogram",
        "Tokens of a request's prompt.",
        lambda seen: seen.prompt_lengths,
    ),
    Entry(
        "vllm:request_generation_tokens",
        "histogram",
        "Tokens generated for a request, its choices together.",
        lambda seen: seen.answer_lengths,
    ),
    Entry(
        "vllm:request_max_num_generation_tokens",
        "histogram",
        "Tokens of a request's longest choice.",
        lambda seen: seen.longest_answers,
    ),
    Entry(
        "vllm:request_params_n",
        "histogram",
        "Choices that a request asks for.",
        lambda seen: seen.choices,
    ),
    Entry(
        "vllm:request_params_max_tokens",
        "histogram",
        "The length that a request allows its answers.",
        lambda seen: seen.max_tokens,
    ),
    Entry(
        "vllm:request_prefill_kv_computed_tokens",
        "histogram",
        "Tokens of a request's prompt that had to be computed.",
        lambda seen: seen.computed_prompts,
    ),
    Entry(
        "vllm:request_num_preemptions",
        "histogram",
        "Times that choices of a request gave way to others.",
        lambda seen: seen.preemptions,
    ),
    Entry(
        "vllm:iteration_tokens_total",
        "histogram",
        "Tokens computed in a step, prompts and answers together.",
        lambda seen: seen.step_tokens,
        is_engines=True,
    ),
    Entry(
        "vllm:time_to_first_token_seconds",
        "histogram",
        "From a request's arrival at the engine to its first token.",
        lambda seen: seen.time_to_first_token,
    ),
    Entry(
        "vllm:inter_token_latency_seconds",
        "histogram",
        "From a token to the next of the same request.",
        lambda seen: seen.inter_token,
    ),
    Entry(
        "vllm:request_time_per_output_token_seconds",
        "histogram",
        "The mean of that over a request.",
        lambda seen: seen.per_output_token,
    ),
    Entry(
        "vllm:e2e_request_latency_seconds",
        "histogram",
        "From a request's arrival at the engine to its end.",
        lambda seen: seen.total,
    ),
    Entry(
        "vllm:request_queue_time_seconds",
        "histogram",
        "Time in line.",
        lambda seen: seen.queued,
    ),
    Entry(
        "vllm:request_prefill_time_seconds",
        "histogram",
        "From the line to the first token.",
        lambda seen: seen.prefill,
    ),
    Entry(
        "vllm:request_decode_time_seconds",
        "histogram",
        "From the first token to the last.",
        lambda seen: seen.decode,
    ),
    Entry(
        "vllm:request_inference_time_seconds",
        "histogram",
        "From the line to the last token.",
        lambda seen: seen.inference,
    ),
    Entry(
        "quire:engine_state",
        "gauge",
        "1 at the state that the engine is in, 0 at the others.",
        lambda seen: {(state,): seen.engine.state == state for state in get_args(EngineState)},
        ("state",),
        is_engines=True,
    ),
    Entry(
        "quire:engine_restarts_total",
        "counter",
        "Times that the engine's process was started again.",
        lambda seen: seen.engine.restarts,
        is_engines=True,
    ),
    Entry(
        "quire:engine_steps_total",
        "counter",
        "Batches computed.",
        lambda seen: seen.stats.steps,
        is_engines=True,
    ),
    Entry(
        "quire:engine_busy_seconds_total",
        "counter",
        "Time that they took: its rate is how busy the engine is, from 0 to 1.",
        lambda seen: seen.stats.busy_seconds,
        is_engines=True,
    ),
    Entry(
        "quire:computed_tokens_total",
        "counter",
        "Tokens computed, prompts and answers, again after a preemption too; what a cache had is not among them.",
        lambda seen: seen.stats.computed_tokens,
        is_engines=True,
    ),
    Entry(
        "quire:engine_failed_steps_total",
        "counter",
        "Batches that could not be computed as a whole: in parts, whoever made them fail is found and ends alone.",
        lambda seen: seen.stats.failed_steps,
        is_engines=True,
    ),
    Entry(
        "quire:mended_blocks_total",
        "counter",
        "Blocks of the KV cache that held what was no number; what they had spoiled was computed again.",
        lambda seen: seen.stats.mended_blocks,
        is_engines=True,
    ),
    Entry(
        "quire:tokens_after_disconnect_total",
        "counter",
        "Tokens generated for requests whose client had gone: at most a step's worth each.",
        lambda seen: seen.tokens_after_disconnect,
    ),
    Entry(
        "quire:deadlines_missed_total",
        "counter",
        "Choices that their deadline ended: `waiting` for their request's first token, or `running`.",
        lambda seen: _by(seen.deadlines_missed, "waiting", "running"),
        ("phase",),
    ),
    Entry(
        "quire:tenant_prompt_tokens_total",
        "counter",
        "Tokens of prompts of requests that ended, by the name of the API key.",
        lambda seen: _by(seen.prompt_tokens),
        ("tenant",),
    ),
    Entry(
        "quire:tenant_generation_tokens_total",
        "counter",
        "Tokens generated for requests that ended, by the name of the API key.",
        lambda seen: _by(seen.generation_tokens),
        ("tenant",),
    ),
)
"""Metrics of the engine and its requests."""

HTTP_METRICS: tuple[Entry[HttpLedger], ...] = (
    Entry(
        "http_requests_total",
        "counter",
        "Requests by method, class of status and route; probes and scrapes are left out of this and what follows.",
        lambda seen: seen.requests,
        ("method", "status", "handler"),
    ),
    Entry(
        "http_request_duration_highr_seconds",
        "histogram",
        "From a request's first byte to its answer's last.",
        lambda seen: seen.seconds,
    ),
    Entry(
        "http_request_duration_seconds",
        "histogram",
        "The same by route, with few bounds.",
        lambda seen: seen.seconds_by_route,
        ("method", "handler"),
    ),
    Entry(
        "http_request_size_bytes",
        "summary",
        "Bodies of requests, as announced.",
        lambda seen: {(route,): sizes for route, sizes in dict(seen.received).items()},
        ("handler",),
    ),
    Entry(
        "http_response_size_bytes",
        "summary",
        "Bodies of answers, as sent.",
        lambda seen: {(route,): sizes for route, sizes in dict(seen.sent).items()},
        ("handler",),
    ),
    Entry(
        "quire:requests_refused_total",
        "counter",
        "Requests that met an error whose `reason` is this word.",
        lambda seen: _by(seen.refused, *ERROR_REASONS),
        ("reason",),
    ),
)
"""Metrics of the HTTP side."""

NOT_HERE: Mapping[str, str] = {
    "`vllm:lora_requests_info`": "LoRA adapters are not built yet",
    "`vllm:spec_decode_*`": "speculative decoding is not built yet",
    "`vllm:external_prefix_cache_*`, `vllm:kv_offload_*`, `vllm:num_requests_kv_fetch_by_stage`": (
        "the KV cache stays on the device so far"
    ),
    "`vllm:simple_kv_offload_*`, `vllm:nixl_*`, `vllm:mooncake_store_*`, `vllm:hf3fs_*`, `vllm:hisparse_*`": (
        "they are of connectors for that"
    ),
    "`vllm:sleep_mode_operation*`": "`http_request_duration_seconds` has it, as of any route",
    "`vllm:rl_weight_update_operation*`": "weights stay as they were loaded",
    "`vllm:websocket_connection*`": "no route is a WebSocket",
    "`vllm:diffusion_*`": "diffusion models are not served",
    "`vllm:mm_cache_*`": "multimodal input is not built yet",
    "`vllm:kv_block_*_seconds`": "how long blocks stay is not sampled",
    "`vllm:estimated_*_per_gpu_total`": "work is not estimated",
    "`vllm:watermark_requests_total`": "answers are not watermarked",
}
"""Metrics of the system that people come from which this server does not give: name → why."""


class Table(Collector, Generic[L]):
    """The metrics of one table, read from their ledger whenever somebody asks."""

    def __init__(self, entries: tuple[Entry[L], ...], ledger: L, always: Mapping[str, str]) -> None:
        """`always` are labels that each of the metrics has, with what they say."""
        self.entries = entries
        self.ledger = ledger
        self.always = dict(always)

    def collect(self) -> Iterator[Metric]:
        """Every metric, with what has been counted so far."""
        for entry in self.entries:
            family = Metric(entry.family, entry.about, entry.kind)
            values = entry.read(self.ledger)
            for own, value in dict(values).items() if isinstance(values, Mapping) else [((), values)]:
                labels = self.always | dict(zip(entry.labels, own, strict=True))
                for ending, said, number in _samples(value):
                    family.add_sample(entry.name + ending, labels | said, number)
            yield family


ENGINES_OWN = frozenset(entry.family for entry in ENGINE_METRICS if entry.is_engines)
"""Families that say something of the engine itself."""


def counting(engine: Engine, model_name: str) -> tuple[EngineLedger, CollectorRegistry]:
    """For a process that has the engine while others answer for it: what counts the engine's steps, and tells them."""
    ledger = EngineLedger(engine)
    registry = CollectorRegistry()
    _register_process(registry)
    entries = tuple(entry for entry in ENGINE_METRICS if entry.is_engines)
    registry.register(Table(entries, ledger, _engine_labels(model_name)))
    return ledger, registry


def http_table(ledger: HttpLedger) -> Table[HttpLedger]:
    """The metrics of one application's HTTP requests."""
    return Table(HTTP_METRICS, ledger, {})


def engine_table(ledger: EngineLedger, model_name: str) -> Table[EngineLedger]:
    """The metrics of one engine, with a model that is served under this name."""
    return Table(ENGINE_METRICS, ledger, _engine_labels(model_name))


def registry_of(ledger: HttpLedger) -> CollectorRegistry:
    """A registry for one application: its HTTP requests, this process and its Python. The engine joins it later."""
    registry = CollectorRegistry()
    _register_process(registry)
    registry.register(http_table(ledger))
    return registry


def _register_process(registry: CollectorRegistry) -> None:
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def _engine_labels(model_name: str) -> dict[str, str]:
    return {"model_name": model_name, "engine": ENGINE}


def _samples(value: Value) -> Iterator[tuple[str, dict[str, str], float]]:
    """A value as lines: what stands behind the metric's name, labels beside its own, and a number."""
    if isinstance(value, Spread):
        count = 0
        for bound, count in value.so_far():
            yield "_bucket", {"le": "+Inf" if bound == float("inf") else str(float(bound))}, count
        yield "_count", {}, count  # the last bucket's, also where the event loop counts on meanwhile
        yield "_sum", {}, value.total
    elif isinstance(value, Sizes):
        yield "_count", {}, value.count
        yield "_sum", {}, value.total
    else:
        yield "", {}, float(value)
