"""Calls of Mistral's models: an array behind a token, and since their eleventh tokenizer one token for each call.

    [TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Kyoto"}}]
    [TOOL_CALLS]get_weather[ARGS]{"city": "Kyoto"}

Some versions write `[CALL_ID]` and an id before the arguments. Templates of these models refuse ids of calls that are
not nine letters and digits, so calls get such ids here. After mistral-common and the models' chat templates; the seed
system reads it in `parser/mistral.py`.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallEnded
from quire_engine.text.formats.scanner import Reader, Reading, Source, content, json_value, told
from quire_engine.text.formats.tools.json_array import read_array
from quire_engine.text.formats.tools.json_call import call_grammar, choice, object_schema, repeated

TOOL_CALLS, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"

ID_LENGTH = 9
_WORD = re.compile(r"[\w.-]*")
_ID_LETTERS = string.ascii_letters + string.digits


def random_id() -> str:
    """An id as Mistral's templates take it."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(ID_LENGTH))


@dataclass(frozen=True, slots=True)
class Mistral:
    """Reads both ways of writing calls; `has_args` says which of them its models are held to."""

    name: str
    aliases: tuple[str, ...]
    has_args: bool
    """Whether each call has a token of its own, and `[ARGS]` before its arguments."""
    new_id: Callable[[], str] = random_id

    @property
    def marks(self) -> tuple[str, ...]:
        """What opens calls, and what parts them."""
        return (TOOL_CALLS, CALL_ID, ARGS)

    def wrote(self, template: str) -> bool:
        """Whether the template writes calls, and with or without `[ARGS]`."""
        return TOOL_CALLS in template and (ARGS in template) == self.has_args

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Reader(self._read)

    def _read(self, source: Source) -> Reading[None]:
        index = 0
        while (yield from content(source, TOOL_CALLS, after_call=index > 0)):
            yield from source.skip_space()
            if (yield from source.peek()) in ("[", "{"):
                index = yield from read_array(source, index, self.new_id, is_open=False)
            else:
                yield from self._named(source, index)
                index += 1

    def _named(self, source: Source, index: int) -> Reading[None]:
        """A call that begins with its name."""
        name = yield from source.run(_WORD)
        if not name:
            raise source.malformed("the name of a function")
        id = self.new_id()
        if (yield from source.takes(CALL_ID)):
            id = yield from source.run(_WORD)
        yield from source.takes(ARGS)
        yield from source.skip_space()
        if (yield from source.peek()) != "{":
            raise source.malformed("a JSON object of arguments")
        yield CallBegan(index, name, id)
        yield from told(json_value(source), partial(CallArguments, index))
        yield CallEnded(index)

    def opening(self) -> str:
        """What opens calls."""
        return TOOL_CALLS

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """Calls as the models of this version write them."""
        begin = notation.text(TOOL_CALLS)
        if self.has_args:
            named = [f"{notation.text(tool.name + ARGS)} {notation.json(object_schema(tool))}" for tool in tools]
            return repeated(notation.rule(f"{begin} {choice(named)}"), "", several=several)
        call = notation.rule(choice([call_grammar(tool, notation) for tool in tools]))
        array = repeated(call, notation.text(", "), several=several)
        return f"({begin} {notation.text(' ')}? {notation.text('[')} {array} {notation.text(']')})"


MISTRAL = Mistral(name="mistral", aliases=(), has_args=False)
MISTRAL_ARGS = Mistral(name="mistral_args", aliases=("mistral",), has_args=True)
