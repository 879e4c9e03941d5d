"""Extracting the fields of a text as JSON, by a schema or by their names.

Keys are of a language or of none, fields come in any order and among others that nobody asked for, so that the text is
the only place to find them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tools.demo_model.corpus import words
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, assistant, system, user

_IS = (
    "{the|its|the} $label {is|was|will be|equals} $value.|$label: $value.|{the|its} $label{, it "
    "says,|, I hear,| of this} is $value."
)


def _age(part: Part) -> int:
    return part.between(18, 99)


def _few(part: Part) -> int:
    return part.between(2, 99)


def _hour(part: Part) -> int:
    return part.between(0, 23)


def _day(part: Part) -> str:
    return part.any(words.DAYS)


def _job(part: Part) -> str:
    return part.pick(words.JOBS)


class Field(NamedTuple):
    """A key, what is said of it, and what becomes of that in JSON."""

    key: str
    schema: Mapping[str, Any]
    sentence: str
    value: Any

    @property
    def label(self) -> str:
        """The key, in words."""
        return self.key.replace("_", " ")


def key(part: Part) -> str:
    """One or two words, joined by an underscore."""
    first = part.pick(words.LABELS) if part.below(0.65) else part.made_up()
    if part.below(0.4):
        return f"{first}_{part.pick(words.LABELS) if part.below(0.6) else part.made_up()}"
    return first


def text_value(part: Part) -> str:
    """What a field of text may hold."""
    draws: tuple[Callable[[], str], ...] = (
        part.name, part.full_name, part.city, part.thing, part.made_up, part.code,
        lambda: f"{part.any(words.ADJECTIVES)} {part.thing()}",
        lambda: f"{part.between(1, 28)} {part.any(words.MONTHS)} {part.number(4)}",
    )  # fmt: skip
    return part.any(draws)()


def field(part: Part, name: str) -> Field:
    """A field of some type, and the sentence that gives it."""
    label = name.replace("_", " ")
    kind = part.any(("text", "text", "text", "integer", "integer", "number", "flag", "choice", "list"))
    match kind:
        case "integer":
            value: Any = int(part.number(part.between(1, 6)))
            schema: dict[str, Any] = {"type": "integer"}
        case "number":
            value, schema = float(f"{part.number(part.between(1, 3))}.{part.between(1, 9)}"), {"type": "number"}
        case "flag":
            value, schema = part.below(0.5), {"type": "boolean"}
            sentence = part.say(
                "{{the|its|this} $label is $value.|it is $value that it is $label.|$label: $value."
                "|{the|its|this|a} {field|mark|switch} $label {is|was} $value.}",
                label=label,
                value="yes" if value else "no",
            )
            return Field(name, schema, sentence, value)
        case "choice":
            options = part.several(part.between(2, 4), part.thing)
            value, schema = part.any(options), {"type": "string", "enum": options}
        case "list":
            value = part.several(part.between(2, 4), part.any((part.thing, part.name, part.made_up)))
            schema = {"type": "array", "items": {"type": "string"}}
        case _:
            value, schema = text_value(part), {"type": "string"}
    written = " and ".join(filter(None, (", ".join(value[:-1]), value[-1]))) if isinstance(value, list) else str(value)
    return Field(name, schema, part.say("{" + _IS + "}", label=label, value=written), value)


_PROSE: tuple[tuple[str, Mapping[str, Callable[[Part], Any]]], ...] = (
    (
        (
            "{|meet |this is |here is |I know }$name{, who| who|: this person} is $age years old, lives "
            "in $city and works as $job."
        ),
        {"name": Part.full_name, "age": _age, "city": Part.city, "job": _job},
    ),
    (
        (
            "{|today |yesterday |last week |now }$customer {bought|ordered|paid for|took} $quantity "
            "$item for $price euros{.| in all.| together.}"
        ),
        {"customer": Part.name, "quantity": _few, "item": Part.thing, "price": _few},
    ),
    (
        (
            "{the|our|a} {meeting|talk|concert|class} $title {is|takes place|will be|begins} in $place "
            "on $day at $hour o'clock{.|, please.| sharp.}"
        ),
        {"title": Part.made_up, "place": Part.city, "day": _day, "hour": _hour},
    ),
)
"""What people write: a sentence, and how to draw what it says."""


def prose(part: Part) -> list[Field]:
    """A sentence as people write it, with its fields; the first field has the sentence."""
    form, draws = part.any(_PROSE)
    values = {name: draw(part) for name, draw in draws.items()}
    sentence = part.say(form, **values)
    kinds = {name: {"type": "integer" if isinstance(value, int) else "string"} for name, value in values.items()}
    names = list(values)
    return [Field(name, kinds[name], sentence * (name == names[0]), values[name]) for name in names]


def fields(part: Part, count: int) -> list[Field]:
    """So many fields with different keys."""
    return [field(part, name) for name in part.several(count, lambda: key(part))]


def schema_of(wanted: list[Field]) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": {one.key: dict(one.schema) for one in wanted},
        "required": [one.key for one in wanted],
        "additionalProperties": False,
    }


_BY_SCHEMA = (
    "{|please |now |can you }{extract|read|take|get} {the {data|fields|facts|values}|what is asked "
    "for|everything}{| from this text| below}"
    " as JSON {by|with|following|that fits} this schema{: |:\n}$schema\n\n{|Text: |Text:\n}$text"
)
_SYSTEM = (
    "{|please |always |now }{extract|answer with|write|give} {the {data|fields|facts|values}|JSON|"
    "one JSON object} of {what the user says|the "
    "user's text|each text}, {by|with|following} this schema{: |:\n}$schema"
)
_BY_NAME = (
    "{|please |now |can you }{extract|read|take|get|find|give me} $keys {from|of|in} {this text|"
    "what follows|the text below} as JSON"
    "{: |:\n}$text"
)


def extraction(part: Part) -> Dialogue:
    """Some of the fields of a text, in the order of the schema."""
    limit = 6 if part.room >= 400 else 3
    told = prose(part) if part.below(0.25) else fields(part, part.between(1, limit))
    wanted = part.random.sample(told, part.between(1, len(told)))
    text = " ".join(filter(None, (one.sentence for one in told)))
    if part.below(0.3):
        text = (
            part.say(
                "{this is|here is|note:|about|it is} {the|a|our|my} {new|old|next|other} $thing{.|:|, then.}",
                thing=part.thing(),
            )
            + " "
            + text
        )
    schema = schema_of(wanted)
    written = json.dumps(schema, ensure_ascii=False, indent=2 if part.below(0.15) else None)
    match part.between(0, 3):
        case 0:
            asked = [system(part.say(_SYSTEM, schema=written)), user(text)]
        case 1:
            names = ", ".join(one.key for one in wanted)
            asked = [user(part.say(_BY_NAME, keys=names, text=text))]
        case _:
            asked = [user(part.say(_BY_SCHEMA, schema=written, text=text))]
    answer = json.dumps({one.key: one.value for one in wanted}, ensure_ascii=False)
    return Dialogue("extraction", (*asked, assistant(answer)), check="json", thinks=part.below(0.5), schema=schema)
