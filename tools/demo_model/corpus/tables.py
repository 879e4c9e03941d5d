"""Tables as text: what a cell holds, which row is at the top, and what the table is made of."""

from __future__ import annotations

from tools.demo_model.corpus import words
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, Message, assistant, user

_CELL = "{what is|what was|give me|tell me|look up} the $column of $row{?|?|, please?}"
_SIZE = (
    "{how many rows|how many entries|how many lines} {does the table have|are there|are in the "
    "table|do you see}{?|?|, please?}"
)
_TOP = "{which|what} $head has the {highest|largest|greatest} $column{?|?|, please?| here?| of all?}"
_DESCRIBE = (
    "{describe|summarise|tell me about|explain|sum up} {the table|this table|it}{.|.|, please.| in short.| briefly.}"
)
_HERE = "{here is|this is|look at|read|see} {a|the|this|my|our} {table|list|sheet}{:|.|, please:}\n$table"


def _written(part: Part, rows: list[list[str]]) -> str:
    match part.between(0, 3):
        case 0:
            return "\n".join(",".join(row) for row in rows)
        case 1:
            head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
            return "\n".join((head, "|" + "---|" * len(rows[0]), *rest))
        case 2:
            return "\n".join("\t".join(row) for row in rows)
        case _:
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            return "\n".join(
                "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
            )


def table(part: Part) -> Dialogue:
    """A table and one to four questions about it."""
    most = 3 if part.room < 400 else 7
    columns = part.several(part.between(2, 4), lambda: part.pick(words.LABELS))
    keys = part.several(part.between(2, most), part.any((part.name, part.thing, part.city, part.made_up)))
    kinds = [part.any(("number", "number", "word", "code")) for _ in columns[1:]]
    rows = [[key, *(_cell(part, kind) for kind in kinds)] for key in keys]
    talk: list[Message] = []
    for _ in range(part.between(1, 4)):
        talk += _question(part, columns, kinds, rows)
    shown = part.say(_HERE, table=_written(part, [columns, *rows]))
    talk[0] = user(f"{shown}\n\n{talk[0]['content']}")
    return Dialogue("table", tuple(talk), thinks=part.below(0.6))


def _cell(part: Part, kind: str) -> str:
    return {"number": lambda: part.number(part.between(1, 3)), "word": part.thing, "code": part.code}[kind]()


def _question(part: Part, columns: list[str], kinds: list[str], rows: list[list[str]]) -> list[Message]:
    head, *others = columns
    place = part.between(1, len(others))
    column, row = columns[place], part.any(rows)
    dice = part.between(0, 9)
    numbers = [int(each[place]) for each in rows] if kinds[place - 1] == "number" else []
    if dice == 0:
        return [user(part.say(_SIZE)), assistant(str(len(rows)))]
    if dice == 1:
        named = ", ".join(columns)
        return [
            user(part.say(_DESCRIBE)),
            assistant(f"The table has {len(rows)} rows and {len(columns)} columns: {named}."),
        ]
    if dice == 2 and numbers.count(max(numbers, default=0)) == 1:
        best = rows[numbers.index(max(numbers))]
        return [user(part.say(_TOP, head=head, column=column)), assistant(f"{best[0]}, with {best[place]}.")]
    return [user(part.say(_CELL, column=column, row=row[0])), assistant(f"The {column} of {row[0]} is {row[place]}.")]
