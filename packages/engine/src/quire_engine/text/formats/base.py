"""What a format is: how it is told apart, how it is parsed, and how it is written down as a grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from quire_engine.text.formats.events import Event


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the answer may call."""

    name: str
    parameters: Mapping[str, Any]
    """The JSON Schema of its arguments: of an object."""


class Parser(Protocol):
    """The state of one answer's text. What it gives does not depend on how the text was cut."""

    def push(self, text: str) -> Sequence[Event]:
        """What is certain now; text that may still turn out to be a mark is held back, and no more than that."""
        ...

    def finish(self) -> Sequence[Event]:
        """What is left, now that nothing follows. Called once, at the end."""
        ...


class Notation(Protocol):
    """A grammar in the making. Everything is given back as an expression, to be put into further ones.

    Expressions are Lark's as llguidance reads them: `a b` is a sequence, `(a | b)` a choice, `a?`, `a*`, `a+`.
    """

    def text(self, literal: str) -> str:
        """This very text; marks in it that are single special tokens are those tokens."""
        ...

    def json(self, schema: Mapping[str, Any] | bool) -> str:
        """JSON that satisfies a schema. GrammarError, with the JSON pointer, for what cannot be enforced."""
        ...

    def regex(self, pattern: str) -> str:
        """Text that matches a regular expression, as a whole."""
        ...

    def until(self, *marks: str) -> str:
        """Any text up to the first place where one of these marks stands, and the mark."""
        ...

    def any_text(self, *, but: Sequence[str] = ()) -> str:
        """Any text, as long as the answer goes on, in which none of these marks stands."""
        ...

    def rule(self, expression: str) -> str:
        """The expression as a rule of its own, by its name: for what is used in several places, or in itself."""
        ...


class ToolFormat(Protocol):
    """How a family of models writes tool calls. Formats have no state; parsers do."""

    @property
    def name(self) -> str:
        """What `--tool-call-parser` calls it."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that it goes by."""
        ...

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that open, close and part calls, which the parser must see also where they are special tokens."""
        ...

    def wrote(self, template: str) -> bool:
        """Whether a chat template with this source makes its model write calls this way."""
        ...

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer that may call these tools."""
        ...

    def opening(self) -> str | None:
        """The text with which calls begin, wherever in an answer that is; None where calls can only be all of it."""
        ...

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """One call, or with `several` one or more, of these tools with arguments as their schemas say.

        From the opening on, which is part of it, to the end of the last call.
        """
        ...


class ReasoningFormat(Protocol):
    """How a family of models marks its reasoning. Formats have no state; parsers do."""

    @property
    def name(self) -> str:
        """What `--reasoning-parser` calls it."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that it goes by."""
        ...

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that begin and end reasoning, which the parser must see also where they are special tokens."""
        ...

    @property
    def begin(self) -> str:
        """The text that begins reasoning, as its models write it."""
        ...

    @property
    def label(self) -> str:
        """The end of `begin` that models may leave out; empty for nearly all formats."""
        ...

    @property
    def end(self) -> str:
        """The text that ends reasoning, as its models write it: what a thinking budget forces."""
        ...

    @property
    def heading(self) -> str:
        """The text that stands, after the reasoning, before an answer that is no call; empty for nearly all formats.

        A grammar of the answer is written behind it; calls come without it.
        """
        ...

    def wrote(self, template: str) -> bool:
        """Whether a chat template with this source makes its model reason this way."""
        ...

    def is_open(self, prompt: str, continued: str = "") -> bool:
        """Whether a prompt with this text (or this end of it) has begun the reasoning already.

        `continued` is the text of the message that the answer goes on with, if there is one: the prompt ends in it.
        """
        ...

    def parser(self, *, is_open: bool, reads_calls: bool = True, is_verbatim: bool = False) -> Parser:
        """A parser for one answer. What is not reasoning is Content.

        With `reads_calls`, a tool format's parser reads that further: a call's marks are left in it. If it
        `is_verbatim`, all that follows the reasoning (and the heading) is told as it stands, newlines and marks too.
        """
        ...

    def span(self, notation: Notation, *, is_open: bool, is_verbatim: bool = False) -> str:
        """Reasoning and its marks, from the answer's beginning to where what follows may begin; may be nothing.

        Where the prompt has opened it, it has to be closed. Newlines that belong to the marks are part of it; none do
        where what follows `is_verbatim`.
        """
        ...
