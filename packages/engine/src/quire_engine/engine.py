"""The engine: requests in, steps computed one after another, emissions out. It knows no text, thread or socket."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple, Protocol

from quire_engine.blame import Parts, handles
from quire_engine.config import Decisions, EngineConfig
from quire_engine.constraint import Guide
from quire_engine.extensions import Extension, allowed_names, applied
from quire_engine.guidance.guides import Guides
from quire_engine.kv.digest import content_salt
from quire_engine.kv.pool import BlockPool
from quire_engine.runner.base import Pending, Runner
from quire_engine.scheduling.batch import Batch, SpanResult
from quire_engine.scheduling.beams import BeamRules, scoring_params
from quire_engine.scheduling.scheduler import Scheduler
from quire_engine.sequence import Emission, Rendered, Sequence, Submission
from quire_engine.stats import Stats
from quire_engine.timing import Progress
from quire_protocol import GenerateRequest, SamplingParams

logger = logging.getLogger(__name__)


class EngineFactory(Protocol):
    """Loads an engine; Engine.load is one."""

    def __call__(self, config: EngineConfig, *, progress: bool) -> Engine:
        """An engine for `config`; `progress` shows a bar on stderr."""
        ...


class Flight(NamedTuple):
    """A batch on its way."""

    batch: Batch
    pending: Pending


ALONE = 8
"""Steps that draw a token in which a suspected request is computed alone before it is one like all others."""


class NeverStarted:
    """A batch that could not even be launched."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def wait(self) -> list[SpanResult]:
        """Raises what went wrong."""
        raise self._error


