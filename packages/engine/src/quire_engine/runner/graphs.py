"""Steps as captured graphs: one launch instead of hundreds. It knows shapes and buffers, nothing of models.

A graph replays the kernels of one pass on fixed addresses, so a step is copied into static inputs and padded to a shape
for which there is a graph. Spans have no phase and attention needs no length on the host: one graph serves any mix of
spans with so many rows, and one more for each size serves steps in which every span has one row, as attention's tiles
are smaller there.

Serving begins eagerly. Graphs are captured in idle moments, those that were missed most first, or in the middle of work
once one was missed often. A graph is proven before it is used: it must replay what the pass itself computes on other
inputs than it was captured with. A model that refuses (it looks at the device, say) is served eagerly for good, and the
log says why.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from quire_engine.attention import Layout
from quire_engine.runner.eager import EagerPending, EagerRunner
from quire_engine.runner.faults import named_faults
from quire_engine.runner.pack import PackedBatch
from quire_engine.scheduling.batch import Batch

logger = logging.getLogger(__name__)

LARGEST = 512
"""Rows: beyond it the device works longer on a pass than the host needs to launch it."""
PATIENCE = 32
"""Steps that run eagerly for want of a graph before it is captured without waiting for an idle moment."""
TOLERANCE = 1e-3
"""Largest distance between a replay and the pass itself, relative to its length."""

Work = Callable[[], Tensor]


class CaptureRefused(Exception):
    """A pass that cannot be captured, and why."""


class Capture(Protocol):
    """Records a pass, to be replayed."""

    def __call__(self, work: Work) -> Work:
        """Run `work` and keep what it launches; the replay gives the same tensor with new content each time.

        CaptureRefused, with the reason, where that cannot be done.
        """
        ...


class CudaCapture:
    """CUDA graphs, which share one pool of memory: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Warm up on a stream of its own, as capturing wants it, and capture there."""
        graph = torch.cuda.CUDAGraph()
        try:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                work()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                answer = work()
        except (RuntimeError, torch.OutOfMemoryError) as error:
            raise CaptureRefused(" ".join(str(error).split())[:300]) from error
        torch.cuda.current_stream().wait_stream(self._stream)

        def replay() -> Tensor:
            graph.replay()
            return answer

        return replay


class Shape(NamedTuple):
    """What a graph is made for."""

    rows: int
    """T, padding included."""
    one_each: bool
    """Whether no span has more than one row."""


def padded_sizes(most: int) -> tuple[int, ...]:
    """Rows for which there are graphs: closer together where a row of padding is dear, up to `most` at least."""
    ladder = (1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, LARGEST + 1, 32))
    below = [size for size in ladder if size < most]
    return tuple(below) + tuple(size for size in ladder if size >= most)[:1]


class StaticInputs:
    """The tensors that graphs read. A shape's are views of the largest one's, so that all graphs share them."""

    def __init__(self, *, rows: int, spans: int, max_model_len: int, block_size: int, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._max_model_len = max_model_len
        self.ids, self.positions, self.slots = zeros(rows), zeros(rows), zeros(rows)
        self.sampled_rows = zeros(spans)
        self.starts = zeros(spans + 1, dtype=torch.int32)
        self.lengths = zeros(spans, dtype=torch.int32)
        self.tables = zeros(spans, -(-max_model_len // block_size), dtype=torch.int32)

    def spans(self, shape: Shape) -> int:
        """S of a shape, padding included."""
        return min(shape.rows, len(self.lengths))

    def layout(self, shape: Shape) -> Layout:
        """What attention reads of it; bounds instead of counts, as the host does not know what is replayed."""
        spans = self.spans(shape)
        return Layout(
            slots=self.slots[: shape.rows],
            starts=self.starts[: spans + 1],
            lengths=self.lengths[:spans],
            tables=self.tables[:spans],
            longest_span=1 if shape.one_each else shape.rows,
            longest_context=self._max_model_len,
        )

    def load(self, packed: PackedBatch, shape: Shape) -> None:
        """Copy a step in. Padding rows store nothing and belong to no span; what else they hold does not matter."""
        rows, padded, spans = packed.rows, shape.rows, self.spans(shape)
        layout, real, sampling = packed.layout, len(packed.spans), len(packed.sampling)
        self.ids[:rows].copy_(packed.ids)
        self.positions[:rows].copy_(packed.positions)
        self.slots[:rows].copy_(layout.slots)
        self.slots[rows:padded].fill_(-1)
        self.sampled_rows[:sampling].copy_(packed.sampled_rows)
        self.sampled_rows[sampling:spans].zero_()
        self.starts[: real + 1].copy_(layout.starts)
        self.starts[real + 1 : spans + 1].fill_(rows)
        self.lengths[:real].copy_(layout.lengths)
        self.lengths[real:spans].zero_()
        self.tables[:real, : layout.tables.shape[1]].copy_(layout.tables)

    def make_up(self, shape: Shape, vocab_size: int, seed: int, block: int) -> None:
        """Fill in a step that stores nothing: rows with any ids at any positions, each in a span of its own.

        What they read is in one block of the cache, over and over.
        """
        generator = torch.Generator().manual_seed(seed)

        def numbers(count: int, below: int) -> Tensor:
            return torch.randint(below, (count,), generator=generator)

        rows, spans = shape.rows, self.spans(shape)
        self.ids[:rows].copy_(numbers(rows, vocab_size))
        self.positions[:rows].copy_(numbers(rows, self._max_model_len))
        self.slots[:rows].fill_(-1)
        self.sampled_rows[:spans].copy_(numbers(spans, rows))
        self.starts[: spans + 1].copy_(torch.arange(spans + 1))
        self.lengths[:spans].copy_(1 + numbers(spans, self._max_model_len))
        self.tables[:spans].fill_(block)


class GraphRunner:
    """Replays what there is a graph for, and computes everything else as the eager runner does. Owns the graphs."""

    def __init__(
        self, eager: EagerRunner, inputs: StaticInputs, capture: Capture, *, sizes: tuple[int, ...], vocab_size: int
    ) -> None:
        self._eager = eager
        self._inputs = inputs
        self._capture = capture
        self._sizes = sizes
        self._vocab_size = vocab_size
        self._graphs: dict[Shape, Work] = {}
        self._missed: Counter[Shape] = Counter()
        self._block = 0
        """Of the cache, which graphs are proven on."""
        self._served = False
        self._logits = torch.empty(0)
        """[S, V] that all graphs answer in; what each one made on the way is free for the next."""
        self.refusal: str | None = None
        """Why nothing is captured any more."""

    @named_faults()
    @torch.inference_mode()
    def run(self, batch: Batch) -> EagerPending:
        """Compute a batch; the work is only queued when this returns."""
        self._served = True
        packed = self._eager.pack(batch)
        shape = self.shape_of(packed)
        graph = None if shape is None else self._graph_for(shape)
        if shape is None or graph is None:
            return self._eager.finish(packed, *self._eager.compute(packed))
        self._inputs.load(packed, shape)
        return self._eager.finish(packed, graph()[: len(packed.sampling)], [])

    def mend(self, blocks: Sequence[int]) -> list[int]:
        """As the eager runner does."""
        return self._eager.mend(blocks)

    @torch.inference_mode()
    def improve(self) -> bool:
        """Capture one graph, the one missed most or else the smallest; False if none is left, or nothing served yet."""
        wanted = [shape for shape, _ in self._missed.most_common() if shape not in self._graphs]
        shape = next(iter([*wanted, *self._untried()]), None)
        if shape is None or self.refusal is not None or not self._served:
            return False
        return self._capture_for(shape) is not None

    def warm_up(self) -> None:
        """As the eager runner does: serving begins eagerly."""
        self._eager.warm_up()

    def close(self) -> None:
        """Let go of the graphs, of what they answer in, and of the rest."""
        self._graphs.clear()
        self._logits = torch.empty(0)
        self._eager.close()

    @property
    def shapes(self) -> frozenset[Shape]:
        """Those that are replayed."""
        return frozenset(self._graphs)

    def shape_of(self, packed: PackedBatch) -> Shape | None:
        """The smallest shape that a step fits in; None if it is no mere pass from ids to the logits of some rows."""
        if packed.given is not None or any(span.sequence.is_scoring for span in packed.spans):
            return None
        size = next((size for size in self._sizes if size >= packed.rows), None)
        if size is None:
            return None
        shape = Shape(size, one_each=packed.layout.longest_span == 1)
        return shape if len(packed.spans) <= self._inputs.spans(shape) else None

    def _graph_for(self, shape: Shape) -> Work | None:
        graph = self._graphs.get(shape)
        if graph is None:
            self._missed[shape] += 1
            if self._missed[shape] >= PATIENCE and self.refusal is None:
                graph = self._capture_for(shape)
        return graph

    def _untried(self) -> Iterable[Shape]:
        """What steps of decoding alone come to, the small ones first."""
        most = self._inputs.spans(Shape(self._sizes[-1], one_each=True))
        sizes = [size for size in self._sizes if size <= most or size == next(s for s in self._sizes if s >= most)]
        return [shape for size in sizes if (shape := Shape(size, one_each=True)) not in self._graphs]

    def _capture_for(self, shape: Shape) -> Work | None:
        """A proven graph for a shape; None for now, or because it was refused: then nothing is captured any more."""
        try:
            graph = self._proven(shape)
            if graph is not None:
                self._graphs[shape] = graph
            else:
                self._missed[shape] = 0  # not in the next step again: it would take as long, perhaps for nothing
                self._block = (self._block + 1) % len(self._eager.cache.keys[0])
        except CaptureRefused as refused:
            self.refusal = str(refused)
            self._graphs.clear()
            logger.warning("Steps stay eager, as a pass of %d rows cannot be captured: %s", shape.rows, refused)
        return self._graphs.get(shape)

    def _proven(self, shape: Shape) -> Work | None:
        """Capture with one set of inputs, and compare with the pass itself on another.

        None if nothing can be compared: the block that is read may hold no numbers, until somebody's error shows it.
        """
        inputs, spans = self._inputs, self._inputs.spans(shape)

        def compute() -> Tensor:
            rows, ids, positions = inputs.sampled_rows[:spans], inputs.ids[: shape.rows], inputs.positions[: shape.rows]
            return self._eager.logits(ids, positions, rows, inputs.layout(shape))

        inputs.make_up(shape, self._vocab_size, seed=1, block=self._block)
        first = compute()  # compiles what is not compiled yet, and says what logits look like
        if not self._logits.numel():
            self._logits = first.new_empty(len(inputs.lengths), first.shape[1])
        graph = self._capture(lambda: self._logits[:spans].copy_(compute()))
        inputs.make_up(shape, self._vocab_size, seed=2, block=self._block)
        got, wanted = graph().float(), compute().float()
        distance = float((got - wanted).norm() / wanted.norm())
        if not wanted.isfinite().all():
            return None
        if not distance <= TOLERANCE:
            raise CaptureRefused(f"its replay gives other logits on other inputs (relative distance {distance:.2g})")
        return graph
