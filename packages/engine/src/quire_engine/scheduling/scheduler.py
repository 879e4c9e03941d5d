"""Who is computed next and on which blocks: the only place that changes sequences. It knows no device and no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from collections.abc import Sequence as Seq

from quire_engine.config import SchedulingPolicy
from quire_engine.kv.digest import extend_chain
from quire_engine.kv.pool import Block, BlockPool
from quire_engine.scheduling.batch import Batch, BlockCopy, Span, SpanResult
from quire_engine.scheduling.beams import BeamGroup, BeamRules
from quire_engine.scheduling.deadlines import Deadlines
from quire_engine.scheduling.fairness import Fair
from quire_engine.scheduling.policy import RANKS, Order, Ranked
from quire_engine.scheduling.search import Move, Moves, Search
from quire_engine.scheduling.stopping import ending, ends_next, is_over, over, room_for
from quire_engine.sequence import Emission, FinishReason, Sequence, TokenLogprobs
from quire_engine.stats import Counters, Stats
from quire_engine.timing import Progress


class Step:
    """A step in the making: what is left of its token budget, and the spans chosen so far."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.spans: list[Span] = []
        self.admitted: list[Sequence] = []
        self.is_short_of_blocks = False
        self.taken: set[Sequence] = set()
        """Those that have a span."""
        self.is_waited_for = False
        """Whether somebody sits it out, who will get on by itself."""

    def take(self, sequence: Sequence) -> None:
        """Compute as much of `sequence` as the budget allows."""
        length = min(sequence.pending, self.budget)
        if length == sequence.pending > 1 and sequence.guide is not None and sequence.guide.is_late:
            length -= 1  # nothing could be drawn yet
        self.spans.append(Span(sequence, sequence.computed, length))
        self.taken.add(sequence)
        self.budget -= length

    def batch(self, copies: Iterable[BlockCopy]) -> Batch:
        """The spans, for good."""
        return Batch(tuple(self.spans), tuple(self.admitted), tuple(copies))


