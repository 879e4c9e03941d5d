"""What the user asked (`EngineConfig`) and what was settled (`Decisions`): both frozen, both wire-ready, no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
SchedulingPolicy = Literal["fcfs", "priority", "fair"]
LogprobsMode = Literal["raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"]

MOST_QUEUED_REQS = 4096
MOST_QUEUED_TOKENS = 4_194_304
MOST_GRAMMAR_SIZE = 4_000_000
MOST_GRAMMAR_SECONDS = 10.0
MOST_CACHED_GRAMMARS = 128
"""What holds where nothing else was asked for, here and where an engine is made by hand."""


class EngineConfig(BaseModel):
    """What was asked of the engine. None means: choose for me. Every field is also a flag of `quire serve`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str | None = None
    """Local folder or Hub id of the checkpoint; the embedded default when absent."""
    tokenizer: str | None = None
    """Local folder or Hub id of the tokenizer; the model's own when absent."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub."""
    tokenizer_revision: str | None = None
    """Branch, tag or commit of the tokenizer on the Hub."""
    trust_remote_code: bool = False
    """Run modelling and tokenizer code that comes with the checkpoint."""
    dtype: Dtype = "auto"
    """Type of weights and activations; auto takes the checkpoint's own."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto takes CUDA when there is one."""
    seed: int = 0
    """Seed of the requests that bring none."""
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    """Longest prompt plus output, in tokens; the model's own limit when absent."""
    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Sequences that run at the same time."""
    max_num_batched_tokens: Annotated[int, Field(ge=1)] = 2048
    """Tokens computed in one step, prompts and outputs together."""
    block_size: Annotated[int, Field(ge=1, le=256)] | None = None
    """Tokens in one block of the KV cache."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the device's memory that weights and KV cache may take; on a CPU, share of the free memory for the KV cache."""  # noqa: E501
    kv_cache_memory_bytes: Annotated[int, Field(ge=1)] | None = None
    """Size of the KV cache in bytes; measured when absent."""
    enable_prefix_caching: bool = True
    """Keep finished blocks and reuse them for prompts that begin alike."""
    scheduling_policy: SchedulingPolicy = "fair"
    """Order of service: fair (keys have equal shares of the tokens, by their weights; within one, first come first served), fcfs (first come first served), or priority (lowest `priority` first)."""  # noqa: E501
    max_num_queued_reqs: Annotated[int, Field(ge=0)] = MOST_QUEUED_REQS
    """Requests that may wait in line; those that come while it is full are refused (429) and told when to come back."""
    max_num_queued_tokens: Annotated[int, Field(ge=0)] = MOST_QUEUED_TOKENS
    """Tokens that the prompts of requests in line may have together. A longer one waits where nobody else does."""
    quantization: Literal["int8", "int4"] | None = None
    """Round the weights of linear layers as they are loaded, on a CPU: int8 with a scale for each output, int4 with one for every 32 inputs. A token then reads fewer bytes; what it does to the logits is measured and shown by `quire check`."""  # noqa: E501
    batch_invariant: bool = False
    """Give each sequence the same logits to the last bit, whatever is computed beside it; a model for which that is not so is refused."""  # noqa: E501
    enforce_eager: bool = False
    """Run every step eagerly, without captured graphs."""
    async_scheduling: bool | None = None
    """Launch a step before the tokens of the one before it are read, where what it computes is certain; when absent, on CUDA."""  # noqa: E501
    fusion: bool | None = None
    """Replace modules of the model by faster ones where these are proven to compute the same; when absent, those that were measured to pay on this kind of device."""  # noqa: E501
    native: bool | None = None
    """Compute whole steps in the CPU library, without transformers' model; when absent, on a CPU where that is proven to give the same logits."""  # noqa: E501
    max_engine_deaths: Annotated[int, Field(ge=1)] = 3
    """Times within the window that the engine's process may end by itself: the last one of these is the end, after all others it is started again and goes on with its requests."""  # noqa: E501
    engine_death_window: Annotated[float, Field(gt=0)] = 600.0
    """Seconds within which these are counted."""
    engine_step_timeout: Annotated[float, Field(ge=0)] = 300.0
    """Seconds that the engine's process may be at one step: one that takes longer is ended, as is one that gives no sign of life for 30 seconds, and counts as one that ended by itself; 0 waits for ever."""  # noqa: E501
    cache_dir: str | None = None
    """Folder for what is worth keeping from start to start (which models were proven); the user's cache folder when absent."""  # noqa: E501
    generation_config: str = "auto"
    """Where sampling defaults come from: auto (the checkpoint), vllm (none), or a folder."""
    max_logprobs: Annotated[int, Field(ge=-1)] = 20
    """Most log-probabilities a request may ask for per token; -1 lifts the limit."""
    logprobs_mode: LogprobsMode = "raw_logprobs"
    """What is reported as log-probabilities: log-probabilities or bare logits, of the model's own distribution (raw) or of the one drawn from (processed: after masks, biases, penalties, temperature, top-k, top-p and min-p). A prompt's tokens are not drawn, so theirs are raw."""  # noqa: E501
    enable_prompt_embeds: bool = False
    """Take prompts that are embeddings already, as `prompt_embeds` of completions; their senders can show the model what no text can say."""  # noqa: E501
    logits_processors: tuple[str, ...] = ()
    """Registered logits processors that are applied to every request, which steers them by `vllm_xargs`."""
    logits_processor_pattern: str | None = None
    """Regular expression for the registered names that requests may give in their own `logits_processors`; none unless given."""  # noqa: E501
    max_grammar_size: Annotated[int, Field(ge=1024)] = MOST_GRAMMAR_SIZE
    """Longest grammar that an answer's form may come to, in characters."""
    max_grammar_seconds: Annotated[float, Field(gt=0)] = MOST_GRAMMAR_SECONDS
    """Longest time that trying out a grammar may take before its request is refused."""
    max_cached_grammars: Annotated[int, Field(ge=1)] = MOST_CACHED_GRAMMARS
    """Grammars that are kept ready, and twice as many that are remembered to be sound, or not."""
    skip_tokenizer_init: bool = False
    """Load no tokenizer: token ids in, token ids out."""

    @field_validator("logits_processor_pattern")
    @classmethod
    def _is_a_regular_expression(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f'logits_processor_pattern is "{pattern}", no regular expression: {error}.') from error
        return pattern


