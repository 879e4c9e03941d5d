"""Structural tags as grammars: free text in which marked parts follow a form. Both spellings that requests use.

The words are xgrammar's (`xgrammar.structural_tag`, version 0.2.8); the older spelling is the one with `structures`
and `triggers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.json_schema import check_depth
from quire_engine.text.grammar.notation import GrammarText
from quire_engine.text.grammar.patterns import as_lark


def structural_tag(text: str, notation: GrammarText) -> str:
    """The expression of answers that follow this structural tag. GrammarError, with the JSON pointer, for others."""
    try:
        tag = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"The structural tag is no JSON: {error}.") from error
    check_depth(tag, "structural tag", "")
    writer = _Writer(notation)
    match tag:
        case {"structures": [*structures], "triggers": [*triggers]}:
            return writer.triggered(_of_older_spelling(structures, triggers), "", ())
        case {"format": inner}:
            return writer.write(inner, "/format", ())
    raise GrammarError("A structural tag has a format, or structures and triggers; this has neither.")


def _of_older_spelling(structures: Sequence[Any], triggers: Sequence[Any]) -> dict[str, Any]:
    """The same as triggered tags."""
    tags = [
        {
            "begin": structure.get("begin"),
            "content": {"type": "json_schema", "json_schema": structure.get("schema") or {}},
            "end": structure.get("end"),
        }
        for structure in structures
        if isinstance(structure, Mapping)
    ]
    return {"triggers": list(triggers), "tags": tags}


class _Writer:
    """Writes formats as expressions. `behind` are texts that may follow, where free text has to end."""

    def __init__(self, notation: GrammarText) -> None:
        self._notation = notation
        self._kinds: Mapping[str, Callable[[Mapping[str, Any], str, tuple[str, ...]], str]] = {
            "const_string": self._const_string,
            "json_schema": self._json_schema,
            "any_text": self._any_text,
            "regex": self._regex,
            "grammar": self._grammar,
            "sequence": self._sequence,
            "or": self._or,
            "tag": self._tag,
            "triggered_tags": self.triggered,
            "tags_with_separator": self._separated,
            "optional": self._optional,
            "plus": self._plus,
            "star": self._star,
        }

    def write(self, form: Any, at: str, behind: tuple[str, ...]) -> str:
        """The expression of one format."""
        kind = form.get("type") if isinstance(form, Mapping) else None
        if not isinstance(kind, str) or kind not in self._kinds:
            raise self._fault(at, f"the format {kind!r} is not known here: use one of {', '.join(sorted(self._kinds))}")
        return self._kinds[kind](form, at, behind)

    def triggered(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        """Free text; behind each trigger one of the tags that begin with it."""
        triggers = self._texts(form, "triggers", at)
        tags = self._tags(form, at)
        if not triggers:
            raise self._fault(f"{at}/triggers", "there has to be one at least")
        for place, tag in enumerate(tags):
            begin = self._text(tag, "begin", f"{at}/tags/{place}")
            if sum(begin.startswith(trigger) for trigger in triggers) != 1:
                raise self._fault(
                    f"{at}/tags/{place}/begin", f"{begin!r} has to begin with exactly one of the triggers"
                )
        excluded = self._texts(form, "excludes", at) if "excludes" in form else ()
        free = self._notation.any_text(but=(*triggers, *excluded, *behind))
        one = self._one_of(tags, f"{at}/tags", behind)
        if form.get("stop_after_first"):
            return f"({free} {one})" if form.get("at_least_one") else f"({free} {one}?)"
        return f"({free} ({one} {free}){'+' if form.get('at_least_one') else '*'})"

    def _separated(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        tags = self._tags(form, at)
        separator = self._text(form, "separator", at)
        one = self._one_of(tags, f"{at}/tags", (separator, *behind) if separator else behind)
        several = one if form.get("stop_after_first") else f"({one} ({self._notation.text(separator)} {one})*)"
        return several if form.get("at_least_one") else f"({several})?"

    def _one_of(self, tags: Sequence[Mapping[str, Any]], at: str, behind: tuple[str, ...]) -> str:
        written = [self._tag(tag, f"{at}/{place}", behind) for place, tag in enumerate(tags)]
        return self._notation.rule(" | ".join(written))

    def _tag(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        begin = self._text(form, "begin", at)
        ends = [form["end"]] if isinstance(form.get("end"), str) else list(self._texts(form, "end", at))
        if not ends:
            raise self._fault(f"{at}/end", "there has to be one at least")
        marks = tuple(end for end in ends if end) or behind
        content = self.write(form.get("content"), f"{at}/content", marks)
        closing = " | ".join(self._notation.text(end) for end in ends)
        return f"({self._notation.text(begin)} {content} ({closing}))"

    def _const_string(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        return self._notation.text(self._text(form, "value", at))

    def _json_schema(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        if form.get("style", "json") != "json":
            raise self._fault(f"{at}/style", f"{form['style']!r} is not known here: use json")
        schema = form.get("json_schema")
        if not isinstance(schema, Mapping | bool):
            raise self._fault(f"{at}/json_schema", "a schema is an object, true or false")
        return self._notation.json(schema, pointer=f"{at}/json_schema")

    def _any_text(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        for limit in ("max_tokens", "max_chars"):
            if form.get(limit) is not None:
                raise self._fault(f"{at}/{limit}", "free text has no limit of its own here: use regex, or max_tokens")
        excluded = self._texts(form, "excludes", at) if "excludes" in form else ()
        return self._notation.any_text(but=(*excluded, *behind))

    def _regex(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        return self._notation.regex(self._text(form, "pattern", at))

    def _grammar(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        return self._notation.grammar(as_lark(self._text(form, "grammar", at)))

    def _sequence(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        elements = self._elements(form, at)
        written = []
        for place, element in enumerate(elements):
            following = _begins(elements[place + 1]) if place + 1 < len(elements) else behind
            written.append(self.write(element, f"{at}/elements/{place}", following))
        return f"({' '.join(written)})"

    def _or(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        elements = enumerate(self._elements(form, at))
        written = [self.write(element, f"{at}/elements/{place}", behind) for place, element in elements]
        return f"({' | '.join(written)})"

    def _optional(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        return f"({self.write(form.get('content'), f'{at}/content', behind)})?"

    def _plus(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        return f"({self.write(form.get('content'), f'{at}/content', behind)})+"

    def _star(self, form: Mapping[str, Any], at: str, behind: tuple[str, ...]) -> str:
        return f"({self.write(form.get('content'), f'{at}/content', behind)})*"

    def _tags(self, form: Mapping[str, Any], at: str) -> list[Mapping[str, Any]]:
        tags = form.get("tags")
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, Mapping) for tag in tags):
            raise self._fault(f"{at}/tags", "here stands a list of tags, one at least")
        return tags

    def _elements(self, form: Mapping[str, Any], at: str) -> list[Any]:
        elements = form.get("elements")
        if not isinstance(elements, list) or not elements:
            raise self._fault(f"{at}/elements", "here stands a list of formats, one at least")
        return elements

    def _text(self, form: Mapping[str, Any], key: str, at: str) -> str:
        value = form.get(key)
        if not isinstance(value, str):
            raise self._fault(f"{at}/{key}", "here stands a text")
        return value

    def _texts(self, form: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
        values = form.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            raise self._fault(f"{at}/{key}", "here stands a list of texts")
        return tuple(values)

    def _fault(self, at: str, problem: str) -> GrammarError:
        return GrammarError(f"The structural tag at {at or '/'}: {problem}.")


def _begins(form: Any) -> tuple[str, ...]:
    """The texts that a format begins with, where it always begins with one."""
    match form:
        case {"type": "const_string", "value": str(value)} if value:
            return (value,)
        case {"type": "tag", "begin": str(begin)} if begin:
            return (begin,)
        case {"type": "sequence", "elements": [first, *_]}:
            return _begins(first)
        case {"type": "or", "elements": [*elements]}:
            begins = [_begins(element) for element in elements]
            return tuple(text for texts in begins for text in texts) if all(begins) else ()
    return ()
