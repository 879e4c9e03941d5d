"""Copying, reversing, sorting, counting, spelling and upper-casing: what is asked of a list, a word or a string.

Copying is what all else rests on: to repeat what stands in the context, wherever it is and whatever it looks like. So
half of what is copied has no meaning at all.
"""

from __future__ import annotations

import json

from tools.demo_model.corpus import words
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, assistant, user

_LEAD = "{|please |now |can you |could you |I want you to |hi, |next: }"


def _dialogue(part: Part, task: str, question: str, answer: str, thought: str = "") -> Dialogue:
    thinks = bool(thought) or part.below(0.6)
    return Dialogue(task, (user(question), assistant(answer, thought)), thinks=thinks)


def item(part: Part) -> str:
    """Anything that a list may hold."""
    draws = (
        part.thing,
        part.made_up,
        part.name,
        part.city,
        part.code,
        part.scribble,
        lambda: part.number(part.between(1, 6)),
    )
    return part.any(draws)()


def alike(part: Part, count: int) -> list[str]:
    """Different items of one kind."""
    kind = part.any(
        (part.thing, part.made_up, part.name, part.city, part.code, lambda: part.number(part.between(2, 5)))
    )
    return part.several(count, kind)


def payload(part: Part) -> str:
    """Something to copy, from one word to many lines."""
    size = part.between(1, max(3, min(40, part.room // 24)))
    match part.between(0, 6):
        case 0:
            return part.any((" ", ", ", "\n", " | ", "; ")).join(item(part) for _ in range(size))
        case 1:
            return " ".join(part.made_up() for _ in range(size))
        case 2:
            return part.any((" ", "-", "\n")).join(part.code() for _ in range(max(1, size // 3)))
        case 3:
            return " ".join(part.scribble() for _ in range(max(1, size // 3)))
        case 4:
            return json.dumps({part.made_up(): item(part) for _ in range(max(1, size // 4))}, ensure_ascii=False)
        case 5:
            chosen = [part.any(words.PLAIN) if part.below(0.5) else part.thing() for _ in range(size + 1)]
            return " ".join(chosen).capitalize() + part.any((".", "!", "?", ""))
        case _:
            return "\n".join(
                f"{part.made_up()}{part.any((': ', ' = ', ','))}{item(part)}" for _ in range(max(1, size // 4))
            )


_COPY = _LEAD + (
    "{repeat|copy|echo|say|write|print|give back} {this|the following|this text|what follows|these words}"
    "{| exactly| again| word for word| unchanged| as it is| without changes| for me}{: |:\n|: |:\n}$text"
)
_QUOTED = _LEAD + (
    '{repeat|copy|echo|say|write|print|give back} {|the text |the words |exactly |just }"$text"'
    "{| exactly| again| word for word| unchanged| as it is| for me}{|.|, please.}"
)


def copy(part: Part) -> Dialogue:
    """Say again what was said."""
    text = payload(part)
    form = _QUOTED if '"' not in text and "\n" not in text and part.below(0.3) else _COPY
    return _dialogue(part, "copy", part.say(form, text=text), text)


_REVERSE = _LEAD + (
    "{reverse|turn around|write backwards|give in reverse order|list from last to first} {this list|"
    "these|the list|these "
    "items|the following}{: |:\n}$list"
)
_BACKWARDS = _LEAD + (
    "{spell|write|say|give} {|the word }$word {backwards|in reverse|from back to front|the other "
    "way round}{|.|, please.}"
)


def reverse(part: Part) -> Dialogue:
    """A list from last to first, or a word's letters: those are spelled first."""
    if part.below(0.35):
        word = part.own(lambda: part.any((part.thing, part.made_up))()[: part.between(3, 8)])
        spelled = " ".join(word)
        question = part.say(_BACKWARDS, word=word)
        return _dialogue(part, "reverse", question, word[::-1], f"{word}: {spelled}. Backwards: {spelled[::-1]}")
    found = alike(part, part.between(2, 8))
    joint = part.any((", ", ", ", " ", "\n"))
    question = part.say(_REVERSE, list=joint.join(found))
    return _dialogue(part, "reverse", question, joint.join(reversed(found)))


_SORT = _LEAD + "{sort|order|put in order|arrange} {these|this list|the list|the following}{| $how}{: |:\n}$list"


def sort(part: Part) -> Dialogue:
    """Numbers by size, words by the alphabet."""
    if part.below(0.6):
        length = part.any((1, 2, 2, 3))
        found = part.several(part.between(3, 7 if length > 1 else 5), lambda: part.number(length))
        down = part.below(0.3)
        how = part.any(("descending", "from largest to smallest")) if down else part.any(("ascending", "by size"))
        ordered = sorted(found, key=int, reverse=down)
    else:
        draw = part.any((part.name, part.thing, part.city))
        found, down, how = part.several(part.between(3, 6), draw), False, "alphabetically"
        ordered = sorted(found, key=str.lower)
    form = _SORT.replace("{| $how}", " $how") if down else _SORT
    question = part.say(form, how=how, list=", ".join(found))
    return _dialogue(part, "sort", question, ", ".join(ordered))


_COUNT = _LEAD + (
    "{count|tell me the number of|how many are} {the items|the words|the entries}{| here| in this list}{: |:\n}$list"
)
_LETTERS = _LEAD + (
    "{count the letters|how many letters are|tell me how many letters are|give the number of "
    "letters} in {|the word }$word{|?|.}"
)
_TIMES = _LEAD + (
    "{how often|how many times} {does|do you see} $word {stand|appear|occur|come up|come} {here|in this}{: |:\n}$list"
)


def count(part: Part) -> Dialogue:
    """Items of a list, letters of a word, or how often a word stands in a list; counted aloud in thought."""
    kind = part.between(0, 2)
    if kind == 0:
        found = alike(part, part.between(2, 9))
        question = part.say(_COUNT, list=", ".join(found))
        return _dialogue(part, "count", question, str(len(found)), _numbered(found))
    if kind == 1:
        word = part.own(lambda: part.any((part.thing, part.made_up, part.name))()[:10])
        return _dialogue(part, "count", part.say(_LETTERS, word=word), str(len(word)), _numbered(list(word)))
    word, *others = part.several(4, part.thing)
    found = [part.any((word, word, *others)) for _ in range(part.between(3, 10))]
    question = part.say(_TIMES, word=word, list=", ".join(found))
    hits = found.count(word)
    return _dialogue(part, "count", question, str(hits), _numbered([word] * hits) or "none")


def _numbered(found: list[str]) -> str:
    return ", ".join(f"{place} {one}" for place, one in enumerate(found, 1))


_CASE = _LEAD + (
    "{write|put|turn|change|give|print} {this|the following|this text|these words} {in|into|with} $case"
    "{| letters| characters}{: |:\n}$text"
)


def case(part: Part) -> Dialogue:
    """Upper case, lower case, or a capital at the head of each word."""
    name, change = part.any((("upper case", str.upper), ("capital", str.upper), ("lower case", str.lower)))
    found = [part.any((part.thing, part.made_up, part.name, part.city))() for _ in range(part.between(1, 6))]
    text = " ".join(one.upper() if name == "lower case" and part.below(0.7) else one for one in found)
    return _dialogue(part, "upper case", part.say(_CASE, case=name, text=text), change(text))


_ORDINALS = ("first", "second", "third", "fourth", "last")
_NTH = _LEAD + (
    "{give|tell me|say|name|print|write} the $which {item|word|entry|one}{| of this list| of these| here}{: |:\n}$list"
)


def nth(part: Part) -> Dialogue:
    """One item of a list by its place."""
    found = alike(part, part.between(4, 8))
    place = part.between(0, 4)
    question = part.say(_NTH, which=_ORDINALS[place], list=", ".join(found))
    return _dialogue(part, "pick from a list", question, found[place if place < 4 else -1])
