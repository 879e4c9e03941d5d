"""Tools: choosing among those given, filling their arguments, several calls, using results, and saying that none fits.

A tool's name is a verb and a thing, or nonsense; what it does stands in its description alone. A request says what is
to be done in the description's words and gives the arguments in any order, so that choice and arguments are both found
by looking, never from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tools.demo_model.corpus import words
from tools.demo_model.corpus.extraction import text_value
from tools.demo_model.corpus.greetings import exchange
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, Message, assistant, calling, result, system, tool, user

NONE_FITS = "None of the tools that I have can do that."


class Parameter(NamedTuple):
    """One argument of a tool, and how to draw a value of it."""

    name: str
    schema: Mapping[str, Any]
    draw: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and the words with which its use is asked for."""

    name: str
    deed: str
    """What it does, as one asks for it: "book a table"."""
    parameters: tuple[Parameter, ...]
    described: str = ""
    """What it does, where the name says it already or the deed alone does not."""

    def definition(self) -> dict[str, Any]:
        """The tool as a request gives it."""
        properties = {one.name: one.schema for one in self.parameters}
        description = self.described or f"{self.deed[:1].upper()}{self.deed[1:]}."
        return tool(self.name, description, properties, list(properties))

    def arguments(self) -> dict[str, Any]:
        """Values for all of them."""
        return {one.name: one.draw() for one in self.parameters}


def _parameter(part: Part, name: str) -> Parameter:
    match part.any(("text", "text", "text", "integer", "integer", "number", "flag", "choice")):
        case "integer":
            return Parameter(name, {"type": "integer"}, lambda: int(part.number(part.between(1, 5))))
        case "number":
            return Parameter(
                name, {"type": "number"}, lambda: float(f"{part.number(part.between(1, 3))}.{part.between(1, 9)}")
            )
        case "flag":
            return Parameter(name, {"type": "boolean"}, lambda: part.below(0.5))
        case "choice":
            options = part.several(part.between(2, 4), part.thing)
            return Parameter(name, {"type": "string", "enum": options}, lambda: part.any(options))
        case _:
            return Parameter(name, {"type": "string"}, lambda: text_value(part))


def _label(part: Part) -> str:
    return part.pick(words.LABELS) if part.below(0.7) else part.made_up()


def _parameters(part: Part, most: int) -> tuple[Parameter, ...]:
    """None to so many; mostly one or two."""

    def name() -> str:
        return f"{_label(part)}_{_label(part)}" if part.below(0.25) else _label(part)

    count = part.any((*range(most + 1), 1, 2))
    return tuple(_parameter(part, one) for one in part.several(count, name))


def _arbitrary(part: Part) -> Tool:
    """A verb and a thing, or nonsense; any parameters."""
    verb, thing = part.pick(words.VERBS), part.pick(words.OBJECTS)
    deed = part.any((f"{verb} the {thing}", f"{verb} a {thing}", f"{verb} {thing}s"))
    named = (f"{verb}_{thing}", f"{verb}_{thing}", f"{verb}{thing.capitalize()}", f"{thing}_{verb}", part.made_up(),
             f"{part.made_up()}_{part.made_up()}")  # fmt: skip
    return Tool(part.any(named), deed, _parameters(part, 3))


def _weather(part: Part) -> Tool:
    name = part.any(("get_weather", "weather", "get_current_weather", "weather_now", f"weather_{part.made_up()}"))
    place = Parameter(part.any(("city", "location", "place")), {"type": "string"}, part.city)
    described = ("Get the current weather of a city.", "Get the weather in a place.", "Current weather.")
    return Tool(name, "get the weather", (place,), part.any(described))


def _clock(part: Part) -> Tool:
    name = part.any(("get_time", "current_time", "clock", f"time_{part.made_up()}"))
    place = Parameter(part.any(("city", "location", "timezone")), {"type": "string"}, part.city)
    return Tool(name, "get the time", (place,), part.any(("Get the time in a city.", "What time it is somewhere.")))


_IN_PLACE = {
    "get the weather": "{|please |hi, |hello, |tell me, }{what is the weather {|like }in|how is the "
    "weather in|get the weather of|what will "
    "the weather be in|I need the weather in|weather in} $place{?|?|, please|, please?| today?| now?}",
    "get the time": "{|please |hi, |hello, |tell me, }{what time is it in|what is the time in|get "
    "the time in|how late is it in|I need the "
    "time in|time in} $place{?|?|, please|, please?| now?}",
}

_LEAD = "{|please |can you |could you |I want you to |I need you to |now |hi, |help me to }"
_JOIN = (
    "{name} {value}",
    "{name} {value}",
    "{name} = {value}",
    "{name}: {value}",
    "the {name} {value}",
    "{name} is {value}",
)


