"""What an engine was told and has answered, so that another one can go on from there. It knows no process and no clock.

A request that is resumed is its submission and the ids that each unfinished choice has given. All else follows from
these: penalties, limits, forms and seeded draws are functions of a sequence's tokens. Tokens that were drawn and not
told are drawn again, and are the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from operator import attrgetter
from random import Random

from msgspec.structs import replace

from quire_engine.link.frames import Abort, Add, Command, Report, ResetPrefixCache
from quire_engine.sequence import Emission, FinishReason, Submission
from quire_engine.stats import Stats

TOGETHER = 16
"""Reports that are entered together, request by request: they come faster than caches remember all requests."""


@dataclass(slots=True)
class Given:
    """What one unfinished choice has given."""

    token_ids: list[int]
    cached: tuple[int, int] | None = None
    """Prompt tokens taken from the prefix cache and bypassed there, as its first token told them."""


class Request:
    """One request that is being answered."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.choices = {index: Given([]) for index in range(submission.request.sampling_params.n)}
        """Those that have not finished."""
        self.scored = 0
        """Prompt positions whose log-probabilities were told."""
        self.has_run = False
        """Whether the engine of the day has told that it computes it."""
        self.deaths = 0
        """Engines that ended by themselves while they may have computed it."""
        self.is_suspect = False
        """Whether one may have ended by it."""

    def enter(self, emission: Emission) -> None:
        """Note what a choice gave."""
        given = self.choices.get(emission.index)
        if given is None:  # aborted meanwhile
            return
        self.has_run = True
        self.scored += len(emission.prompt_logprobs)
        given.token_ids += emission.token_ids
        if given.cached is None and emission.token_ids:
            given.cached = (emission.cached_tokens, emission.bypassed_tokens)
        if emission.finish_reason is not None:
            del self.choices[emission.index]

    @property
    def deadline(self) -> float:
        """When it ends unanswered."""
        deadline = self.submission.terms.deadline
        return inf if deadline is None else deadline

    def resumed(self) -> Submission:
        """What another engine is told, to go on with the choices that have not finished."""
        emitted = {index: tuple(given.token_ids) for index, given in self.choices.items()}
        return replace(self.submission, emitted_ids=emitted, scored=self.scored, is_suspect=self.is_suspect)


