"""The way out: text that ends an answer where it stands, as short as can be found soon. It knows bytes and marks.

A grammar does not say how far its end is, so the end is looked for: byte by byte, each time with what tends to close
(a bracket, a quote) before what opens. That is no proof of the shortest way, but one that can be taken. Where it is too
long to begin with, every first step away from it is tried too. Later on the way that was known before is come back to
as soon as it can be, which is a few bytes ahead, mostly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from math import inf
from random import Random

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from quire_engine.guidance.vocabulary import Vocabulary
from quire_engine.text.grammar.completion import Completion

MOST_STEPS = 20_000
"""Bytes that a search may try before an answer begins."""
MOST_STEPS_LATER = 500
"""And while it grows, beside the way that was known and what one choice may add to it."""
LITERALS = 3
"""Texts of a grammar that one choice may bring about, at most: what stands before, in, and behind a marked part."""
OVERLAPS = (24, 12, 6, 3, 1)
"""Letters by which a place is recognised in a way that is known."""
MOST_OPTIONS = 24
"""Ways on from one place that are tried."""
MOST_LITERALS = 32
"""Texts of a grammar that are tried where any text may stand."""
PATIENCE = 2
"""Times the same choice is made again before any others are: it may lead nowhere."""

_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
_COUNT = re.compile(r"\{(\d+)")


def _order(preferred: bytes, last: bytes) -> NDArray[np.int64]:
    """All bytes: these first, those last, in between as they come."""
    middle = [byte for byte in range(256) if byte not in preferred and byte not in last]
    return np.array([*preferred, *middle, *last])


_WHITESPACE = b" \n\t\r"
_AMONG_FEW = _order(b"}])\"',:;>0", b"([{\\" + _WHITESPACE)
"""In structure: end, then go on, then open."""
_AMONG_MANY = _order(b"\"'/`)]}>", b"\\" + _WHITESPACE)
"""In a string, where brackets are only text."""


class WaysOut:
    """Finds ways out of the answers of one grammar. Stateless but for the room it works in: one user at a time."""

    def __init__(self, vocabulary: Vocabulary, grammar: str, opening: int = 0) -> None:
        """`opening` is what one choice may add to a way, in tokens."""
        self._vocabulary = vocabulary
        self._opening = opening
        self._marks = [mark for mark in vocabulary.marks if mark not in vocabulary.eos_token_ids]
        self._literals = [vocabulary.letters(text.encode()) for text in _literals(grammar)]
        self._mask = np.zeros(-(-vocabulary.spelling.vocab_size // 32), dtype=np.uint32)
        self._steps = 0

    def shortest(self, state: LLMatcher, most: int) -> list[int] | None:
        """What, spelled out, leads from `state`, a matcher of the spelling, to an end: at most `most` tokens of the
        model, if such are found. A longer way if it is all there is; None if there is none within reach.
        """
        self._steps = MOST_STEPS
        path = self._straight(state.deep_copy(), MOST_STEPS)
        tokens = None if path is None else self._vocabulary.joined(path)
        if path is None or tokens is None or len(tokens) <= most:
            return path
        return self._improved(state.deep_copy(), path)

    def onward(self, state: LLMatcher, known: list[int], read: list[int]) -> list[int] | None:
        """The same where an answer stands that has `read` on from a place with a way out that is `known`.

        It comes back to that way as soon as it can, and is not as short as may be.
        """
        self._steps = min(MOST_STEPS, MOST_STEPS_LATER + len(known) + 4 * self._opening)
        common = next((at for at, (one, other) in enumerate(zip(read, known, strict=False)) if one != other), len(read))
        return self._straight(state.deep_copy(), MOST_STEPS, _Known(known[common:], read, len(read) - common))

    def _straight(self, state: LLMatcher, most: int, known: _Known | None = None) -> list[int] | None:
        """The way by the likeliest choices; None if it is longer than `most` letters, or leads nowhere."""
        path: list[int] = []
        literals, chance = iter(self._literals), Random(0)  # the same from the same place
        before, times = b"", 0
        while len(path) <= most and self._steps > 0:
            if state.is_accepting():
                return path
            if known is not None and (rest := self._rejoined(state, known.rests(path))) is not None:
                return path + rest
            self._steps -= 1
            move = self._forced(state)
            if not move:
                options, looks = self._options(state)
                times = times + 1 if looks == before else 0
                before = looks
                if not options:
                    return None
                move = self._literal(state, literals) if self._may_be_anything() else []
                move = move or [options[0] if times <= PATIENCE else chance.choice(self._plain(options))]
            if not state.consume_tokens(move):
                return None
            path += move
        return None

    def _rejoined(self, state: LLMatcher, rests: Iterable[list[int]]) -> list[int] | None:
        """The first of these that leads to an end from here."""
        for rest in rests:
            if state.validate_tokens(rest) == len(rest):
                ahead = state.deep_copy()
                if ahead.consume_tokens(rest) and ahead.is_accepting():
                    return rest
        return None

    def _improved(self, state: LLMatcher, path: list[int]) -> list[int]:
        """The same way, or a shorter one that leaves it at some place, and that one's improvements in turn."""
        place = 0
        while place < len(path) and self._steps > 0:
            move = self._forced(state)
            if not move:
                for option in islice(self._options(state)[0], MOST_OPTIONS):
                    turned = state.deep_copy()
                    if option == path[place] or not turned.consume_tokens([option]):
                        continue
                    rest = self._straight(turned, len(path) - place - 2)
                    if rest is not None:
                        path = [*path[:place], option, *rest]
                move = path[place : place + 1]
            state.consume_tokens(move)
            place += len(move)
        return path

    def _forced(self, state: LLMatcher) -> list[int]:
        """What must come next, up to a mark."""
        return self._vocabulary.letters(state.compute_ff_bytes().partition(b"\xff")[0])

    def _options(self, state: LLMatcher) -> tuple[list[int], bytes]:
        """What may come next, the most promising first, and what the place looks like."""
        state.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        raw, first = self._mask.view(np.uint8), self._vocabulary.first_byte
        looks = raw[first // 8 : first // 8 + 32]
        allowed = np.unpackbits(looks, bitorder="little").astype(bool)
        order = _AMONG_MANY if allowed.sum() > 64 else _AMONG_FEW
        letters = (first + order[allowed[order]]).tolist()
        return [mark for mark in self._marks if raw[mark // 8] >> mark % 8 & 1] + letters, looks.tobytes()

    def _plain(self, options: list[int]) -> list[int]:
        """Those that are whole characters, if any are: a way of such may be left and come back to at each of them."""
        return [option for option in options if option < self._vocabulary.first_byte + 128] or options

    def _may_be_anything(self) -> bool:
        """Whether the options just looked at are those of free text, which only its grammar's own words can end."""
        raw, first = self._mask.view(np.uint8), self._vocabulary.first_byte
        return all(raw[(first + byte) // 8] >> (first + byte) % 8 & 1 for byte in b'\n"}')

    def _literal(self, state: LLMatcher, literals: Iterator[list[int]]) -> list[int]:
        """The next of the grammar's own texts that may stand here."""
        return next((each for each in literals if state.validate_tokens(each) == len(each)), [])


class _Known:
    """A way out from a place that was left by reading something else; letters as characters, to be searched."""

    def __init__(self, way: list[int], read: list[int], instead: int) -> None:
        """`instead` of as much of the way, the newest of what was `read` was."""
        self._way = way
        self._instead = instead
        self._text = "".join(map(chr, way))
        self._read = read

    def rests(self, path: list[int]) -> Iterator[list[int]]:
        """What may be left of it after `path`: what is missing in length, or all of it, and what comes behind places
        that end as the path does.
        """
        cuts = dict.fromkeys([0] if path else [self._instead, self._instead + 1, 0])  # + 1: an escape is one character
        recent = "".join(map(chr, [*self._read[-OVERLAPS[0] :], *path[-OVERLAPS[0] :]]))
        for length in OVERLAPS:
            at = self._text.find(recent[-length:]) if length <= len(recent) else -1
            if at >= 0:
                cuts[at + length] = None
        return (self._way[cut:] for cut in cuts)


def greatest_opening(vocabulary: Vocabulary, grammar: str) -> int:
    """Tokens by which one choice may lengthen the shortest way to an end, as far as the grammar shows it."""
    width = cache(lambda text: len(vocabulary.joined(vocabulary.letters(text.encode())) or text))
    parts, aside = [0], ""
    texts = sorted(_all_literals(grammar), key=len)[-LITERALS:]
    for line in grammar.splitlines():
        before, is_json, schema = line.partition("%json ")
        aside += before
        if is_json and isinstance(read := json.loads(schema), dict):
            completion = Completion(read, width)
            parts.append(completion.greatest_opening)
            if texts and (size := completion.size(read)) < inf:  # it may be a part that is opened as a whole
                parts.append(int(size))
    counts = map(int, _COUNT.findall(aside))
    return max(max(parts), *counts, 0) + sum(map(width, texts))


def _all_literals(grammar: str) -> list[str]:
    """The texts that a grammar has word for word outside JSON."""
    lines = (line for line in grammar.splitlines() if "%json" not in line)
    found = dict.fromkeys(_decoded(literal) for line in lines for literal in _LITERAL.findall(line))
    return [text for text in found if len(text) > 1]


def _decoded(literal: str) -> str:
    """The text of a literal; none, for what is part of a regular expression, or is escaped as JSON is not."""
    try:
        text: str = json.loads(literal)
    except ValueError:
        return ""
    return text


def _literals(grammar: str) -> list[str]:
    """Those to be tried."""
    return sorted(_all_literals(grammar), key=len)[:MOST_LITERALS]
