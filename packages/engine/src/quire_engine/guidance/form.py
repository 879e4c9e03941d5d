"""The form of answers: a grammar, and where in it one answer stands. It knows no threads and no batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from quire_engine.guidance.closing import WaysOut
from quire_engine.guidance.vocabulary import Vocabulary

SLOPE = 32
"""Tokens by which one token makes the way out longer, at most: it may open what needs as many to be closed again."""

Mask = NDArray[np.uint32]
"""One bit for each token, the lowest first: whether it may come next."""


class Grammar:
    """A grammar ready for use, with matchers at an answer's beginning. Nobody changes it."""

    def __init__(self, vocabulary: Vocabulary, text: str) -> None:
        """ValueError, in the library's words, for a text that is no grammar."""
        source = LLMatcher.grammar_from_lark(text)
        self.vocabulary = vocabulary
        self.text = text
        self.matcher = LLMatcher(vocabulary.tokens, source, log_level=0)
        self.speller = LLMatcher(vocabulary.spelling, source, log_level=0)
        for matcher in (self.matcher, self.speller):
            if matcher.is_error():
                raise ValueError(matcher.get_error().strip().splitlines()[0])
        self.shortest = WaysOut(vocabulary, text).shortest(self.speller, most=0)
        """The shortest answer that was found; None if none was."""
        self.slope = max(SLOPE, len(self.shortest or ()))


class Place:
    """Where an answer stands in its grammar."""

    def __init__(self, grammar: Grammar) -> None:
        """At the beginning."""
        self.grammar = grammar
        self._matcher = grammar.matcher.deep_copy()
        self._speller = grammar.speller.deep_copy()
        self._unspelled: tuple[int, ...] = ()
        """Tokens that the matcher has read and the speller has not: it is seldom needed."""

    def copy(self) -> Place:
        """The same place, to go on from."""
        other = Place.__new__(Place)
        other.grammar, other._unspelled = self.grammar, self._unspelled
        other._matcher, other._speller = self._matcher.deep_copy(), self._speller
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
        """Whether nothing may follow."""
        return self._matcher.is_stopped()

    @property
    def problem(self) -> str | None:
        """Why it cannot be said what may follow: one of the library's limits, in its words."""
        return self._matcher.get_error().strip().splitlines()[0] if self._matcher.is_error() else None

    def mask(self) -> Mask:
        """What may come next."""
        mask = np.zeros(-(-self.grammar.vocabulary.tokens.vocab_size // 32), dtype=np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        return mask

    def way_out(self, most: int, known: Sequence[Sequence[int]] = ()) -> list[int] | None:
        """Tokens that lead to an end of the answer, at most `most` if such are found; None if there is no telling.

        The `known` ones, if they fit and still lead there, save the search.
        """
        if self._matcher.is_accepting():
            return []
        for tokens in known:
            if len(tokens) <= most and self._ends_by(tokens):
                return [*tokens]
        speller = self._speller.deep_copy()
        speller.consume_tokens(self.grammar.vocabulary.spelled(self._unspelled))
        self._speller, self._unspelled = speller, ()
        found = WaysOut(self.grammar.vocabulary, self.grammar.text).shortest(speller, most)
        return found if found is not None and self._ends_by(found) else None

    def _ends_by(self, tokens: Sequence[int]) -> bool:
        ahead = self._matcher.deep_copy()
        return ahead.try_consume_tokens([*tokens]) == len(tokens) and ahead.is_accepting()
