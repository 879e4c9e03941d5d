"""Simple Python functions: going on after a head and a docstring, and filling in what is missing in the middle.

Everything that is to be written follows from what is there: the docstring says what the body does, with names to copy.
"""

from __future__ import annotations

from keyword import iskeyword
from typing import NamedTuple

from tools.demo_model.corpus import words
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Completion, Dialogue, assistant, user


class Function(NamedTuple):
    """What a docstring says, and the body that does it; `A` and `B` are the parameters."""

    says: str
    body: str


_ONE = (
    Function("Return twice A.", "    return 2 * A\n"),
    Function("Return the square of A.", "    return A * A\n"),
    Function("Return the cube of A.", "    return A * A * A\n"),
    Function("Return the half of A.", "    return A / 2\n"),
    Function("Return minus A.", "    return -A\n"),
    Function("Return A plus one.", "    return A + 1\n"),
    Function("Return A minus one.", "    return A - 1\n"),
    Function("Return the length of A.", "    return len(A)\n"),
    Function("Return the first item of A.", "    return A[0]\n"),
    Function("Return the last item of A.", "    return A[-1]\n"),
    Function("Return A in reverse order.", "    return A[::-1]\n"),
    Function("Return A sorted.", "    return sorted(A)\n"),
    Function("Return the largest item of A.", "    return max(A)\n"),
    Function("Return the smallest item of A.", "    return min(A)\n"),
    Function("Return the sum of A.", "    return sum(A)\n"),
    Function("Return A in upper case.", "    return A.upper()\n"),
    Function("Return A in lower case.", "    return A.lower()\n"),
    Function("Return A without spaces around it.", "    return A.strip()\n"),
    Function("Return the words of A.", "    return A.split()\n"),
    Function("Return whether A is even.", "    return A % 2 == 0\n"),
    Function("Return whether A is odd.", "    return A % 2 == 1\n"),
    Function("Return whether A is empty.", "    return not A\n"),
    Function("Return whether A is positive.", "    return A > 0\n"),
    Function("Return the absolute value of A.", "    if A < 0:\n        return -A\n    return A\n"),
    Function("Print each item of A.", "    for item in A:\n        print(item)\n"),
    Function("Return the squares of A.", "    return [item * item for item in A]\n"),
    Function("Return the lengths of A.", "    return [len(item) for item in A]\n"),
    Function(
        "Return the product of A.", "    result = 1\n    for item in A:\n        result *= item\n    return result\n"
    ),
    Function("Return the mean of A.", "    return sum(A) / len(A)\n"),
)

_TWO = (
    Function("Return the sum of A and B.", "    return A + B\n"),
    Function("Return the difference of A and B.", "    return A - B\n"),
    Function("Return the product of A and B.", "    return A * B\n"),
    Function("Return A divided by B.", "    return A / B\n"),
    Function("Return the rest of A divided by B.", "    return A % B\n"),
    Function("Return A to the power of B.", "    return A ** B\n"),
    Function("Return the larger of A and B.", "    if A > B:\n        return A\n    return B\n"),
    Function("Return the smaller of A and B.", "    if A < B:\n        return A\n    return B\n"),
    Function("Return whether A equals B.", "    return A == B\n"),
    Function("Return whether A is less than B.", "    return A < B\n"),
    Function("Return whether A contains B.", "    return B in A\n"),
    Function("Return A joined by B.", "    return B.join(A)\n"),
    Function("Return A without B.", "    return [item for item in A if item != B]\n"),
    Function("Return how often B is in A.", "    return A.count(B)\n"),
    Function("Return A repeated B times.", "    return A * B\n"),
    Function("Return the pairs of A and B.", "    return list(zip(A, B))\n"),
    Function("Return the mean of A and B.", "    return (A + B) / 2\n"),
    Function("Append B to A and return A.", "    A.append(B)\n    return A\n"),
)


def _noun(part: Part) -> str:
    """A name for a function or a parameter: any word but Python's own."""
    word = part.any((part.thing, part.made_up, lambda: part.pick(words.LABELS)))()
    return _noun(part) if iskeyword(word) else word


def function(part: Part) -> tuple[str, str, str]:
    """(head with docstring, body, what the docstring says) under names of this part."""
    two = part.below(0.45)
    kind = part.any(_TWO if two else _ONE)
    names = part.several(3, lambda: _noun(part))
    name = part.any((names[0], f"{part.pick(words.VERBS)}_{names[0]}"))
    written = {"A": names[1], "B": names[2]}
    says, body = (_named(text, written) for text in kind)
    head = f'def {name}({", ".join(names[1:3] if two else names[1:2])}):\n    """{says}"""\n'
    return head, body, says


def _named(text: str, names: dict[str, str]) -> str:
    """The text with the parameters' names: single capitals stand for them, wherever they are words."""
    pieces: list[str] = []
    for place, letter in enumerate(text):
        around = text[place - 1 : place] + text[place + 1 : place + 2]
        is_name = letter in names and not any(each.isalpha() for each in around)
        pieces.append(names[letter] if is_name else letter)
    return "".join(pieces)


def completion(part: Part) -> Completion:
    """The body after the head."""
    head, body, _ = function(part)
    return Completion("code", head, body)


def infill(part: Part) -> Completion:
    """What stands between: the end of a line, whole lines of the body, or all of it. One function or two."""
    head, body, _ = function(part)
    before, after = "", ""
    if part.room >= 256 and part.below(0.4):
        before = "".join(function(part)[:2]) + "\n\n"
    if part.room >= 256 and part.below(0.4):
        after = "\n\n" + "".join(function(part)[:2])
    lines = body.splitlines(keepends=True)
    cut = part.between(0, len(lines) - 1)
    start = len("".join(lines[:cut]))
    line = lines[cut].rstrip("\n")
    words_at = [
        place + 1 for place, letter in enumerate(line) if letter == " " and place >= len(line) - len(line.lstrip())
    ]
    if words_at and part.below(0.6):
        inner = start + part.any(words_at)
        middle, rest = body[inner : start + len(line)], body[start + len(line) :]
        return Completion("fill in the middle", before + head + body[:inner], middle, rest + after)
    return Completion("fill in the middle", before + head + body[:start], body[start:], after or "\n")


_WRITE = (
    "{|please |can you |could you |now }{write|give me|make|show me} {a|one} {Python |}function "
    "{called|named|with the name} $name "
    "{that takes|with|of} $parameters{. It should|. It must|. Let it} {do this: |}$does"
)


def written(part: Part) -> Dialogue:
    """A function asked for in words."""
    head, body, says = function(part)
    name, rest = head.removeprefix("def ").split("(", 1)
    parameters = rest.split(")")[0].replace(", ", " and ")
    question = part.say(_WRITE, name=name, parameters=parameters, does=f"{says[:1].lower()}{says[1:]}")
    return Dialogue("write code", (user(question), assistant(f"```python\n{head}{body}```")), thinks=part.below(0.6))