class Journal:
    """Follows the commands to an engine and its reports; says what the next engine is to be told.

    It draws the seeds of requests that bring none, in the order in which an engine would have drawn them: whoever goes
    on with a request goes on with its seed.
    """

    def __init__(self, seed: int, *, seats: int) -> None:
        """`seats` is how many sequences an engine computes at a time."""
        self._seeds = Random(seed)
        self._seats = seats
        self._requests: dict[int, Request] = {}
        """By handle, in the order in which they came."""
        self._resets = 0
        """Times the prefix cache is still to be reset."""
        self._before = Stats()
        """What the engines before this one had counted."""
        self._latest = Stats()
        """How things stood when last told."""
        self._unread: list[Report] = []
        """What was told, and is not entered yet."""
        self._has_predecessor = False
        """Whether the engine of the day has taken another's place."""
        self._cached: dict[tuple[int, int], tuple[int, int]] = {}
        """By handle and choice, of those that an engine before this one had begun: `Given.cached`."""

    def note(self, command: Command) -> Command:
        """Take in a command; gives the one to send."""
        match command:
            case Add(submission):
                return Add(self._follow(submission))
            case Abort(handle, index):
                self._drop(handle, index)
            case ResetPrefixCache():
                self._resets += 1
        return command

    def hear(self, report: Report) -> Report:
        """Take in a report; gives what to pass on."""
        self._unread.append(report)
        if len(self._unread) == TOGETHER:
            self._enter_reports()
        self._resets -= report.resets
        if self._has_predecessor:
            emissions = [self._as_ever(emission) for emission in report.emissions]
            report = replace(report, emissions=emissions, stats=report.stats.after(self._before))
        self._latest = report.stats
        return report

    def broken_off(self, suspects: Sequence[int] | None = None) -> Report:
        """The engine has ended: everybody waits from now on, and nothing is cached any more.

        If it ended by itself, `suspects` are the handles of those by whom it may have, none if it could not say. They
        are computed alone by the next one, as is whoever may have been computed when two engines ended. If an engine
        ends while it computes a suspect alone, it is clear by whom: that request ends, with the error that the report
        has.
        """
        self._enter_reports()
        resets, self._resets = self._resets, 0
        self._before = self._latest
        self._has_predecessor = True
        self._cached = {
            (handle, index): given.cached
            for handle, request in self._requests.items()
            for index, given in request.choices.items()
            if given.cached is not None
        }
        ended = [] if suspects is None else self._judge(suspects)
        for request in self._requests.values():
            request.has_run = False
        return replace(self._without_engine(ended, "error", len(ended)), resets=resets)

    def _judge(self, suspects: Sequence[int]) -> list[Emission]:
        """Note by whom an engine may have ended; end the one of whom that is clear."""
        known = [handle for handle in suspects if handle in self._requests]
        if len(suspects) == 1 and known and self._requests[known[0]].is_suspect:
            return self._convicted(known[0])
        at_hand = self._at_hand()
        for handle, request in self._requests.items():
            request.deaths += handle in at_hand
            request.is_suspect = handle in known or (not known and handle in at_hand and request.deaths > 1)
        return []

    def _at_hand(self) -> set[int]:
        """Whom the engine that has ended may have computed: who had run, and the first of each tenant's line.

        Which of the lines it went on with is not known, as it told nothing of the step that was its last.
        """
        ran = {handle for handle, request in self._requests.items() if request.has_run}
        lines: defaultdict[str, list[int]] = defaultdict(list)
        for handle, request in sorted(self._requests.items(), key=lambda item: item[1].submission.request.priority):
            if handle not in ran:
                lines[request.submission.terms.tenant].append(handle)
        return ran.union(*(line[: self._seats] for line in lines.values()))

    def _convicted(self, handle: int) -> list[Emission]:
        """End the request by which engines end."""
        error = "The engine ended while it computed this request, and again when it computed it alone; see the log."
        return [Emission(handle, index, (), finish_reason="error", error=error) for index in self._drop(handle)]

    def resume(self) -> Iterator[Add]:
        """What a new engine is told first: every request that is being answered, the oldest first."""
        for request in self._requests.values():
            yield Add(request.resumed())

    def refused(self, handle: int, error: Exception) -> Report:
        """End a request that a new engine could not be told."""
        words = f"The request cannot be passed on to the engine: {error}."
        ended = [Emission(handle, index, (), finish_reason="error", error=words) for index in self._drop(handle)]
        return self._without_engine(ended, "error", len(ended))

    def overdue(self, now: float) -> Report:
        """End the requests whose deadlines have passed, while there is no engine that would."""
        late = [handle for handle, request in self._requests.items() if request.deadline <= now]
        ended = [
            Emission(handle, index, (), finish_reason="timeout") for handle in late for index in self._drop(handle)
        ]
        return self._without_engine(ended, "timeout", len(ended))

    def note_without_engine(self, command: Command) -> Report:
        """Take in a command while there is no engine; gives what comes of it at once."""
        match command:
            case Abort(handle, index):
                return self._without_engine([], "abort", len(self._drop(handle, index)))
            case ResetPrefixCache():
                return self._standing([], resets=1)
        self.note(command)  # the next engine is told
        return self._standing([])

    @property
    def next_deadline(self) -> float:
        """When the next request is late; infinity if none has a deadline."""
        return min((request.deadline for request in self._requests.values()), default=inf)

    def _without_engine(self, emissions: list[Emission], reason: FinishReason, count: int) -> Report:
        """What ended while there is no engine, counted as one would have."""
        if count:
            finished = {**self._before.finished, reason: self._before.finished.get(reason, 0) + count}
            self._before = replace(self._before, finished=finished)
        return self._standing(emissions)

    def _standing(self, emissions: list[Emission], resets: int = 0) -> Report:
        """How things stand while there is no engine: everybody waits."""
        waiting = sum(len(request.choices) for request in self._requests.values())
        self._latest = Stats(waiting=waiting).after(self._before)
        return Report(emissions, self._latest, resets=resets)

    def _follow(self, submission: Submission) -> Submission:
        """Begin to follow a request, which gets a seed if it brings none."""
        if submission.request.sampling_params.seed is None and submission.seed is None:
            submission = replace(submission, seed=self._seeds.getrandbits(63))
        self._requests[submission.handle] = Request(submission)
        return submission

    def _enter_reports(self) -> None:
        """Note what was told, request by request."""
        for report in self._unread:
            for progress in report.progress:
                if progress.handle in self._requests:
                    self._requests[progress.handle].has_run = True
        for emission in sorted(chain.from_iterable(report.emissions for report in self._unread), key=_handle):
            request = self._requests.get(emission.handle)
            if request is None:  # aborted meanwhile
                continue
            request.enter(emission)
            if not request.choices:
                del self._requests[emission.handle]
        self._unread.clear()

    def _as_ever(self, emission: Emission) -> Emission:
        """What a choice gave, as if the engine had always been the same."""
        cached = self._cached.get((emission.handle, emission.index))
        if cached is None or cached == (emission.cached_tokens, emission.bypassed_tokens):
            return emission
        return replace(emission, cached_tokens=cached[0], bypassed_tokens=cached[1])

    def _drop(self, handle: int, index: int | None = None) -> list[int]:
        """Follow a request, or one choice of it, no more; the choices that had not finished."""
        request = self._requests.get(handle)
        if request is None:
            return []
        dropped = [each for each in request.choices if index in (None, each)]
        for each in dropped:
            del request.choices[each]
        if not request.choices:
            del self._requests[handle]
        return dropped


_handle = attrgetter("handle")
