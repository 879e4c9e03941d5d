"""What an answer turns out to be made of, piece by piece. It knows no format and no wire.

The events of an answer do not depend on how its text was cut: `joined` makes equal what is equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Content:
    """More of the answer itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegan:
    """A call, and what it calls. Its arguments follow."""

    index: int
    """Which call of the answer this is, from 0."""
    name: str
    id: str | None = None
    """The call's own id, where its format has one."""


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of a call's arguments. All pieces of a call that ended, put together, are one JSON object."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is complete: its arguments parse."""

    index: int


@dataclass(frozen=True, slots=True)
class CallBroken:
    """A call began and cannot be completed: what is there is no call. The last event of its answer's calls.

    Only Content may follow: what looked like the beginning of one, and all behind it, where nothing was told of it yet.
    """

    index: int
    reason: str
    """What is wrong, as a sentence."""


Event: TypeAlias = Content | Reasoning | CallBegan | CallArguments | CallEnded | CallBroken


def joined(events: Iterable[Event]) -> list[Event]:
    """The same events, with neighbours of a kind that go on from one another made one, and empty ones left out."""
    whole: list[Event] = []
    for event in events:
        if isinstance(event, Content | Reasoning | CallArguments):
            if not event.text:
                continue
            last = whole[-1] if whole else None
            if type(last) is type(event) and replace(last, text="") == replace(event, text=""):
                whole[-1] = replace(event, text=last.text + event.text)
                continue
        whole.append(event)
    return whole
