"""The table of tasks: how each is drawn, how large its share of training is, and what is expected of it.

Samples are a pure function of (part, seed, place): training can go on where it stopped, and the held-out set is the
same for everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from tools.demo_model.corpus import (
    arithmetic,
    beyond,
    code,
    extraction,
    facts,
    greetings,
    lists,
    stories,
    styles,
    tables,
    tool_calls,
)
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, Message, Sample

Maker: TypeAlias = Callable[[Part], Sample]


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of sample."""

    make: Maker
    share: float = 0.0
    """Samples drawn of it, in proportion to the others; 0 is for what is only asked."""
    goal: float | None = None
    """Share of the held-out questions that are to be answered exactly; None where it is only told."""
    asked: bool = True
    """Whether the held-out set has it."""


def several_topics(part: Part) -> Dialogue:
    """Two or three short dialogues of other tasks in a row; the last alone is learned, the others without thoughts.

    Clients do not send back what was thought, so earlier thoughts are missing, and the next answer still has its own.
    """
    pool: tuple[Maker, ...] = (
        greetings.greeting,
        beyond.beyond,
        lists.copy,
        lists.nth,
        lists.sort,
        arithmetic.arithmetic,
        facts.earlier,
        tables.table,
    )
    short = replace(part, room=part.room // 3)
    drawn = [part.any(pool)(short) for _ in range(part.between(2, 3))]
    *earlier, last = [one for one in drawn if isinstance(one, Dialogue)]
    history = [_without_thought(message) for one in earlier for message in one.messages]
    return replace(last, task="several topics", messages=(*history, *last.messages), last_only=True)


def _without_thought(message: Message) -> Message:
    return {name: value for name, value in message.items() if name != "reasoning_content"}


TASKS: dict[str, Task] = {
    "greeting": Task(greetings.greeting, 2.5),
    "beyond": Task(beyond.beyond, 2),
    "story": Task(stories.story, 1.2),
    "haiku": Task(stories.haiku, 0.5),
    "arithmetic": Task(arithmetic.arithmetic, 12, asked=False),
    "two-digit arithmetic": Task(arithmetic.two_digits, 0, goal=0.9),
    "arithmetic at once": Task(arithmetic.at_once, 3),
    "copy": Task(lists.copy, 12, goal=0.9),
    "reverse": Task(lists.reverse, 4),
    "sort": Task(lists.sort, 4),
    "count": Task(lists.count, 4),
    "upper case": Task(lists.case, 3),
    "pick from a list": Task(lists.nth, 3),
    "style": Task(styles.style, 7, goal=0.85),
    "facts": Task(facts.earlier, 5),
    "recall": Task(facts.recall, 7, asked=False),
    "needle": Task(facts.needle, 0, goal=0.9),
    "extraction": Task(extraction.extraction, 10, goal=0.9),
    "tool choice": Task(tool_calls.choice, 12, goal=0.9),
    "several calls": Task(tool_calls.several, 3),
    "tool result": Task(tool_calls.with_result, 4),
    "no tool fits": Task(tool_calls.none_fits, 3),
    "table": Task(tables.table, 3.5),
    "code": Task(code.completion, 1.5),
    "fill in the middle": Task(code.infill, 2.5),
    "write code": Task(code.written, 1.5),
    "several topics": Task(several_topics, 5),
}
"""By name, in the order in which scores are told."""


class Length(NamedTuple):
    """How often samples have so much room."""

    room: int
    """About how many tokens a sample may take."""
    share: float
    """Samples drawn with it, in proportion to the others."""


Lengths: TypeAlias = tuple[Length, ...]

LONG = 1024
"""Room from which on most samples are of the task that fills it: finding facts again."""
FILLING = 12.0
"""How much larger the share of that task is there."""

_NOTHING: Mapping[str, float] = MappingProxyType({})


def training(seed: int, place: int, lengths: Lengths, more: Mapping[str, float] = _NOTHING) -> Iterator[Sample]:
    """Samples without end for one place of the training; the shares of tasks in `more` are so many times as large."""
    random = Random(f"training {seed} {place}")
    names = list(TASKS)
    shares = [task.share * more.get(name, 1.0) for name, task in TASKS.items()]
    long_shares = [share * FILLING if name == "recall" else share for name, share in zip(names, shares, strict=True)]
    while True:
        (room,) = random.choices([each.room for each in lengths], [each.share for each in lengths])
        (name,) = random.choices(names, long_shares if room >= LONG else shares)
        yield TASKS[name].make(Part(random, room=room))


def held_out(name: str, count: int, seed: int = 0, room: int = 512) -> list[Sample]:
    """So many questions of a task that training never sees. KeyError if there is no such task."""
    part = Part(Random(f"held out {seed} {name}"), held_out=True, room=room)
    return [TASKS[name].make(part) for _ in range(count)]
