"""One answer held to its form: which tokens may come next, which must, and whether anything may. It knows no batch.

A guide is asked by the engine's thread and works in others: there it finds what may come next, and near the longest
length of its answer whether a drawn token leaves a way out. Whoever asks too early is told so, and draws again: mostly
the same token, as a draw depends on nothing but the place. (Other rows beside it may change the last bits of a logit.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic
from typing import TypeAlias

import numpy as np

from quire_engine.constraint import Constraint
from quire_engine.errors import RequestError
from quire_engine.guidance.form import Grammar, Mask, Place
from quire_engine.guidance.thinking import ThinkingBudget

Job: TypeAlias = Callable[[], None]

PATIENCE = 0.001
"""Seconds that a drawn token waits for a way out to be found before its row is computed again."""
LONG = 0.01
"""Seconds that work takes of which more of the kind is not waited for: the others' rows would wait too."""
LENGTHY = 512
"""Tokens that one choice may bring about which are too many to be found in the engine's thread."""
SLOPE = 32
"""Tokens by which one token is taken to make the way out longer, beside what the grammar says that one choice opens;
until one was seen to do worse."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What one answer is held to, and how."""

    constraint: Constraint | None
    thinking: ThinkingBudget | None
    """At the answer's beginning."""
    room: int
    """Tokens that the answer may have."""
    size: int
    """Tokens of the vocabulary."""
    one_by_one: bool = False
    """Whether every token is to be drawn, also those that must come: each has a log-probability."""
    forces: bool = True
    """Whether what must come next is written without asking the model."""


@dataclass(frozen=True, slots=True)
class Move:
    """How an answer goes on by a token, and what comes with it."""

    tokens: list[int]
    """None where it ends before the token."""
    place: Place | None
    thinking: ThinkingBudget | None
    distance: int | None = None
    """Tokens of the way out from there, where it was looked for."""


