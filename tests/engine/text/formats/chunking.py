"""What every format has to hold to, whatever its marks: read in pieces, an answer gives the events it gives as a whole.

EXAMPLES = [Example("two calls", "<tool_call>…", [*call(0, "f", {"x": 1}), *call(1, "g", {})])]

@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_answers_are_read(example):
    check(example, lambda: HERMES.parser(TOOLS))
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quire_engine.text.formats.base import Parser, Tool
from quire_engine.text.formats.events import (
    CallArguments,
    CallBegan,
    CallBroken,
    CallEnded,
    Content,
    Event,
    Reasoning,
    joined,
)

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "metric": {"type": "boolean"}},
    "required": ["city"],
}
TOOLS = (
    Tool("get_weather", CITY),
    Tool("search", {"type": "object", "properties": {"query": {"type": "string"}, "filters": {"type": "object"}}}),
    Tool("now", {}),
)

TEXTS = [
    "Hello.",
    "Let me look.\n\nIt is",
    "a < b",
    "日本語 ✓ 🙂",
    "x = [1, {2}]",
    'He said "no" \\ so',
    "<b>bold</b>",
    "\n",
]
"""Text that has no format's marks, but what they are made of."""
VALUES: list[Any] = [
    "Kyoto",
    "",
    'quotes " and \\ and / and \n and \t',
    "日本語 🙂 é",
    "<b>&amp;</b> {x} [y]",
    "it's, 1: 2",
    0,
    -12,
    3.5,
    1e-9,
    True,
    False,
    None,
    [],
    {},
    [1, "two", [3.0, None]],
    {"a": {"b": [{"c": "}"}]}, "ü": "]"},
]
"""What arguments are made of."""


@dataclass(frozen=True)
class Example:
    """What a model wrote, and what that is."""

    name: str
    text: str
    events: Sequence[Event]

    def __str__(self) -> str:
        return self.name


def call(index: int, name: str, arguments: Any = None, id: str | None = None) -> list[Event]:
    """The events of one complete call, with arguments as text, or as the object that they mean."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return [CallBegan(index, name, id), CallArguments(index, text), CallEnded(index)]


def no_call(name: str, text: str) -> Example:
    """An answer that begins like a call and is none, which is told and is content all the same."""
    return Example(name, text, [CallBroken(0, ""), Content(text)])


def calls_of(events: Iterable[Event]) -> list[tuple[str, Any]]:
    """The calls that ended: what is called, and with what."""
    calls: list[tuple[str, Any]] = []
    name, text = "", ""
    for event in events:
        match event:
            case CallBegan():
                name, text = event.name, ""
            case CallArguments():
                text += event.text
            case CallEnded():
                calls.append((name, json.loads(text)))
    return calls


def text_of(events: Iterable[Event]) -> str:
    """The content."""
    return "".join(event.text for event in events if isinstance(event, Content))


def check_random_answers(
    write: Callable[[Sequence[tuple[str, Any]], random.Random], str],
    parser: Callable[[], Parser],
    *,
    text: Sequence[str] = ("", *TEXTS),
    values: Sequence[Any] = VALUES,
    rounds: int = 150,
) -> None:
    """Any calls, with any of these texts before, are read as what they are, in any pieces.

    `write` is how a model would write calls with these names and arguments.
    """
    for seed in range(rounds):
        rng = random.Random(seed)
        names = [tool.name for tool in TOOLS]
        calls = [(rng.choice(names), random_arguments(rng, values)) for _ in range(rng.randrange(1, 4))]
        before = rng.choice(text)
        written = before + write(calls, rng)
        if seed < 5:
            events = check_any_cut(written, parser, times=20)
        else:
            pieces = [*cuts(written, rng, times=7, pairs=False)]
            events, *others = (read(parser(), each) for each in pieces)
            assert all(each == events for each in others)
        assert calls_of(events) == calls
        assert text_of(events) == before.rstrip()


def written(value: Any, rng: random.Random) -> str:
    """A value as JSON, in one of the ways in which models write it."""
    style: dict[str, Any] = rng.choice([{}, {"indent": 2}, {"separators": (",", ":")}])
    return json.dumps(value, ensure_ascii=rng.random() < 0.3, **style)


def random_arguments(rng: random.Random, values: Sequence[Any] = VALUES) -> dict[str, Any]:
    """The arguments of a call."""
    keys = ("city", "days", "x_1", "größe")
    return {key: rng.choice(values) for key in rng.sample(keys, rng.randrange(len(keys) + 1))}


def read(parser: Parser, pieces: Iterable[str]) -> list[Event]:
    """All events of an answer that comes in these pieces."""
    events: list[Event] = []
    for piece in pieces:
        events += parser.push(piece)
    return joined([*events, *parser.finish()])


def cuts(text: str, rng: random.Random, *, times: int = 40, pairs: bool = True) -> Iterator[list[str]]:
    """The text letter by letter, in any two pieces, and in random ones."""
    yield list(text)
    for place in range(1, len(text) if pairs else 1):
        yield [text[:place], text[place:]]
    for _ in range(times):
        places = sorted(rng.sample(range(len(text) + 1), min(len(text), rng.randrange(1, 12))))
        yield [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def check_any_cut(text: str, parser: Callable[[], Parser], *, times: int = 40) -> list[Event]:
    """The events of a text, which are the same however it is cut, and hold to what events promise."""
    whole = read(parser(), [text])
    for pieces in cuts(text, random.Random(text), times=times):
        assert read(parser(), pieces) == whole, f"cut as {pieces}"
    check_promises(whole)
    return whole


def check(example: Example, parser: Callable[[], Parser]) -> None:
    """The example is read as what it is, however it is cut; cut off anywhere, it still is what events promise."""
    assert [told(event) for event in check_any_cut(example.text, parser)] == [*map(told, joined(example.events))]
    for place in range(len(example.text)):
        check_promises(read(parser(), [example.text[:place]]))


def told(event: Event) -> Event:
    """The event without what examples do not state: the reason of a broken call is a sentence, and not compared."""
    return replace(event, reason="") if isinstance(event, CallBroken) else event


def check_promises(events: Sequence[Event]) -> None:
    """Calls are numbered from 0, begin and end one after the other, and those that ended have an object's JSON."""
    index = 0
    arguments: str | None = None
    for place, event in enumerate(events):
        match event:
            case Content() | Reasoning():
                assert arguments is None, "text within a call"
                assert event.text
            case CallBegan():
                assert arguments is None, "a call within a call"
                assert event.index == index
                assert event.name
                arguments = ""
            case CallArguments():
                assert arguments is not None, "arguments of no call"
                assert event.index == index
                arguments += event.text
            case CallEnded():
                assert event.index == index
                assert isinstance(json.loads(arguments or "", parse_constant=no_constant), dict)
                index, arguments = index + 1, None
            case CallBroken():
                assert event.index == index
                assert event.reason.endswith(".")
                assert all(isinstance(each, Content) for each in events[place + 1 :]), "behind a broken call is text"
                arguments = None
    assert arguments is None, "a call that neither ended nor broke"


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")