class Scheduler:
    """Chooses the spans of each step and takes their results in.

    A sequence waits, runs, and has ended; it may go back from running to waiting when blocks run out (preemption by
    recomputation: what it computed is forgotten, unless the prefix cache still has it). A running sequence holds
    blocks for all of its tokens, so only a new token can ever be short of one.

    Each step is `schedule()` and then `commit()`. Between the two, `foresee()` may plan the step after it, and
    `distrust()` take blocks out of use. Cursors move in `commit()` alone. Whatever the order of service, the first
    running sequence always gets on, and a sequence that has the pool to itself always fits: no mix of requests can
    bring the engine to a halt.

    A sequence that is held to a form runs like all others. Where it is not known yet what may come next, it sits out
    with its last token; what was drawn too early, or may not stand, is not taken in, and its row is computed again.

    The sequences of a beam search run and wait like all others, with three differences. One whose continuations are
    known stays with nothing to compute until its mates are as far (it is settled); it may give its blocks up meanwhile,
    and then stands in no line. When all are settled, beams move between them. Answers come at the end, all at once.
    """

    def __init__(
        self,
        pool: BlockPool,
        block_size: int,
        max_tokens: int,
        max_running: int,
        *,
        policy: SchedulingPolicy = "fcfs",
        prefix_caching: bool = True,
        max_model_len: int,
        eos_token_ids: Collection[int] = (),
    ) -> None:
        self.pool = pool
        self.block_size = block_size
        self.max_tokens = max_tokens
        self.max_running = max_running
        self.prefix_caching = prefix_caching
        self.max_length = min(max_model_len, len(pool.blocks) * block_size)
        self.eos_token_ids = frozenset(eos_token_ids)
        self.order: Order = Fair() if policy == "fair" else Ranked(RANKS[policy])
        self.waiting = self.order.waiting
        self.running = self.order.running
        self.siblings: dict[int, list[Sequence]] = {}
        """By handle: choices that join the waiting line once their prompt is computed."""
        self.searches: dict[int, Search] = {}
        """By handle: the beam searches among the requests."""
        self.copies: dict[Sequence, BlockCopy] = {}
        """By sequence: what the next step copies for it first. Until that is done, the source is referenced too."""
        self.requests: dict[int, dict[int, Sequence]] = {}
        """By handle and choice: every sequence that has not ended."""
        self.deadlines = Deadlines()
        self.counters = Counters()
        self._arrivals = 0
        self._begun: set[int] = set()
        self._gave_way: Counter[int] = Counter()

    # --- requests come and go -----------------------------------------------------------------------------------------

    def add(self, sequences: Seq[Sequence], rules: BeamRules | None = None) -> None:
        """Take in the choices of one request: the first waits in line, the others for the prompt that it computes.

        With `rules` the sequences are for the beams of a search.
        """
        leader, *siblings = sequences
        assert leader.handle not in self.requests, f"handle {leader.handle} is taken"
        assert all(len(sequence.tokens) < self.max_length for sequence in sequences), (
            "check_request() lets none through"
        )
        for sequence in sequences:
            sequence.arrival = self._arrivals
            self._arrivals += 1
            if not self.prefix_caching:  # a salt that no other request has: only these choices share blocks
                sequence.shares_blocks = bool(siblings)
                sequence.salt = b"alone %d" % leader.arrival
        self.requests[leader.handle] = {sequence.index: sequence for sequence in sequences}
        self.order.enter(leader.terms)
        if leader.terms.deadline is not None:
            self.deadlines.add(leader.handle, leader.terms.deadline)
        if not any(sequence.output_length for sequence in sequences):  # else an engine before this one had counted it
            self.counters.prompt_tokens += leader.prompt_length
        self.waiting.join(leader)
        if rules is not None:
            self.searches[leader.handle] = Search(sequences, BeamGroup(rules, leader.prompt_length, self.max_length))
        elif siblings:
            self.siblings[leader.handle] = siblings

    def abort(self, handle: int, index: int | None = None) -> None:
        """Forget a request, or one choice of it, and free its blocks at once. What has ended already is no error.

        A search has no choices before it is over: it is forgotten as a whole.
        """
        choices = self.requests.get(handle, {})
        if handle in self.searches:
            index = None
        for sequence in [choices[i] for i in tuple(choices) if index in (None, i)]:
            self._end(sequence, "abort")

    def expire(self, now: float) -> list[Emission]:
        """End every request whose deadline has passed by `now`, waiting or running, and say so."""
        late = [each for handle in self.deadlines.passed(now) for each in self.requests[handle].values()]
        for sequence in late:
            self._end(sequence, "timeout")
        return [Emission(s.handle, s.index, (), finish_reason="timeout", cached_tokens=s.cached_tokens) for s in late]

    def progress(self, now: float) -> list[Progress]:
        """Which requests ran for the first time (at `now`) or gave way since this was last asked."""
        told = [
            Progress(handle, now if handle in self._begun else None, self._gave_way[handle])
            for handle in self._begun | self._gave_way.keys()
        ]
        self._begun.clear()
        self._gave_way.clear()
        return told

    @property
    def has_work(self) -> bool:
        """Whether there are requests. schedule() finds something to compute, unless all sit out."""
        return bool(self.requests)

    def stats(self) -> Stats:
        """How things stand, and what was counted so far."""
        counters = self.counters
        return Stats(
            running=len(self.running),
            waiting=len(self.waiting) + sum(map(len, self.siblings.values())),
            kv_usage=self.pool.usage,
            prefix_cache_queries=counters.prefix_cache_queries,
            prefix_cache_hits=counters.prefix_cache_hits,
            preemptions=counters.preemptions,
            prompt_tokens=counters.prompt_tokens,
            generation_tokens=counters.generation_tokens,
            finished=dict(counters.finished),
            steps=counters.steps,
            busy_seconds=counters.busy_seconds,
            computed_tokens=counters.computed_tokens,
            failed_steps=counters.failed_steps,
            mended_blocks=counters.mended_blocks,
            corrupted_requests=counters.corrupted_requests,
        )

    # --- a step is planned --------------------------------------------------------------------------------------------

    def schedule(self) -> Batch:
        """Spend this step's token budget: running sequences first, then the waiting line."""
        step = Step(self.max_tokens)
        self._make_way()
        for sequence in self.order.in_turn():  # some of them may have to give way meanwhile
            while sequence.pending > 1 and self.waiting and self.order.precedes(self.waiting.first, sequence):
                if not self._admit(self.waiting.first, step):
                    break
            if sequence.is_running:
                self._extend(sequence, step)
        while self.waiting and (self._admit(self.waiting.first, step) or self._relieve(self.waiting.first, step)):
            pass
        while self.waiting and not step.spans and not step.is_waited_for:
            # who runs is settled, and waits for somebody in line
            if self.running:
                self._preempt(self.order.yielding(()))
            step.is_short_of_blocks = False
            self._admit(self.waiting.first, step)
        return step.batch(self.copies.values())

    def distrust(self, blocks: Collection[int], spared: Collection[Sequence] = ()) -> None:
        """Let blocks (by number) be found by nobody; who runs on one is computed anew, but for those `spared`."""
        self.pool.unpublish(self.pool.blocks[index] for index in blocks)
        for sequence in tuple(self.running):
            if sequence not in spared and any(block.index in blocks for block in sequence.blocks):
                self._preempt(sequence)

    def compute_anew(self, sequence: Sequence) -> None:
        """Let a running sequence begin again, on what is published by others at most."""
        if sequence.is_running:
            self._preempt(sequence)

    def foresee(self, batch: Batch) -> Batch:
        """The batch after `batch`, whose tokens are still being drawn: one token more for each that goes on.

        Empty unless that is what schedule() would give then: nothing but the tokens is missing, nobody is to be let in
        or must give way, and nobody needs the tokens themselves before that. Who ends by its very next token
        is carried along in vain, and commit() passes over it. Like schedule(), it reserves blocks.
        """
        sequences = [span.sequence for span in batch.spans if span.sequence.is_running]
        if not all(span.samples for span in batch.spans) or not self._only_go_on(sequences):
            return Batch(())
        going_on = [sequence for sequence in sequences if not ends_next(sequence, self.max_length)]
        if len(going_on) < len(sequences) and self.waiting:  # a seat becomes free
            return Batch(())
        missing = [-(-(len(s.tokens) + 1) // self.block_size) - len(s.blocks) for s in going_on]
        if sum(missing) > self.pool.num_free:
            return Batch(())
        for sequence, count in zip(going_on, missing, strict=True):
            if count:
                sequence.blocks += self.pool.take(count)
        return Batch(tuple(Span(sequence, len(sequence.tokens), 1, ahead=True) for sequence in going_on))

    def _only_go_on(self, sequences: list[Sequence]) -> bool:
        """Whether these are all that run, and nothing is to be decided but what comes next in each."""
        if len(sequences) < len(self.running) or self.searches or self.copies:
            return False
        if any(s.handle in self.siblings or s.processors is not None or s.guide is not None for s in sequences):
            return False
        return not any(self._fits((each,), ()) or self.order.may_displace(each) for each in self.order.heads())

    def _extend(self, sequence: Sequence, step: Step) -> None:
        """Give a running sequence its share of the step, if anything is left to share."""
        if step.budget == 0 or sequence.pending == 0:  # settled
            return
        if sequence.sits_out:  # asked once in a step: a guide may become ready meanwhile
            step.is_waited_for = True
            return
        while not self._reserve(sequence):
            step.is_short_of_blocks = True
            victim = self.order.yielding(step.taken)
            self._preempt(victim)
            if victim is sequence:
                return
        step.take(sequence)

    def _reserve(self, sequence: Sequence) -> bool:
        """See to it that a running sequence has blocks for all of its tokens; False if too few are free."""
        missing = self._blocks_for(sequence) - len(sequence.blocks)
        if missing > self.pool.num_free:
            return False
        if missing:
            sequence.blocks += self.pool.take(missing)
        return True

    def _admit(self, sequence: Sequence, step: Step) -> bool:
        """Let the first in line run: on the cached blocks of its prefix, and on fresh ones for all the rest.

        Not in a step that had to preempt: who has just given way would be the first to come back.
        """
        if step.budget == 0 or step.is_short_of_blocks or len(self.running) == self.max_running:
            return False
        prefix = self._cached_prefix(sequence)
        fresh = self._blocks_for(sequence) - len(prefix)
        if not self.pool.fits(prefix, fresh):
            return False
        if sequence.is_scoring and sequence.preemptions == 0:  # asked before take(), which evicts
            sequence.bypassed_tokens = self.block_size * len(self._published_prefix(sequence))
        sequence.tokens = sequence.tokens.copy()  # so that thousands of waiting choices need not hold the prompt each
        self.pool.share(prefix)
        sequence.blocks = prefix + self.pool.take(fresh)
        sequence.computed = len(prefix) * self.block_size
        if sequence.preemptions == 0:
            sequence.cached_tokens = min(sequence.computed, sequence.prompt_length)
        self.waiting.leave(sequence)
        self.running.join(sequence)
        sequence.is_running = True
        if sequence.preemptions == 0:
            self._begun.add(sequence.handle)
            self.order.began(sequence)
        self.order.lost(max(sequence.given_up - sequence.computed, 0))
        sequence.given_up = 0
        step.admitted.append(sequence)
        if sequence.guide is not None:
            sequence.guide.begin()
        step.take(sequence)
        return True

    def _relieve(self, sequence: Sequence, step: Step) -> bool:
        """Let a settled mate give its place to the first in line, which it waits for; False if none is left to ask."""
        search = self.searches.get(sequence.handle)
        if search is None or step.budget == 0 or step.is_short_of_blocks:
            return False
        mate = next((each for each in reversed(search.live) if each.is_running and each.pending == 0), None)
        if mate is not None:
            self._preempt(mate)
        return mate is not None

    def _make_way(self) -> None:
        """Let those who are next in line take the places of running sequences, as the order of service has it."""
        if self.waiting and self.running:
            for sequence in self.order.displaced(self._fits, self.max_tokens):
                sequence.given_up = sequence.computed
                self._preempt(sequence)

    def _fits(self, newcomers: Seq[Sequence], gone: Collection[Sequence]) -> bool:
        """Whether sequences in line could run together, once some of those that run have given way."""
        if len(self.running) - len(gone) + len(newcomers) > self.max_running:
            return False
        prefixes = [self._cached_prefix(sequence) for sequence in newcomers]
        kept = {block for prefix in prefixes for block in prefix}
        fresh = sum(self._blocks_for(s) - len(prefix) for s, prefix in zip(newcomers, prefixes, strict=True))
        released = Counter(block for sequence in gone for block in sequence.blocks if block not in kept)
        free = self.pool.num_free + sum(block.refs == count for block, count in released.items())
        return fresh <= free - sum(block.refs == 0 for block in kept)

    def _preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's blocks away; it waits in its old place to be computed again."""
        self._suspend(sequence)
        sequence.preemptions += 1
        self.counters.preemptions += 1
        self._gave_way[sequence.handle] += 1

    def _suspend(self, sequence: Sequence) -> None:
        is_settled = sequence.pending == 0
        self._stop_running(sequence)
        if not is_settled:
            self.waiting.join(sequence)

    def _stop_running(self, sequence: Sequence) -> None:
        self.running.leave(sequence)
        self._forget_copy(sequence)
        sequence.is_running = False
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0

    def _blocks_for(self, sequence: Sequence) -> int:
        """Blocks that hold all of its tokens."""
        return -(-len(sequence.tokens) // self.block_size)

    def _cached_prefix(self, sequence: Sequence) -> list[Block]:
        """What a sequence takes from the cache: all that is there, but nothing while its prompt is being scored.

        Then each of its rows is needed, and what the cache has of it is bypassed; its own blocks are published.
        """
        return [] if sequence.is_scoring else self._published_prefix(sequence)

    def _published_prefix(self, sequence: Sequence) -> list[Block]:
        """The longest run of published blocks that a sequence begins with, short of its last token.

        The last token is always computed: its logits are what the next one is drawn from.
        """
        if not sequence.shares_blocks:
            return []
        full = (len(sequence.tokens) - 1) // self.block_size
        extend_chain(sequence.chain, sequence.tokens, full, self.block_size, sequence.salt)
        return self.pool.find(sequence.chain[:full])

    # --- a step is taken in -------------------------------------------------------------------------------------------

    def commit(self, batch: Batch, results: Seq[SpanResult]) -> list[Emission]:
        """Take in what a step computed: cursors advance, full blocks are published, stops are decided."""
        self._count_lookups(batch)
        self.counters.steps += 1
        self.counters.computed_tokens += batch.tokens
        self.order.computed(batch.tokens)
        for sequence in tuple(self.copies):
            self._forget_copy(sequence)
        emissions: list[Emission] = []
        for span, result in zip(batch.spans, results, strict=True):
            if not span.sequence.is_running:  # aborted while its step was computed
                continue
            if result.error is not None:  # what the span left in its blocks is not to be trusted: publish nothing
                emissions += self._fail(span.sequence, result.error, result.param)
                continue
            tokens = self._taken(span, result)
            self._advance(span if tokens or not span.samples else span.but_last)
            scores = self._new_scores(span, result.prompt_logprobs)
            if span.samples and span.sequence.handle in self.searches:
                emissions += self._settle(span.sequence, result, scores)
            elif tokens or (span.samples and is_over(span.sequence)):
                emissions.append(self._append(span.sequence, tokens, result, scores))
            elif scores:
                emissions.append(self._report(span.sequence, scores))
        return emissions

    def _taken(self, span: Span, result: SpanResult) -> Seq[int]:
        """The tokens by which a sequence goes on: the drawn one, or what its guide makes of that."""
        sequence = span.sequence
        if not span.samples or result.token is None:
            return ()
        if sequence.guide is None:
            return (result.token,)
        return sequence.guide.take(result.token, room_for(sequence, self.max_length))

    def _count_lookups(self, batch: Batch) -> None:
        """Count what each sequence found in the prefix cache, when it first runs."""
        for sequence in batch.admitted:
            if sequence.shares_blocks and sequence.preemptions == 0 and not sequence.output_length:
                self.counters.prefix_cache_queries += sequence.prompt_length
                self.counters.prefix_cache_hits += sequence.cached_tokens

    def _advance(self, span: Span) -> None:
        """Move the cursor past a span, publish the blocks that it filled, and call the siblings after the prompt."""
        sequence = span.sequence
        sequence.computed = span.stop
        filled = span.stop // self.block_size
        if sequence.shares_blocks and filled > span.start // self.block_size:
            extend_chain(sequence.chain, sequence.tokens, filled, self.block_size, sequence.salt)
            for index in range(span.start // self.block_size, filled):
                self.pool.publish(sequence.blocks[index], sequence.chain[index])
        if span.stop >= sequence.prompt_length:
            for sibling in self.siblings.pop(sequence.handle, ()):
                self.waiting.join(sibling)

    def _new_scores(self, span: Span, scores: tuple[TokenLogprobs, ...]) -> tuple[TokenLogprobs, ...]:
        """Those of a span's prompt scores that were not told before: after a preemption its rows come again."""
        if not scores:
            return ()
        sequence = span.sequence
        told, sequence.scored = sequence.scored, max(sequence.scored, span.start + len(scores))
        return scores[max(0, told - span.start) :]

    def _append(
        self, sequence: Sequence, tokens: Seq[int], result: SpanResult, scores: tuple[TokenLogprobs, ...]
    ) -> Emission:
        """Append tokens up to the one that ends the sequence, if one does; and end it if nothing may follow them."""
        ended, count = None, 0
        while ended is None and count < len(tokens):
            sequence.tokens.append(tokens[count])
            ended, count = ending(sequence, self.eos_token_ids, self.max_length), count + 1
        ends_early = ended is not None and (ended.reason != "length" or count < len(tokens))
        is_complete = is_over(sequence) and not ends_early
        ended = over(sequence) if is_complete else ended
        self.counters.generation_tokens += count
        self.order.drew(sequence, count)
        if ended is not None:
            self._end(sequence, ended.reason)
        return Emission(
            sequence.handle,
            sequence.index,
            tuple(tokens[:count]),
            logprobs=(result.logprobs,) if result.logprobs and count else (),
            prompt_logprobs=scores,
            finish_reason=ended.reason if ended else None,
            stop_reason=ended.stop_token if ended else None,
            cached_tokens=sequence.cached_tokens,
            bypassed_tokens=sequence.bypassed_tokens,
            is_complete=is_complete,
        )

    # --- beams --------------------------------------------------------------------------------------------------------

    def _settle(self, sequence: Sequence, result: SpanResult, scores: tuple[TokenLogprobs, ...]) -> list[Emission]:
        """Take in what may follow in a sequence of a search; the search goes on when it was the last one missing."""
        assert result.logprobs is not None, "a search asks for the likeliest continuations"
        search = self.searches[sequence.handle]
        told = [self._report(sequence, scores)] if scores else []
        if not search.settle(sequence, result.logprobs):
            return told
        moves = search.advance()
        self.counters.generation_tokens += len(search.live)
        self.order.drew(sequence, len(search.live))
        if search.is_over:
            return told + self._conclude(search)
        self._carry_out(moves)
        return told

    def _carry_out(self, moves: Moves) -> None:
        """Let the sequences of a search hold its next beams."""
        for sequence in moves.vacated:
            if sequence.is_running:
                self._stop_running(sequence)
        for move in moves.forks:
            self._fork(move)
        for sequence, _, token in moves.stays:
            sequence.tokens.append(token)
            if not sequence.is_running:
                self.waiting.join(sequence)

    def _fork(self, move: Move) -> None:
        """Continue in one sequence what another one holds: on the same blocks if there is room, else by recomputing."""
        source, target, token = move
        target.tokens = [*source.tokens, token]
        target.chain = source.chain.copy()
        target.cached_tokens = source.cached_tokens
        if not self._share_blocks(source, target):
            target.preemptions += 1
            self.counters.preemptions += 1
            self.waiting.join(target)

    def _share_blocks(self, source: Sequence, target: Sequence) -> bool:
        """Let a sequence run on another one's blocks, of which a partly filled one is copied; False without room."""
        full, rest = divmod(source.computed, self.block_size)
        if not source.is_running or len(self.running) == self.max_running or (rest and self.pool.num_free == 0):
            return False
        target.blocks = source.blocks[:full]
        self.pool.share(target.blocks)
        if rest:
            self.pool.share(source.blocks[full:])
            target.blocks += self.pool.take(1)
            self.copies[target] = BlockCopy(source.blocks[full].index, target.blocks[full].index)
        target.computed = source.computed
        target.is_running = True
        self.running.join(target)
        return True

    def _forget_copy(self, sequence: Sequence) -> None:
        """Let go of the block that was to be copied for a sequence, if there is one."""
        copy = self.copies.pop(sequence, None)
        if copy is not None:
            self.pool.release([self.pool.blocks[copy.source]])

    def _conclude(self, search: Search) -> list[Emission]:
        """Give the answers of a search that is over, one to each of its sequences."""
        emissions = []
        for sequence, (beam, _, ended) in zip(search.sequences, search.answers(), strict=True):
            answer = beam.answer()
            self._end(sequence, ended.reason)
            emissions.append(
                Emission(
                    sequence.handle,
                    sequence.index,
                    tuple(token.token_id for token in answer),
                    logprobs=answer if search.reports_logprobs else (),
                    finish_reason=ended.reason,
                    stop_reason=ended.stop_token,
                    cached_tokens=search.sequences[0].cached_tokens,
                    bypassed_tokens=search.sequences[0].bypassed_tokens,
                )
            )
        return emissions

    # --- endings ------------------------------------------------------------------------------------------------------

    def _report(self, sequence: Sequence, scores: tuple[TokenLogprobs, ...]) -> Emission:
        cached = sequence.cached_tokens
        return Emission(sequence.handle, sequence.index, (), prompt_logprobs=scores, cached_tokens=cached)

    def _fail(self, sequence: Sequence, error: str, param: str | None = None) -> list[Emission]:
        """End a sequence, or the search that it is part of, unless that has failed already."""
        choices = self.requests.get(sequence.handle, {})
        failed = [*choices.values()] if sequence.handle in self.searches else [sequence] if choices else []
        for each in failed:
            self._end(each, "error")
        return [
            Emission(
                s.handle, s.index, (), finish_reason="error", cached_tokens=s.cached_tokens, error=error, param=param
            )
            for s in failed
        ]

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        """Forget a sequence wherever it stands, and free what it holds."""
        self.counters.finished[reason] += 1
        choices = self.requests[sequence.handle]
        del choices[sequence.index]
        if not choices:
            del self.requests[sequence.handle]
            self.deadlines.discard(sequence.handle)
            self.order.leave(sequence.terms)
            self.searches.pop(sequence.handle, None)
        siblings = self.siblings.get(sequence.handle, [])
        if sequence in siblings:
            siblings.remove(sequence)
        else:
            if sequence.is_running:
                self._stop_running(sequence)
            elif sequence in self.waiting:  # the sequences of a search may stand in no line
                self.waiting.leave(sequence)
            if siblings:  # somebody still has to compute the prompt
                self.waiting.join(siblings.pop(0))
        if not siblings:
            self.siblings.pop(sequence.handle, None)