class AnswerGuide:
    """The form of one answer; `quire_engine.constraint.Guide` says what it offers to those who plan and draw."""

    def __init__(
        self, demands: Demands, grammar: Future[Grammar] | None, emitted: Sequence[int], put: Callable[[Job], None]
    ) -> None:
        """`emitted` tokens are there already; `put` hands over work, which is done elsewhere."""
        self._demands = demands
        self._grammar = grammar
        self._emitted = emitted
        self._put = put
        self._thinking = copy(demands.thinking)
        self._place: Place | None = None
        self._closes = False
        self._certain_to = 0
        """Room down to which there is surely a way out, without another look."""
        self._slope = SLOPE
        self._distance = 0
        """Tokens of the way out where it was last looked for."""
        self._looked_at = 0
        """And the room that there was."""
        self._due: deque[int] = deque()
        """Tokens that must come, that the place is past already, and that are still to be drawn."""
        self._looked: tuple[int, Move | None] | None = None
        """A token, and what looking came to: how the answer goes on when it is drawn."""
        self._is_over = False
        self._is_cut = False
        self._mask: Mask | None = None
        self.failure: RequestError | None = None
        """Why nothing more can come."""
        self._is_slow = True
        """Whether what is done now takes longer than others can wait."""
        self._seconds = 0.0
        """For how long the last work was waited for, from when it was handed over."""
        self._has_begun = False
        self._is_lengthy = False
        """Whether what a token brings about may be too much to be found in the engine's thread."""
        self._busy = Lock()
        """Held while something is done elsewhere."""
        self._busy.acquire()  # until it has begun

    # --- what the engine's thread asks --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Find out what may come first, as soon as the grammar is ready; once."""
        if self._has_begun:
            return
        self._has_begun = True
        self._is_slow = self._grammar is not None and not self._grammar.done()

        if self._grammar is None:
            self._take_stand()
        else:
            self._grammar.add_done_callback(self._take_stand)

    @property
    def is_late(self) -> bool:
        """Whether it is not known yet what may come next, and that was waited for in vain."""
        return self._is_slow and self._busy.locked()

    def wait(self, seconds: float) -> bool:
        """Whether it is known what may come next, after waiting for it that long at most."""
        self._is_slow = not self._busy.acquire(timeout=max(0.0, seconds))
        if not self._is_slow:
            self._busy.release()
        return not self._is_slow

    @property
    def mask(self) -> Mask | None:
        """What may come next; None if anything may. Only while it is ready."""
        return self._mask

    @property
    def param(self) -> str | None:
        """The request's field that asked for the form."""
        return self._demands.constraint.param if self._demands.constraint else None

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow the tokens that were taken."""
        return self._is_over

    @property
    def is_cut(self) -> bool:
        """Whether that is so only because there is no room for what the answer would have gone on with."""
        return self._is_cut

    def take(self, token: int, room: int) -> Sequence[int]:
        """The tokens by which the answer goes on, now that this one was drawn, of at most `room`.

        None at all if it cannot be said yet, or if another one must come: then draw again. Nor where the answer ends
        before it. Whatever goes wrong is this answer's failure.
        """
        if self._busy.locked() or self.failure is not None:
            return ()
        try:
            return self._take(token, room)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library's panics are no Exceptions
            self._fail_by(error)
            return ()

    def _take(self, token: int, room: int) -> Sequence[int]:
        if self._due:
            assert token == self._due[0], "what must come was all that might be drawn"
            self._due.popleft()
            return self._taken([token])
        move = self._move(token, room)
        if move is None:
            return ()
        tokens = self._go(move, room)
        if not tokens:
            self._is_over = self._is_cut = True
            return ()
        if self._demands.one_by_one:
            drawn = 1 if tokens[0] == token else 0
            self._due.extend(tokens[drawn:])
            tokens = tokens[:drawn]
        return self._taken(tokens)

    def _taken(self, tokens: list[int]) -> list[int]:
        """The same; what may come after them is found meanwhile."""
        if self._due or self._place is None:
            self._prepare()
            return tokens
        self._is_over = self._place.is_over
        if not self._is_over:
            self._start(self._prepare)
        return tokens

    def _move(self, token: int, room: int) -> Move | None:
        """How the answer goes on by this token, or by another one that has to be there instead; None: not yet."""
        if self._looked is None or self._looked[0] != token:
            move = None if self._is_lengthy else self._following(token, room)
            if self.failure is not None or (move is not None and self._is_certain(move, room)):
                return move
            self._looked = None
            self._start(lambda: self._look(token, move, room))
            if not self.wait(PATIENCE):
                return None
        (_, found), self._looked = self._looked or (token, None), None  # nothing was found by who failed
        return found

    def _is_certain(self, move: Move, room: int) -> bool:
        """Whether there surely is a way out from where it leads, or none is wanted."""
        return not self._closes or room - len(move.tokens) >= self._certain_to

    # --- what is done elsewhere ---------------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        self._busy.acquire()
        self._is_slow = self._seconds > LONG
        began = monotonic()
        self._put(lambda: self._work(job, began))

    def _take_stand(self, _: object = None) -> None:
        """Have the place found where the answer begins, now that there is a grammar, if there is to be one."""
        began = monotonic()
        self._put(lambda: self._work(self._stand, began))

    def _work(self, job: Job, began: float) -> None:
        """Do what was handed over then; what goes wrong ends this answer alone."""
        try:
            job()
        except RequestError as failure:
            self.failure = failure
        except BaseException as error:  # whatever the library raises, panics too: the others' answers go on
            self._fail_by(error)
        finally:
            self._seconds = monotonic() - began
            self._busy.release()

    def _fail(self, reason: str) -> None:
        self.failure = RequestError(f"The answer could not be held to its form: {reason}", param=self.param)

    def _fail_by(self, error: BaseException) -> None:
        self._fail(f"{type(error).__name__}: {error}")

    def _stand(self) -> None:
        """Stand where the answer begins, or where it was when it was broken off."""
        constraint, emitted = self._demands.constraint, self._emitted
        if self._grammar is not None and constraint is not None:
            grammar = self._grammar.result()
            self._place = Place(grammar)
            self._closes = constraint.closes and grammar.way_out is not None
            self._slope = SLOPE + grammar.opening
            self._is_lengthy = self._demands.forces and grammar.opening > LENGTHY
            if not self._place.read(emitted):
                raise ValueError("what was emitted before is not of it")
        if self._thinking is not None:
            self._thinking.hear(emitted)
        if self._closes:
            self._foresee_end(self._demands.room - len(emitted))
        if self._thinking is not None and self._thinking.is_spent:
            self._due.extend(self._ended_thinking(self._place, self._thinking))
        self._prepare()

    def _foresee_end(self, room: int) -> None:
        """See whether there is a way out before the answer is begun."""
        assert self._place is not None, "only a grammar is closed"
        way_out = self._place.shortest_way_out(room)
        if way_out is None:
            self._closes = False
        elif len(way_out) > room:
            raise RequestError(
                f"The answer may have {room} tokens, but in the form that {self.param} asks for it has at least "
                f"{len(way_out)}: raise max_tokens, shorten the prompt, or ask for less.",
                param="max_tokens",
            )
        else:
            self._settle(len(way_out), room)

    def _prepare(self) -> None:
        """Find what may come next."""
        if self._due:
            self._mask = np.zeros(self._demands.size // 32 + 1, dtype=np.uint32)
            self._mask[self._due[0] // 32] = 1 << self._due[0] % 32
        elif self._place is None:
            self._mask = None
        else:
            self._mask = self._place.mask()
            if (problem := self._place.problem) is not None:
                self._fail(problem)

    def _look(self, token: int, move: Move | None, room: int) -> None:
        """See how it goes on by a token, and whether that leaves a way out; find what has to come instead if not."""
        move = move or self._following(token, room)
        is_certain = move is None or self._is_certain(move, room)
        self._looked = token, move if move is None or is_certain else self._closable(token, move, room)

    def _closable(self, token: int, move: Move, room: int) -> Move | None:
        """A way to go on that leaves a way out: with what must come, without it, or by the way out from here."""
        assert self._place is not None, "only a grammar is closed"
        alone = self._following(token, room, alone=True) if len(move.tokens) > 1 else None
        for each in filter(None, (move, alone)):
            way_out = each.place.way_out() if each.place is not None and len(each.tokens) <= room else None
            if way_out is not None and len(way_out) <= room - len(each.tokens):
                return replace(each, distance=len(way_out))
        way_out = self._place.way_out()
        if way_out is None:  # there is no telling any more
            self._closes = False
            return move
        if len(way_out) > room:
            self._fail(f"its shortest end has {len(way_out)} tokens, and {room} are left: raise max_tokens.")
            return None
        return self._by_way_out(way_out, room)

    def _by_way_out(self, way_out: list[int], room: int) -> Move | None:
        """Go the way out, one token of it; the whole of it if there is hardly room for more."""
        if not way_out:  # the answer ends here, or not at all
            return Move([], self._place, self._thinking, 0)
        count = 1 if room - len(way_out) > SLOPE else len(way_out)
        first = self._following(way_out[0], room, alone=True)
        if first is None:
            return None
        assert first.place is not None, "only a grammar is closed"
        if not first.place.read(way_out[1:count]):
            self._fail(first.place.problem or "the way to its end that was found does not lead there.")
            return None
        if first.thinking is not None:
            first.thinking.hear(way_out[1:count])
        return replace(first, tokens=way_out[:count], distance=len(way_out) - count)

    # --- how an answer goes on ----------------------------------------------------------------------------------------

    def _following(self, token: int, room: int, *, alone: bool = False) -> Move | None:
        """This token and, unless `alone`, what must come after it."""
        place = None if self._place is None else self._place.copy()
        thinking = copy(self._thinking)
        if place is not None and not place.read([token]):
            self._fail(place.problem or "a token was drawn that it does not allow.")
            return None
        if thinking is not None:
            thinking.hear([token])
        tokens = [token]
        while not alone and len(tokens) < room and (more := self._forced(place, thinking)):
            tokens += more
        if place is not None and (problem := place.problem) is not None:
            self._fail(problem)
            return None
        return Move(tokens, place, thinking)

    def _forced(self, place: Place | None, thinking: ThinkingBudget | None) -> Sequence[int]:
        """What must come next: the end of the reasoning if its time is up, or all that the grammar allows."""
        if thinking is not None and thinking.is_spent:
            return self._ended_thinking(place, thinking)
        if place is None or not self._demands.forces or place.is_over:
            return ()
        tokens = place.forced()
        if not place.read(tokens):
            return ()
        if thinking is not None:
            thinking.hear(tokens)
        return tokens

    def _ended_thinking(self, place: Place | None, thinking: ThinkingBudget) -> Sequence[int]:
        """The tokens that end the reasoning, taken in; none while the grammar does not allow them."""
        ending = thinking.ending
        if place is not None and not place.read(ending):
            return ()
        thinking.hear(ending)
        return ending

    def _go(self, move: Move, room: int) -> list[int]:
        """Stand where a move leads."""
        self._place, self._thinking, self._looked = move.place, move.thinking, None
        if move.distance is not None:
            self._settle(move.distance, room - len(move.tokens))
        return move.tokens

    def _settle(self, distance: int, room: int) -> None:
        """Remember how long the way out is, and how far one may go before it is looked for again."""
        growth = (distance - self._distance) // max(1, self._looked_at - room)
        self._slope = max(self._slope, 2 * growth if self._looked_at else 0)
        self._distance, self._looked_at = distance, room
        self._certain_to = room - (room - distance) // (1 + self._slope)
