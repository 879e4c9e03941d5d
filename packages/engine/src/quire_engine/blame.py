"""Who is to blame when a batch cannot be computed: it is computed in parts until what raises alone is found.

It knows no model and no schedule. A sequence's answer is the same in any company, so what a part gives is what the
whole batch would have given. A span may be computed twice: it writes the same keys and values to the same blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import replace

from quire_engine.errors import DeviceFault
from quire_engine.runner.base import OutOfMemory, Runner
from quire_engine.runner.rehearsal import probe
from quire_engine.scheduling.batch import Batch, Span, SpanResult

logger = logging.getLogger(__name__)

Spans = tuple[Span, ...]


class Parts:
    """A batch that is computed in parts.

    A part that raises is halved, down to the one span that raises alone: its result says why, and all others have
    theirs. With c culprits among n spans that takes about 2 c log2(n) passes. Before a span is blamed, a pass that has
    nothing to do with it must succeed; otherwise it is the device that fails.
    """

    def __init__(self, runner: Runner, batch: Batch) -> None:
        """Whoever has ended meanwhile is left out; tokens that were still to be drawn are there by now."""
        self._runner = runner
        spans = tuple(replace(span, ahead=False) for span in batch.spans if span.sequence.is_running)
        self.batch = replace(batch, spans=spans)
        """What results are given for."""

    def after(self, error: Exception) -> list[SpanResult]:
        """The results, now that the batch as a whole has raised `error`. DeviceFault if nothing can be computed."""
        spans = self.batch.spans
        if len(spans) == 1 and not isinstance(error, DeviceFault | OutOfMemory):
            return self._results(spans)  # who is blamed has failed twice
        return self._narrowed(spans, error) if spans else []

    def apart(self, suspects: Container[int], tell: Callable[[int], None]) -> list[SpanResult]:
        """The results, with each span of these requests computed alone, behind all others.

        Who fails or ends this process then is known: `tell` hears the handle of each before it is computed.
        """
        clear = tuple(span for span in self.batch.spans if span.sequence.handle not in suspects)
        others = tuple(span for span in self.batch.spans if span.sequence.handle in suspects)
        self.batch = replace(self.batch, spans=clear + others)
        results = self._results(clear) if clear else []
        for span in others:
            tell(span.sequence.handle)
            results += self._results((span,))
        return results

    def _results(self, spans: Spans) -> list[SpanResult]:
        try:
            return self._runner.run(self._part(spans)).wait()
        except Exception as error:
            failure = error
        return self._narrowed(spans, failure)  # out here, so that no error becomes the context of the next

    def _narrowed(self, spans: Spans, error: Exception) -> list[SpanResult]:
        """The results of spans that raised `error` together."""
        if isinstance(error, DeviceFault):
            raise DeviceFault(str(error), suspects=handles(spans)) from error
        if len(spans) > 1:
            half = len(spans) // 2
            return [*self._results(spans[:half]), *self._results(spans[half:])]
        (span,) = spans
        if isinstance(error, OutOfMemory) and span.length > 1:
            return [self._in_pieces(span)]
        self._check_device(span, error)
        logger.error("Request %d could not be computed, and is ended.", span.sequence.handle, exc_info=error)
        return [SpanResult.failed(error)]

    def _in_pieces(self, span: Span) -> SpanResult:
        """A span for which there is no memory, as two."""
        half = span.length // 2
        pieces = replace(span, length=half), replace(span, start=span.start + half, length=span.length - half)
        first, second = (self._results((piece,))[0] for piece in pieces)
        if first.error is not None:
            return first
        return replace(second, prompt_logprobs=first.prompt_logprobs + second.prompt_logprobs)

    def _check_device(self, span: Span, error: Exception) -> None:
        """DeviceFault if a pass fails as well that has nothing to do with this span, but for a block of its own."""
        try:
            self._runner.run(probe(span.sequence.blocks[-1])).wait()
        except Exception as other:
            logger.error("Nothing can be computed.", exc_info=other)
            raise DeviceFault(f"{type(error).__name__}: {error}", suspects=handles((span,))) from error

    def _part(self, spans: Spans) -> Batch:
        """These spans, with the copies that are theirs: another one's would undo what it has computed."""
        if not self.batch.copies:
            return Batch(spans)
        others = {b.index for span in self.batch.spans if span not in spans for b in span.sequence.blocks}
        return Batch(spans, copies=tuple(copy for copy in self.batch.copies if copy.target not in others))


def handles(spans: Spans) -> tuple[int, ...]:
    """Whose spans these are."""
    return tuple(dict.fromkeys(span.sequence.handle for span in spans))