class Fused(BaseModel):
    """What became of one kind of module that faster ones may replace."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    what: str
    """The kind, in the plural."""
    found: int
    """How many the model has."""
    fused: int
    """How many of them were replaced."""
    reasons: tuple[str, ...] = ()
    """Why the others were left."""


class Quantized(BaseModel):
    """What rounding weights came to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: str
    """int8 or int4."""
    products: int
    """Linear layers that were rounded."""
    weights: int
    """Numbers in them."""
    nbytes: int
    """Bytes that they take now."""
    distance: float
    """How far logits moved, relative to their length, in the median of random tokens."""
    agreement: float
    """Share of these tokens after which the likeliest next one is still the same."""


class Decisions(BaseModel):
    """What was settled from config, model and device, once, before serving. Frozen; logged; shown by `quire check`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model_path: str
    """Local folder of the checkpoint."""
    architecture: str
    """Class name of the model, as in its config.json."""
    dtype: str
    """float32, float16 or bfloat16."""
    device: str
    """cpu, or cuda and the card's name."""
    parameters: int
    """Number of weights."""
    vocab_size: int
    """Rows of the output projection: token ids are below this."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer."""
    max_model_len: int
    """Longest prompt plus output, in tokens."""
    max_num_seqs: int
    """Sequences that run at the same time."""
    max_num_batched_tokens: int
    """Tokens computed in one step."""
    block_size: int
    """Tokens in one block of the KV cache."""
    num_blocks: int
    """Blocks of the KV cache."""
    kv_cache_bytes: int
    """Size of the KV cache in bytes."""
    attention_backend: str
    """Which attention runs."""
    compute: str = "transformers"
    """What computes a step: transformers' model, or the native decoder with its instruction set and threads."""
    enable_prefix_caching: bool
    """Whether prompts that begin alike share blocks."""
    scheduling_policy: SchedulingPolicy
    """Order of service."""
    max_num_queued_reqs: int = MOST_QUEUED_REQS
    """Requests that may wait in line."""
    max_num_queued_tokens: int = MOST_QUEUED_TOKENS
    """Tokens that their prompts may have together."""
    max_logprobs: int
    """Most log-probabilities per token; -1 is no limit."""
    logprobs_mode: LogprobsMode = "raw_logprobs"
    """What is reported as log-probabilities."""
    logits_processor_pattern: str | None = None
    """Which registered logits processors requests may name; none when absent."""
    allowed_processors: tuple[str, ...] = ()
    """Those that are registered."""
    applied_processors: tuple[str, ...] = ()
    """Those that are applied to every request."""
    xargs: tuple[str, ...] = ()
    """Extra arguments of requests that the logits processors applied to all of them take."""
    sampling_defaults: dict[str, Any]
    """Sampling defaults of the checkpoint's generation_config, under SamplingParams' names, and `max_new_tokens`."""
    batch_invariant: bool = False
    """Whether a sequence's logits are the same to the last bit, whatever is computed beside it."""
    captures_graphs: bool = False
    """Whether steps are captured as CUDA graphs, in idle moments."""
    async_scheduling: bool = False
    """Whether steps are launched before the tokens of the ones before them are read."""
    fusion: tuple[Fused, ...] = ()
    """What faster modules replaced, and what they left."""
    quantized: Quantized | None = None
    """What rounding the weights came to; None where they are the checkpoint's own."""
    max_grammar_size: int = MOST_GRAMMAR_SIZE
    """Longest grammar, in characters."""
    max_grammar_seconds: float = MOST_GRAMMAR_SECONDS
    """Longest time that trying out a grammar may take."""
    max_cached_grammars: int = MOST_CACHED_GRAMMARS
    """Grammars that are kept ready."""
    embeds_width: int | None = None
    """Numbers in one row of `prompt_embeds`; None where these are not taken."""
    notes: tuple[str, ...] = ()
    """What a reader should know: what was lowered, left out or chosen against the grain, and why."""

    @property
    def kv_cache_tokens(self) -> int:
        """Tokens that fit the KV cache."""
        return self.num_blocks * self.block_size


def as_settled(config: EngineConfig, decisions: Decisions) -> EngineConfig:
    """The configuration for further engines: what was measured for the first one holds, so that all promises do."""
    return config.model_copy(update={"kv_cache_memory_bytes": decisions.kv_cache_bytes or config.kv_cache_memory_bytes})


def cache_folder(config: EngineConfig) -> Path:
    """Where to keep what is worth keeping: as asked, or where the XDG base directories have it."""
    if config.cache_dir is not None:
        return Path(config.cache_dir).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "quire"
