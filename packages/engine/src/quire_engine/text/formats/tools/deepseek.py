"""Calls in a block of marked calls, each a function's name and its arguments: DeepSeek V3 and R1, and V3.1.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Kyoto"}<｜tool▁call▁end｜>
    <｜tool▁calls▁end｜>

is V3.1, without the line break. The older ones write the word `function` there, and behind it the name and the
arguments on lines of their own:

    <｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Kyoto"}
    ```<｜tool▁call▁end｜>

After the models' chat templates; the seed system reads them in `tool_parsers/deepseekv3_tool_parser.py` and
`deepseekv31_tool_parser.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallEnded
from quire_engine.text.formats.scanner import (
    Malformed,
    Reader,
    Reading,
    Source,
    Waiting,
    content,
    gathered,
    told,
    until,
)
from quire_engine.text.formats.tools.json_call import arguments, choice, object_schema, repeated

BLOCK, BLOCK_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
FENCE, FENCE_END = "```json", "```"


@dataclass(frozen=True, slots=True)
class DeepSeekCalls:
    """The `ToolFormat` of a generation of DeepSeek's models."""

    name: str
    aliases: tuple[str, ...]
    is_fenced: bool
    """Whether the arguments stand between fences, and the name on a line of its own."""
    marks: tuple[str, ...] = (BLOCK, CALL, SEPARATOR, CALL_END, BLOCK_END)

    def wrote(self, template: str) -> bool:
        """Whether the template writes blocks of calls, with fences or without."""
        return BLOCK in template and self.is_fenced == (FENCE in template)

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Reader(self._read)

    def opening(self) -> str:
        """What opens a block."""
        return BLOCK

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """A block of calls."""
        one = notation.rule(choice([self._call(tool, notation) for tool in tools]))
        between = notation.text("\n")
        several_calls = repeated(one, between, several=several) if self.is_fenced else f"{one}{'+' * several}"
        return f"{notation.text(BLOCK)} {several_calls} {notation.text(BLOCK_END)}"

    def _call(self, tool: Tool, notation: Notation) -> str:
        before, after = f"{CALL}{tool.name}{SEPARATOR}", CALL_END
        if self.is_fenced:
            before, after = f"{CALL}function{SEPARATOR}{tool.name}\n{FENCE}\n", f"\n{FENCE_END}{CALL_END}"
        return f"({notation.text(before)} {notation.json(object_schema(tool))} {notation.text(after)})"

    def _read(self, source: Source) -> Reading[None]:
        index = 0
        while (yield from content(source, BLOCK, after_call=index > 0)):
            yield from source.skip_space()
            first = index
            while (yield from source.takes(CALL)):
                yield from self._read_call(source, index)
                yield from source.skip_space()
                index += 1
            yield from source.expect(BLOCK_END) if index == first else source.expect_end(BLOCK_END)

    def _read_call(self, source: Source, index: int) -> Reading[None]:
        """A call behind the mark that opens it. Fences, and what closes it where the answer ends, may be left out."""
        name = yield from _before(source, SEPARATOR)
        if self.is_fenced:
            name = yield from _before(source, "\n")
        yield CallBegan(index, name)
        yield from source.skip_space()
        if self.is_fenced and (yield from source.takes(FENCE)):
            yield from source.skip_space()
        yield from told(arguments(source), partial(CallArguments, index))
        yield from source.skip_space()
        if self.is_fenced and (yield from source.takes(FENCE_END)):
            yield from source.skip_space()
        yield from source.expect_end(CALL_END)
        yield CallEnded(index)


def _before(source: Source, mark: str) -> Waiting[str]:
    """The text before this mark, which is taken: a name, or what stands for one."""
    text, found = yield from gathered(until(source, mark))
    if found is None or not text.strip():
        raise Malformed(f"A call has no name before its {mark!r}.")
    return text.strip()


DEEPSEEK_V3 = DeepSeekCalls(name="deepseek_v3", aliases=("deepseek_r1",), is_fenced=True)
"""V3 and R1, which fence their arguments."""
DEEPSEEK_V31 = DeepSeekCalls(name="deepseek_v31", aliases=("deepseek_v3_1",), is_fenced=False)
"""V3.1, which does not."""