class Engine:
    """One model and the requests that it is answering. Not thread-safe: whoever calls step() makes every other call."""

    def __init__(
        self,
        runner: Runner,
        decisions: Decisions,
        *,
        seed: int = 0,
        extensions: tuple[Extension, ...] = (),
        guides: Guides | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seed` starts the draws of seeds for requests that bring none; `extensions` are applied to every request.

        `guides` hold answers to their form; without them no request may ask for one. `clock` is the deadlines' one, in
        seconds.
        """
        self._clock = clock
        self._busy_since: float | None = None
        """When the last step ended, if it left something to do: what its caller did since then is part of the next."""
        self.runner = runner
        self.decisions = decisions
        self.scheduler = Scheduler(
            BlockPool(decisions.num_blocks),
            decisions.block_size,
            decisions.max_num_batched_tokens,
            decisions.max_num_seqs,
            policy=decisions.scheduling_policy,
            prefix_caching=decisions.enable_prefix_caching,
            max_model_len=decisions.max_model_len,
            eos_token_ids=decisions.eos_token_ids,
        )
        self._seeds = Random(seed)
        self._extensions = extensions
        self.guides = guides
        self.on_trial: Callable[[int], None] = lambda _: None
        """Told the handle of a suspected request before it is computed alone. Whoever owns the engine may listen."""
        self._at_hand: Batch | None = None
        """What is computed at this moment."""
        self.progress: list[Progress] = []
        """Which requests ran for the first time in the last step, or gave way."""
        self._next: Flight | None = None
        """What the overlapped loop has launched already."""
        self._refused: list[Emission] = []
        """What the next step says of requests that could not even be taken in."""
        self._suspects: dict[int, int] = {}
        """By handle: steps in which a request that an engine may have ended by is still computed alone."""
        self._doubted: set[Sequence] = set()
        """Those that are computed for the second time, as the model gave no numbers for them in the first."""
        self._corrupted: set[int] = set()
        """The handles of those that this ever happened to, as long as they are here."""

    @classmethod
    def load(cls, config: EngineConfig, *, progress: bool = False) -> Engine:
        """An engine with the model that `config` names. ConfigError if that cannot be served."""
        from quire_engine.runner.load import load_runner  # torch and transformers come with it

        extensions = tuple(map(Extension.load, config.logits_processors))  # before anything that takes long
        runner, decisions = load_runner(config, progress=progress)
        found = {
            "allowed_processors": allowed_names(config.logits_processor_pattern),
            "applied_processors": config.logits_processors,
            "xargs": tuple(sorted({name for extension in extensions for name in extension.takes})),
        }
        runner.warm_up()
        decisions = decisions.model_copy(update=found)
        guides = None if config.skip_tokenizer_init else Guides.of(config, decisions)
        return cls(runner, decisions, seed=config.seed, extensions=extensions, guides=guides)

    def add(self, submission: Submission) -> None:
        """Take in a request that check_request() has passed."""
        try:
            sequences, rules = self._sequences(submission), self._beam_rules(submission.request)
        except Exception as error:
            self._refuse(submission, error)
            return
        self.scheduler.add(sequences, rules)
        if submission.is_suspect:
            self._suspects[submission.handle] = ALONE

    def abort(self, handle: int, index: int | None = None) -> None:
        """Forget a request, or one choice of it, and free its blocks at once; nothing is emitted for it any more."""
        self.scheduler.abort(handle, index)

    def reset_prefix_cache(self) -> None:
        """Let nothing that was computed before be found by requests that come after; who runs goes on."""
        self.scheduler.pool.forget()

    def step(self) -> list[Emission]:
        """End what is late, and compute one batch; return what each sequence emitted."""
        began = self._clock()
        late, steps = self.scheduler.expire(began), self.scheduler.counters.steps
        refused, self._refused = self._refused, []
        emissions = refused + self._step()
        self._at_hand = None
        ended = self._clock()
        if self.scheduler.counters.steps > steps:
            self.scheduler.counters.busy_seconds += ended - (self._busy_since or began)
        self._busy_since = ended if self.has_work else None
        self.progress = self.scheduler.progress(began)
        return late + emissions

    def _step(self) -> list[Emission]:
        """Compute one batch."""
        flight, self._next = self._next, None
        if flight is None or not flight.batch.is_wanted:
            batch = self.scheduler.schedule()
            if not batch:
                return self._rest()
            if self._suspects and any(span.sequence.handle in self._suspects for span in batch.spans):
                return self._suspicious_step(batch)
            flight = self._launch(batch)
        following = self._launch_ahead(flight.batch)
        self._at_hand = flight.batch
        try:
            results = flight.pending.wait()
        except Exception as error:
            failure = error
        else:
            self._next = following
            return self._take_in(flight.batch, results)
        return self._recover(flight.batch, failure)  # the following one is forgotten: it is planned again

    def _launch(self, batch: Batch) -> Flight:
        """Start computing a batch."""
        self._at_hand = batch
        try:
            return Flight(batch, self.runner.run(batch))
        except Exception as error:
            return Flight(batch, NeverStarted(error))

    def _launch_ahead(self, batch: Batch) -> Flight | None:
        """Overlapped, the device is at work on the next batch while this one's tokens are read and committed.

            schedule   launch n   foresee   launch n+1   wait n   commit n   foresee   launch n+2   wait n+1 …
            device     [-------- n --------][-------------- n+1 --------------][-------------- n+2 -----------

        Only what is certain is launched ahead. Who ends at n is in n+1 all the same, which is passed over.
        """
        if not self.decisions.async_scheduling:
            return None
        following = self.scheduler.foresee(batch)
        return self._launch(following) if following else None

    def _rest(self) -> list[Emission]:
        """There is nothing to compute: wait a little where that is because guides are not ready."""
        if self.guides is not None and self.has_work:
            self.guides.rest()
        return []

    @property
    def has_work(self) -> bool:
        """Whether there are requests: step() computes something for them, or waits for guides."""
        return self.scheduler.has_work or bool(self._refused)

    @property
    def at_hand(self) -> tuple[int, ...]:
        """The handles of the requests that are computed at this moment. Another thread may ask."""
        batch = self._at_hand
        return () if batch is None else handles(batch.spans)

    def improve(self) -> bool:
        """Use an idle moment to become faster, a second at most; False when there is nothing to do."""
        if self.guides is not None:
            self.guides.improve()
        return self.runner.improve()

    def stats(self) -> Stats:
        """How the engine stands."""
        return self.scheduler.stats()

    def close(self) -> None:
        """Give the device back."""
        self.runner.close()
        if self.guides is not None:
            self.guides.close()

    def _recover(self, batch: Batch, error: Exception) -> list[Emission]:
        """Compute a batch that failed in parts, so that whoever made it fail ends alone. DeviceFault if none can be."""
        self.scheduler.counters.failed_steps += 1
        parts = Parts(self.runner, batch)
        results = parts.after(error)
        if all(result.error is None for result in results):  # whoever is blamed was told of already
            logger.warning("A step of %d sequences failed, and in parts it did not.", len(batch.spans), exc_info=error)
        return self._take_in(parts.batch, results)

    def _suspicious_step(self, batch: Batch) -> list[Emission]:
        """Compute those alone by whom an engine may have ended: should this one end too, it is known by whom."""
        self._at_hand = batch
        parts = Parts(self.runner, batch)
        results = parts.apart(self._suspects, self.on_trial)
        drew = {span.sequence.handle for span in batch.spans if span.samples}
        left = {handle: steps - (handle in drew) for handle, steps in self._suspects.items()}
        emissions = self._take_in(parts.batch, results)
        self._suspects = {handle: n for handle, n in left.items() if n and handle in self.scheduler.requests}
        return emissions

    def _take_in(self, batch: Batch, results: list[SpanResult]) -> list[Emission]:
        """Take in what a step computed, but for what is not to be trusted."""
        if self._doubted:
            drawn = {s.sequence for s, result in zip(batch.spans, results, strict=True) if result.token is not None}
            self._doubted -= {sequence for sequence in drawn if sequence.is_running}  # whose last one was no stale one
        if any(result.is_poisoned for result in results):
            self._mend([span.sequence for span, result in zip(batch.spans, results, strict=True) if result.is_poisoned])
        return self.scheduler.commit(batch, results)

    def _mend(self, poisoned: list[Sequence]) -> None:
        """Have those computed anew for whom the model gave no numbers; who was already is left to its error.

        What is no number may come from the cache, wherever it was made: who takes a block from there takes it along.
        """
        poisoned = [sequence for sequence in poisoned if sequence.is_running]
        again = [sequence for sequence in poisoned if sequence not in self._doubted]
        lost = [sequence for sequence in poisoned if sequence in self._doubted]
        self._doubted = {s for s in self._doubted if s.index in self.scheduler.requests.get(s.handle, {})} | {*again}
        bad = {*self.runner.mend(sorted({block.index for sequence in poisoned for block in sequence.blocks}))}
        logger.warning("The model gave no numbers for %d sequences; %d blocks had none.", len(poisoned), len(bad))
        self.scheduler.counters.mended_blocks += len(bad)
        self._count_corrupted({sequence.handle for sequence in poisoned})
        self.scheduler.distrust(bad, spared=lost)
        for sequence in again:
            self.scheduler.compute_anew(sequence)

    def _count_corrupted(self, handles: set[int]) -> None:
        """Count those of these requests that were not counted yet."""
        self.scheduler.counters.corrupted_requests += len(handles - self._corrupted)
        self._corrupted = {handle for handle in self._corrupted | handles if handle in self.scheduler.requests}

    def _refuse(self, submission: Submission, error: Exception) -> None:
        """End a request that could not be taken in; the others go on."""
        logger.error("Request %d could not be taken in.", submission.handle, exc_info=error)
        result, handle = SpanResult.failed(error), submission.handle
        choices = sorted(submission.emitted_ids or range(submission.request.sampling_params.n))
        self.scheduler.counters.finished["error"] += len(choices)
        self._refused += [
            Emission(handle, index, (), finish_reason="error", error=result.error, param=result.param)
            for index in choices
        ]

    def _beam_rules(self, request: GenerateRequest) -> BeamRules | None:
        """How a request searches, if it does."""
        if request.beam_search is None:
            return None
        return BeamRules.of(request.beam_search, request.sampling_params, self.decisions.eos_token_ids)

    def _sequences(self, submission: Submission) -> list[Sequence]:
        """One sequence for each choice; after a restart, for each choice that is to be continued."""
        request = submission.request
        params, rules = applied(request.sampling_params, self._extensions), self._beam_rules(request)
        seed = params.seed if params.seed is not None else submission.seed
        seed = seed if seed is not None else self._seeds.getrandbits(63)
        emitted = submission.emitted_ids or dict.fromkeys(range(params.n), ())
        prompt = request.token_ids
        return [
            Sequence(
                handle=submission.handle,
                index=index,
                tokens=[*prompt, *ids] if ids else prompt,
                prompt_length=len(prompt),
                params=params if rules is None else scoring_params(params, rules),
                seed=seed,
                priority=request.priority,
                terms=submission.terms,
                salt=content_salt(request.cache_salt, submission.rendered.embeds),
                embeds=submission.rendered.embeds,
                guide=self._guide(submission.rendered, params, len(prompt), ids),
                scored=len(prompt) - 1 if ids else submission.scored,  # who emitted a token had told all of them before
            )
            for index, ids in sorted(emitted.items())
        ]

    def _guide(
        self, rendered: Rendered, params: SamplingParams, prompt_length: int, emitted: tuple[int, ...]
    ) -> Guide | None:
        """What holds an answer to its form, if it is to have one."""
        if rendered.constraint is None and rendered.thinking is None:
            return None
        assert self.guides is not None, "check_request() lets none through"
        room = self.scheduler.max_length - prompt_length
        room = room if params.max_tokens is None else min(room, params.max_tokens)
        return self.guides.guide(rendered, params, room=room, emitted=emitted)
