"""Writes grammars down as llguidance reads them: Lark, with marks as tokens. It knows a tokenizer, and no format.

Free text has to end where a mark begins, and llguidance's lexer takes the longest piece and never goes back. So text
beside marks is written in pieces that are told apart by the characters that marks begin with:

    OTHER    a run without any such character
    PARTED   the beginning of a mark, and a character that parts it from all marks
    BEGUN    the beginning of a mark, and no more: behind it another one begins, or the text ends
    LAST     such a beginning that a mark's first character would complete: behind it the text ends

    text:    (OTHER | BEGUN* PARTED)* BEGUN* LAST?
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from quire_engine.text.grammar.json_schema import COMPACT, Document, JsonStyle
from quire_engine.text.grammar.patterns import as_terminal, check_unicode
from quire_engine.text.tokenizer import Tokenizer


class GrammarText:
    """A grammar in the making, for the vocabulary of one tokenizer. It implements `formats.base.Notation`."""

    def __init__(self, tokenizer: Tokenizer, *, style: JsonStyle = COMPACT) -> None:
        """JSON is written in this `style`."""
        self._tokens = tokenizer.marks
        self._cuts = re.compile("|".join(map(re.escape, sorted(self._tokens, key=len, reverse=True))) or r"(?!)")
        self._style = style
        self.documents: list[Document] = []
        """The schemas that were written, in their order."""
        self._names: dict[str, str] = {}  # by definition, so that equal ones are written once

    def text(self, literal: str) -> str:
        """This very text; marks in it that are tokens are those tokens."""
        check_unicode(literal, f"The text {literal!r}")
        parts: list[str] = []
        end = 0
        for found in self._cuts.finditer(literal):
            parts += _quoted(literal[end : found.start()])
            parts.append(f"<[{self._tokens[found.group()]}]>")
            end = found.end()
        parts += _quoted(literal[end:])
        if not parts:
            return '""'
        return f"({' '.join(parts)})" if len(parts) > 1 else parts[0]

    def json(self, schema: Mapping[str, Any] | bool, *, pointer: str = "") -> str:
        """JSON that satisfies a schema. GrammarError, with the JSON pointer, for what cannot be enforced.

        Pointers begin with `pointer`: where the schema stands itself.
        """
        document = Document(schema, self._style, pointer)
        self.documents.append(document)
        return self.rule(f"%json {json.dumps(document.enforced, ensure_ascii=False)}")

    def regex(self, pattern: str) -> str:
        """Text that matches a regular expression, as a whole. GrammarError for what cannot be enforced."""
        return self._terminal(as_terminal(pattern))

    def one_of(self, literals: Sequence[str]) -> str:
        """One of these texts, letter by letter: marks in them are text. GrammarError for what is no Unicode."""
        for literal in literals:
            check_unicode(literal, f"The choice {literal!r}")
        return self.rule(" | ".join(_quoted(literal)[0] if literal else '""' for literal in literals))

    def grammar(self, lark: str) -> str:
        """What a whole grammar says, with names of its own."""
        return self.rule(f"%lark {{\n{lark}\n}}")

    def until(self, *marks: str) -> str:
        """Any text up to the first place where one of these marks stands, and the mark."""
        return f"({self.any_text(but=marks)} ({' | '.join(map(self.text, marks))}))"

    def any_text(self, *, but: Sequence[str] = ()) -> str:
        """Any text, as long as the answer goes on, in which none of these marks stands: no token, and no other way."""
        marks = _apart(but)
        if not marks:
            return f"{self._terminal('/(?s:.+)/')}?"
        begun, last, parted = (self._terminal(f"/{piece}/") if piece else '""' for piece in _pieces(marks))
        other = self._terminal(f"/[^{_class({mark[0] for mark in marks})}]+/")
        return self.rule(f"({other} | {begun}* {parted})* {begun}* {last}?")

    def rule(self, expression: str) -> str:
        """The expression as a rule of its own, by its name."""
        return self._named(expression, "r")

    def whole(self, expression: str) -> str:
        """The complete text of the grammar whose answers are this expression."""
        lines = ["%llguidance {}", f"start: {expression}"]
        lines += [f"{name}: {definition}" for definition, name in self._names.items()]
        return "\n".join(lines) + "\n"

    def _terminal(self, definition: str) -> str:
        """A piece that the lexer reads as one."""
        return self._named(definition, "T")

    def _named(self, definition: str, letter: str) -> str:
        return self._names.setdefault(definition, f"{letter}{len(self._names)}")


def _quoted(text: str) -> list[str]:
    """The text as a literal of the notation; nothing for no text."""
    return [json.dumps(text, ensure_ascii=False)] if text else []


def _apart(marks: Sequence[str]) -> list[str]:
    """The marks, or their beginnings, such that none begins within the beginning of another.

    Then a piece that is the beginning of a mark hides no other mark. Where a mark has to be shortened for this, text
    has a little less than it might: not even that beginning.
    """
    first = {mark[0] for mark in marks}
    shortened = set()
    for mark in marks:
        inner = next((place for place in range(1, len(mark)) if mark[place] in first), len(mark))
        shortened.add(mark[: inner + 1])
    return sorted(mark for mark in shortened if not any(mark != less and mark.startswith(less) for less in shortened))


def _pieces(marks: Sequence[str]) -> tuple[str, str, str]:
    """Regular expressions of the pieces BEGUN, LAST and PARTED; empty for what these marks have none of."""
    first = {mark[0] for mark in marks}
    begun: list[str] = []
    last: list[str] = []
    parted: list[str] = []
    for beginning in sorted({mark[:length] for mark in marks for length in range(1, len(mark))}):
        follows = {mark[len(beginning)] for mark in marks if mark.startswith(beginning)}
        (last if follows & first else begun).append(_escaped(beginning))
        parted.append(f"{_escaped(beginning)}[^{_class(follows | first)}]")
    return "|".join(begun), "|".join(last), "|".join(parted)


def _class(characters: set[str]) -> str:
    return "".join(map(_escaped, sorted(characters)))


def _escaped(text: str) -> str:
    """The text as part of a regular expression between slashes."""
    return "".join(character if character.isalnum() else f"\\x{{{ord(character):x}}}" for character in text)
