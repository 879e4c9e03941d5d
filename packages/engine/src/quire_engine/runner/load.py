"""From an EngineConfig to a runner that is ready: a model that computes, measure, decide, allocate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quire_engine.attention import AttentionBackend
from quire_engine.checkpoint import resolve
from quire_engine.config import Decisions, EngineConfig, LogprobsMode
from quire_engine.decide import decide, settle_context
from quire_engine.errors import ConfigError
from quire_engine.kv.budget import Machine, measure_cpu, measure_cuda
from quire_engine.kv.cache import KVCache
from quire_engine.runner.base import Runner
from quire_engine.runner.computed import ComputedModel, backend, load_computed
from quire_engine.runner.eager import EagerRunner
from quire_engine.runner.graphs import LARGEST, Capture, CudaCapture, GraphRunner, StaticInputs, padded_sizes
from quire_engine.runner.invariance import BLOCK_SIZE, BLOCKS, prove_invariance
from quire_engine.runner.pack import Packer
from quire_engine.runner.rehearsal import made_up
from quire_engine.sampling.sampler import Sampler

REHEARSAL_BLOCK = 16
GRAPHS_BYTES = 256 << 20
"""Kept free for what graphs hold besides a pass's activations."""


def load_runner(config: EngineConfig, *, progress: bool) -> tuple[Runner, Decisions]:
    """Load the model that was asked for; ConfigError, with the way out, where that cannot be done."""
    device = _find_device(config)
    model = load_computed(resolve(config.model, config.revision), config, device, progress=progress)
    build = Assembly(model, backend(config), device, config.logprobs_mode)
    if config.batch_invariant:
        build.prove_invariance()
    context = settle_context(config, model.spec, notes=[])
    machine = measure_cpu() if device.type == "cpu" else build.measure_cuda(config, context)
    decisions = decide(
        config,
        model.spec,
        machine,
        attention=build.attention.name,
        layers=model.layers,
        parameters=model.parameters,
        fusion=model.fusion,
        embeds_width=model.embeds_width,
        compute=model.computed_by,
        not_native=model.not_native,
        quantized=model.quantized,
        left=model.left,
    )
    runner = build.runner(
        blocks=decisions.num_blocks,
        block_size=decisions.block_size,
        seats=decisions.max_num_seqs,
        max_model_len=decisions.max_model_len,
    )
    return (graphed(runner, decisions, CudaCapture(device), device) if decisions.captures_graphs else runner), decisions


def graphed(eager: EagerRunner, decisions: Decisions, capture: Capture, device: torch.device) -> GraphRunner:
    """A runner that replays what `eager` computes."""
    sizes = padded_sizes(min(decisions.max_num_batched_tokens, LARGEST))
    inputs = StaticInputs(
        rows=sizes[-1],
        spans=decisions.max_num_seqs,
        max_model_len=decisions.max_model_len,
        block_size=decisions.block_size,
        device=device,
    )
    return GraphRunner(eager, inputs, capture, sizes=sizes, vocab_size=decisions.vocab_size)


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts from which runners are put together."""

    model: ComputedModel
    attention: type[AttentionBackend]
    device: torch.device
    logprobs_mode: LogprobsMode

    def runner(self, *, blocks: int, block_size: int, seats: int, max_model_len: int) -> EagerRunner:
        """A runner with a cache of its own."""
        vocab_size = self.model.spec.vocab_size
        return EagerRunner(
            self.model.forward,
            KVCache.allocate(self.model.layers, blocks, block_size, self.model.dtype, self.device),
            attention=self.attention,
            sampler=Sampler(
                vocab_size=vocab_size,
                eos_token_ids=self.model.spec.eos_token_ids,
                device=self.device,
                logprobs_mode=self.logprobs_mode,
            ),
            packer=Packer(seats=seats, max_model_len=max_model_len, block_size=block_size, device=self.device),
            vocab_size=vocab_size,
            device=self.device,
            logprobs_mode=self.logprobs_mode,
        )

    def prove_invariance(self) -> None:
        """ModelNotSupported if company changes a sequence's logits."""
        runner = self.runner(blocks=BLOCKS, block_size=BLOCK_SIZE, seats=2, max_model_len=BLOCKS * BLOCK_SIZE)
        spec = self.model.spec
        way_out = "leave it out, or ask for native=False" if self.model.is_native else "leave it out"
        prove_invariance(runner, architecture=spec.architecture, vocab_size=spec.vocab_size, way_out=way_out)

    def measure_cuda(self, config: EngineConfig, context: int) -> Machine:
        """The card with the model on it, after the largest step, computed in a cache just large enough for it."""
        sequences = min(config.max_num_seqs, config.max_num_batched_tokens)
        tokens = min(config.max_num_batched_tokens, sequences * context)
        longest = -(-tokens // sequences)
        blocks = -(-longest // REHEARSAL_BLOCK)
        runner = self.runner(blocks=blocks, block_size=REHEARSAL_BLOCK, seats=sequences, max_model_len=longest)
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        runner.run(made_up(sequences=sequences, tokens=tokens, block_size=REHEARSAL_BLOCK)).wait()
        peak = torch.cuda.max_memory_allocated(self.device) - before
        del runner  # and its cache, which must not count as taken
        graphs = 0 if config.enforce_eager else GRAPHS_BYTES + peak * min(LARGEST, tokens) // tokens
        return measure_cuda(self.device, peak + graphs)


def _find_device(config: EngineConfig) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ConfigError(
            "device is 'cuda', but torch finds no CUDA device; check the driver and torch's build, or ask for 'cpu'"
        )
    return torch.device("cuda" if has_cuda and config.device != "cpu" else "cpu")
