"""The form of answers: a grammar, and where in it one answer stands. It knows no threads and no batch."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from quire_engine.guidance.closing import WaysOut, greatest_opening
from quire_engine.guidance.vocabulary import Vocabulary

MANY = 1 << 30

Mask = NDArray[np.uint32]
"""One bit for each token, the lowest first: whether it may come next."""


class Grammar:
    """A grammar ready for use, with matchers at an answer's beginning. Any thread may ask; nobody changes it."""

    def __init__(self, vocabulary: Vocabulary, text: str) -> None:
        """ValueError, in the library's words, for a text that is no grammar."""
        source = LLMatcher.grammar_from_lark(text)
        self.vocabulary = vocabulary
        self.text = text
        self.matcher = LLMatcher(vocabulary.tokens, source, log_level=0)
        self.speller = LLMatcher(vocabulary.spelling, source, log_level=0)
        for matcher in (self.matcher, self.speller):
            if matcher.is_error():
                raise ValueError(_first_line(matcher.get_error()))
        self.opening = greatest_opening(vocabulary, text)
        """Tokens by which one choice may lengthen the way out, as far as the grammar shows it."""
        self.way_out = WaysOut(vocabulary, text).shortest(self.speller, most=MANY)
        """Some answer, spelled out; None if none was found."""
        self._shortest: list[int] | None = None
        self._shortening = Lock()

    def shortest(self) -> list[int] | None:
        """The shortest answer that is found with more effort. That takes long, and is done once."""
        with self._shortening:
            if self._shortest is None:
                found = WaysOut(self.vocabulary, self.text).shortest(self.speller, most=0)
                self._shortest = found or self.way_out
            return self._shortest


class Place:
    """Where an answer stands in its grammar."""

    def __init__(self, grammar: Grammar) -> None:
        """At the beginning."""
        self.grammar = grammar
        self._matcher = grammar.matcher.deep_copy()
        self._speller = grammar.speller.deep_copy()
        self._known = grammar.way_out
        """A way out from where the speller is, spelled out; None if there is no telling."""
        self._unspelled: tuple[int, ...] = ()
        """Tokens that the matcher has read and the speller has not: it is seldom needed."""

    def copy(self) -> Place:
        """The same place, to go on from."""
        other = Place.__new__(Place)
        other.grammar, other._matcher = self.grammar, self._matcher.deep_copy()
        other._speller, other._known, other._unspelled = self._speller, self._known, self._unspelled
        return other

    def read(self, tokens: Sequence[int]) -> bool:
        """Go on by these tokens; False, and where it was, if the grammar does not allow them all."""
        count = self._matcher.try_consume_tokens([*tokens])
        if count < len(tokens):
            self._matcher.rollback(count)
            return False
        self._unspelled += tuple(tokens)
        return True

    def forced(self) -> list[int]:
        """The tokens that must come next, as the tokenizer writes what must."""
        return self._matcher.compute_ff_tokens()

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow. A matcher that came to one of its limits has stopped too, and is not over."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def problem(self) -> str | None:
        """Why it cannot be said what may follow: one of the library's limits, in its words."""
        return _first_line(self._matcher.get_error()) if self._matcher.is_error() else None

    def mask(self) -> Mask:
        """What may come next."""
        mask = np.zeros(-(-self.grammar.vocabulary.tokens.vocab_size // 32), dtype=np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        return mask

    def way_out(self) -> list[int] | None:
        """Tokens that lead to an end of the answer; None if there is no telling."""
        if self._matcher.is_accepting():
            return []
        self._catch_up()
        return None if self._known is None else self.grammar.vocabulary.joined(self._known)

    def shortest_way_out(self, most: int) -> list[int] | None:
        """The same with more effort, if more than `most` tokens were found without."""
        tokens = self.way_out()
        if tokens is None or len(tokens) <= most:
            return tokens
        if self._known is self.grammar.way_out:  # at the beginning
            self._known = self.grammar.shortest()
        else:
            self._known = self._ways_out().shortest(self._speller, most) or self._known
        return self.way_out()

    def _catch_up(self) -> None:
        """Let the speller read what the matcher has read, and find the way out from there."""
        if not self._unspelled:
            return
        letters = self.grammar.vocabulary.spelled(self._unspelled)
        self._speller, self._unspelled = self._speller.deep_copy(), ()
        if self._known is None or not self._speller.consume_tokens(letters):
            self._known = None
            return
        self._known = self._ways_out().onward(self._speller, self._known, letters)

    def _ways_out(self) -> WaysOut:
        return WaysOut(self.grammar.vocabulary, self.grammar.text, self.grammar.opening)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