def ask(part: Part, one: Tool, arguments: Mapping[str, Any]) -> str:
    """A request that only this tool serves, with these arguments."""
    if one.deed in _IN_PLACE:
        (place,) = arguments.values()
        return part.say(_IN_PLACE[one.deed], place=place)
    deed = part.any((one.deed, one.deed, one.deed, f"use {one.name}"))
    if not arguments:
        return part.say(_LEAD + "$deed{.|, please.|!|| now.}", deed=deed)
    style = part.any(_JOIN)
    given = list(arguments.items())
    if part.below(0.3):
        part.random.shuffle(given)
    said = [style.format(name=name.replace("_", " "), value=_spoken(value)) for name, value in given]
    listed = part.any((", ", ", ", " and ", "; ")).join(said)
    joint = part.any((" {with|using|for|where} $arguments", "{: |, }$arguments"))
    return part.say(_LEAD + "$deed" + joint + "{|.|, please.}", deed=deed, arguments=listed)


def _spoken(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _handled(one: Tool) -> str:
    """The thing that a tool handles, be it one or several."""
    return one.deed.split()[-1].removesuffix("s")


def toolbox(part: Part, most: int | None = None) -> list[Tool]:
    """Tools with different names and deeds."""
    most = most or (2 if part.room < 400 else 4 if part.room < 900 else 8)
    found: list[Tool] = []
    for _ in range(part.between(1, most)):
        one = part.any((_arbitrary, _arbitrary, _arbitrary, _arbitrary, _weather, _clock))(part)
        # Two that handle the same thing are told apart by their verbs alone: hard enough with others, too hard alone.
        if all(one.name != other.name and _handled(one) != _handled(other) for other in found):
            found.append(one)
    return found


def _dialogue(part: Part, task: str, tools: list[Tool], talk: list[Message], **options: Any) -> Dialogue:
    head = [
        system(
            part.say(
                "{you are|be|act as} {a|my|our} {helpful|careful|friendly|polite|quick} {assistant|"
                "helper|agent|clerk}{.|!| with tools.}"
            )
        )
    ]
    messages = (*(head if part.below(0.25) else ()), *talk)
    return Dialogue(task, messages, tuple(one.definition() for one in tools), thinks=part.below(0.6), **options)


def choice(part: Part) -> Dialogue:
    """One call of the right tool with the right arguments."""
    tools = toolbox(part)
    one = part.any(tools)
    arguments = one.arguments()
    talk = [
        *(exchange(part) if part.below(0.15) else ()),
        user(ask(part, one, arguments)),
        calling((one.name, arguments)),
    ]
    return _dialogue(part, "tool choice", tools, talk, check="calls")


def several(part: Part) -> Dialogue:
    """Two or three calls at once, of one tool or of different ones."""
    tools = toolbox(part)
    wanted = [part.any(tools) for _ in range(part.any((2, 2, 3)))]
    calls = [(one, one.arguments()) for one in wanted]
    joint = part.any((" ", " Then: ", " Also: ", "\n"))
    text = joint.join(ask(part, one, arguments) for one, arguments in calls)
    talk = [user(text), calling(*((one.name, arguments) for one, arguments in calls))]
    return _dialogue(part, "several calls", tools, talk, check="calls")


def reported(values: Mapping[str, Any]) -> str:
    """A tool's result in words."""
    told = [f"the {name.replace('_', ' ')} is {_spoken(value)}" for name, value in values.items()]
    text = ", ".join(told[:-1]) + (" and " if len(told) > 1 else "") + told[-1]
    return f"{text[:1].upper()}{text[1:]}."


def with_result(part: Part) -> Dialogue:
    """A call, what it gave, and what that means."""
    tools = toolbox(part, 3 if part.room >= 400 else 1)
    one = part.any(tools)
    arguments = one.arguments()
    values = {other.name: other.draw() for other in _parameters(part, 3)} or {"result": text_value(part)}
    talk = [
        user(ask(part, one, arguments)),
        calling((one.name, arguments)),
        result(values),
        assistant(reported(values)),
    ]
    return _dialogue(part, "tool result", tools, talk)


def none_fits(part: Part) -> Dialogue:
    """A request that no tool serves, or no request at all."""
    missing, *tools = [*part.several(1, lambda: _arbitrary(part)), *toolbox(part)]
    tools = [one for one in tools if _handled(one) != _handled(missing) and one.name != missing.name]
    tools = tools or [_weather(part)]
    if part.below(0.3):
        return _dialogue(part, "no tool fits", tools, exchange(part))
    # Asked for by its deed: a name would say that there is such a tool.
    stranger = Tool("", missing.deed, missing.parameters)
    text = ask(part, stranger, stranger.arguments())
    if "use " in text.lower():
        return none_fits(part)
    return _dialogue(part, "no tool fits", tools, [user(text), assistant(NONE_FITS)])
