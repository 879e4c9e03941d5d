"""Draws words, names, numbers and phrasings for one part of the corpus; what is held out is never drawn for training.

A digest of each text says to which part it belongs, so the parts are disjoint by construction, and stay so whatever
else changes. Knows no task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from string import Template, ascii_letters, ascii_lowercase, digits, punctuation
from typing import TypeVar

from tools.demo_model.corpus import words

T = TypeVar("T")

HELD_OUT = 8
"""One text of so many is held out."""
PATIENCE = 1000
"""Draws after which a part is taken to have nothing to offer."""

_CHOICE = re.compile(r"\{([^{}]*)\}")
_ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "br",
    "ch",
    "cl",
    "cr",
    "dr",
    "fl",
    "gl",
    "gr",
    "kl",
    "pl",
    "pr",
    "qu",
    "sh",
    "sk",
    "sl",
    "sn",
    "st",
    "th",
    "tr",
]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "oo", "ou"]
_CODAS = ("", "", "", "n", "r", "l", "s", "t", "m", "k", "x", "nd", "rt", "sh", "lm", "ng")


def is_held_out(text: str) -> bool:
    """Whether a text belongs to what training never sees, in whatever letters it is written."""
    return blake2b(text.lower().encode(), digest_size=1).digest()[0] % HELD_OUT == 0


def an(noun: str) -> str:
    """The noun with its article, by its first letter."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the corpus, and the dice."""

    random: Random
    held_out: bool = False
    room: int = 512
    """About how many tokens a sample may take."""

    def own(self, draw: Callable[[], str]) -> str:
        """Draw until the text belongs to this part. ValueError if nothing does."""
        for _ in range(PATIENCE):
            if is_held_out(text := draw()) == self.held_out:
                return text
        part = "held-out" if self.held_out else "training"
        raise ValueError(f"{PATIENCE} draws like {text!r} gave nothing of the {part} part: offer more to draw from.")

    def pick(self, texts: Sequence[str]) -> str:
        """One of this part's texts."""
        return self.own(lambda: self.random.choice(texts))

    def several(self, count: int, draw: Callable[[], T]) -> list[T]:
        """So many different ones. ValueError if there are not."""
        found: list[T] = []
        for _ in range(PATIENCE):
            if len(found) == count:
                return found
            if (one := draw()) not in found:
                found.append(one)
        raise ValueError(f"{PATIENCE} draws gave {len(found)} different values where {count} are wanted.")

    def any(self, choices: Sequence[T]) -> T:
        """One of what both parts share."""
        return self.random.choice(choices)

    def below(self, chance: float) -> bool:
        """True so often."""
        return self.random.random() < chance

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.random.randint(low, high)

    def say(self, form: str, **values: object) -> str:
        """One of the phrasings that `form` writes as `{this|that}`, nested at will, and then its `$values`."""
        phrasing = self.own(lambda: self.expand(form))
        return Template(phrasing[:1].upper() + phrasing[1:]).substitute(values)

    def expand(self, form: str) -> str:
        """Any of the phrasings of a form."""
        while "{" in form:
            form = _CHOICE.sub(lambda found: self.random.choice(found[1].split("|")), form)
        return form

    def name(self) -> str:
        """What somebody is called: a first name, or a made-up one."""
        return self.pick(words.NAMES) if self.below(0.6) else self.made_up().capitalize()

    def full_name(self) -> str:
        """First name and surname."""
        return f"{self.name()} {self.pick(words.SURNAMES) if self.below(0.5) else self.made_up().capitalize()}"

    def city(self) -> str:
        """A real or a made-up place."""
        return self.pick(words.CITIES) if self.below(0.6) else self.made_up().capitalize()

    def thing(self) -> str:
        """A noun, now and then of no language."""
        return self.pick(words.THINGS) if self.below(0.75) else self.made_up()

    def made_up(self) -> str:
        """A word of one to three syllables that means nothing."""
        return self.own(lambda: "".join(self._syllable() for _ in range(self.between(1, 3))) + self.any(("", "", "a")))

    def code(self) -> str:
        """A short string that can only be copied: letters, digits, and what joins them."""
        return self.own(lambda: self._code())

    def number(self, length: int) -> str:
        """So many digits; the first is no zero. From three digits on, each number belongs to one part."""
        return self._number(length) if length < 3 else self.own(lambda: self._number(length))

    def scribble(self) -> str:
        """Signs without order."""
        return self.own(
            lambda: "".join(self.random.choices(ascii_letters + digits + punctuation, k=self.between(3, 9)))
        )

    def _number(self, length: int) -> str:
        first = 10 ** (length - 1)
        return str(self.between(first, 10 * first - 1))

    def _syllable(self) -> str:
        return self.any(_ONSETS) + self.any(_VOWELS) + self.any(_CODAS)

    def _code(self) -> str:
        letters = self.any((ascii_lowercase, ascii_letters, digits, ascii_lowercase + digits, "0123456789abcdef"))
        groups = ["".join(self.random.choices(letters, k=self.between(2, 6))) for _ in range(self.between(1, 3))]
        if len(groups) == 1:
            return groups[0] + self.any(ascii_lowercase)  # never a number: a code is a string, also in JSON
        return self.any(("-", "-", "_", ":", "/")).join(groups)
