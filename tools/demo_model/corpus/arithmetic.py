"""Sums, differences and products, by thinking digit by digit as one does on paper, or at once where they are easy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, assistant, user


class Sum(NamedTuple):
    """`left sign right`, with numbers that are not negative."""

    left: int
    sign: str
    right: int

    @property
    def value(self) -> int:
        """What it comes to."""
        return {"+": self.left + self.right, "-": self.left - self.right, "*": self.left * self.right}[self.sign]

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


def thought(sum_: Sum) -> str:
    """The way to the result, each step easy enough to be done at once."""
    return {"+": _adding, "-": _subtracting, "*": _multiplying}[sum_.sign](sum_.left, sum_.right)


def _adding(left: int, right: int) -> str:
    """From the ones upward, with the carry; the digits are read backward at the end.

    47 + 85: 7+5=12, write 2 carry 1; 4+8+1=13, write 3 carry 1; 1. Result 132
    """
    steps: list[str] = []
    carry = 0
    for one, other in _columns(left, right):
        total = one + other + carry
        summands = f"{one}+{other}+1" if carry else f"{one}+{other}"
        carry = total // 10
        steps.append(f"{summands}={total}, write {total % 10}{' carry 1' if carry else ''}")
    if carry:
        steps.append("write 1")
    return f"{left} + {right}: {'; '.join(steps)}. Result {left + right}"


def _subtracting(left: int, right: int) -> str:
    """From the ones upward, with the borrow; the larger number first."""
    if left < right:
        return (
            f"{left} is less than {right}, so the result is negative. {_subtracting(right, left)}, so -{right - left}"
        )
    steps: list[str] = []
    borrow = 0
    for one, other in _columns(left, right):
        taken = f"{other}-1" if borrow else f"{other}"
        rest = one - other - borrow
        top = f"1{one}" if rest < 0 else f"{one}"
        steps.append(f"{top}-{taken}={rest % 10}{' borrow 1' if rest < 0 else ''}")
        borrow = int(rest < 0)
    return f"{left} - {right}: {'; '.join(steps)}. Result {left - right}"


def _multiplying(left: int, right: int) -> str:
    """The left number's tens and ones, times the right one's, added up one after another."""
    parts = [(one, other) for other in _places(right) for one in _places(left)]
    products = [one * other for one, other in parts]
    steps = [f"{one}*{other}={product}" for (one, other), product in zip(parts, products, strict=True)]
    so_far = products[0]
    for product in products[1:]:
        steps.append(f"{so_far}+{product}={so_far + product}")
        so_far += product
    return f"{left} * {right}: {'; '.join(steps)}. Result {left * right}"


def _columns(left: int, right: int) -> list[tuple[int, int]]:
    """The digits of both from the ones upward, the shorter filled with zeros."""
    width = max(len(str(left)), len(str(right)))
    return [
        (int(one), int(other)) for one, other in zip(f"{left:0{width}}"[::-1], f"{right:0{width}}"[::-1], strict=True)
    ]


def _places(number: int) -> list[int]:
    """47 as 40 and 7."""
    digits = str(number)
    return [int(digit) * 10 ** (len(digits) - place - 1) for place, digit in enumerate(digits) if digit != "0"] or [0]


def draw(part: Part, *, length: int, signs: str = "++--**") -> Sum:
    """A sum of numbers of so many digits that belongs to this part; products of longer ones have a short factor."""

    def any_sum() -> str:
        sign = part.any(signs)
        left, right = (part.between(1 if length > 1 else 0, 10**length - 1) for _ in range(2))
        if sign == "*" and (length > 2 or part.below(0.5)):
            right = part.between(2, 9)
        return str(Sum(left, sign, right))

    left, sign, right = part.own(any_sum).split()
    return Sum(int(left), sign, int(right))


_ASKED = (
    "{|please |now |can you |hi, }{what is|compute|calculate|work out|tell me|how much is|solve|evaluate} $sum"
    "{|?|.| =| = ?|, please|, please?}"
)
_BARE = (
    "{$sum|$sum =|$sum = ?|$sum?| $sum=|$sum equals|$sum is|$sum makes what?|$sum, please|the sum: $sum|result of $sum}"
)


def _question(part: Part, sum_: Sum) -> str:
    written = str(sum_)
    if part.below(0.2):
        written = written.replace(" ", "")
    elif part.below(0.3):
        word = {"+": "plus", "-": "minus", "*": "times"}[sum_.sign]
        written = f"{sum_.left} {word} {sum_.right}"
    return part.say(_ASKED if part.below(0.8) else _BARE, sum=written)


_HOLDS = "{|one day |now |at first |then }$who {has|owns|keeps|carries|counts} "
_SEE = "{there are|I see|I count|we have} "
_WORDS: tuple[tuple[str, str], ...] = (
    ("+", _HOLDS + "$left $things{ and|. Then $who} {buys|gets|finds|takes} $right more."),
    ("+", _SEE + "$left $things in one room and $right {in another|in the next|outside|upstairs}."),
    ("-", _HOLDS + "$left $things{ and|. Then $who} {sells|loses|gives away} $right."),
    ("-", "{there were|I saw|we had|I counted} $left $things. $right of them {are gone|were sold|broke|are lost}."),
    ("*", _HOLDS + "$right {boxes|bags|baskets} {with|of} $left $things each."),
    ("*", _SEE + "$right {shelves|boxes|rooms}. {each holds|on each are|each one has} $left $things."),
)


def _story(part: Part, length: int) -> tuple[Sum, str]:
    """A sum told as what happened to things; nobody loses more than there are."""
    sign, form = part.any(_WORDS)
    sum_ = draw(part, length=length, signs=sign)
    if sign == "-" and sum_.left < sum_.right:
        return _story(part, length)
    told = part.say(form, who=part.name(), things=f"{part.thing()}s", left=sum_.left, right=sum_.right)
    asked = part.any(("are there", "is that", "does that make"))
    return sum_, f"{told} How many {asked}{part.any((' now', ' in all'))}?"


def _pair(part: Part, ask: Callable[[], tuple[Sum, str]], *, thinking: bool) -> Dialogue:
    sum_, question = ask()
    answer = assistant(f"{sum_} = {sum_.value}", thought(sum_) if thinking else "")
    return Dialogue("arithmetic", (user(question), answer), check="number", thinks=thinking)


def arithmetic(part: Part) -> Dialogue:
    """Two or three digits, with thoughts."""
    length = part.any((1, 2, 2, 2, 3))
    if part.below(0.25):
        return _pair(part, lambda: _story(part, min(length, 2)), thinking=True)

    def ask() -> tuple[Sum, str]:
        sum_ = draw(part, length=length)
        return sum_, _question(part, sum_)

    return _pair(part, ask, thinking=True)


def two_digits(part: Part) -> Dialogue:
    """What the goal is about: numbers of two digits, asked plainly, with thoughts."""
    sum_ = draw(part, length=2)
    return _pair(part, lambda: (sum_, _question(part, sum_)), thinking=True)


def at_once(part: Part) -> Dialogue:
    """Sums and differences of up to two digits and products of one, without thoughts."""
    length = part.any((1, 2))
    sum_ = draw(part, length=length, signs="++--*" if length == 1 else "++--")
    dialogue = _pair(part, lambda: (sum_, _question(part, sum_)), thinking=False)
    return Dialogue("arithmetic at once", dialogue.messages, check="number", thinks=False)
