"""A format's grammar has the calls that its models write, and leads to nothing but calls as their schemas want them."""

from __future__ import annotations

import pytest
from tests.engine.text.formats.constrained import OFFERED, check_random_calls, holds

from quire_engine.text.formats.base import ToolFormat
from quire_engine.text.formats.tools import TOOL_FORMATS
from quire_engine.text.formats.tools.granite import GRANITE
from quire_engine.text.formats.tools.hermes import HERMES
from quire_engine.text.formats.tools.internlm import INTERNLM
from quire_engine.text.formats.tools.json_calls import JSON_CALLS
from quire_engine.text.formats.tools.llama3_json import LLAMA3_JSON
from quire_engine.text.formats.tools.mistral import MISTRAL, MISTRAL_ARGS
from quire_engine.text.formats.tools.phi4_mini import PHI4_MINI, PHI4_MINI_TOKENS
from quire_engine.text.formats.tools.qwen3_xml import QWEN3_XML, SEED_OSS

SAY, NOW = '{"name": "say", "arguments": {"text": "hi"}}', '{"name": "now", "arguments": {}}'

WRITTEN: list[tuple[ToolFormat, str, str]] = [
    (HERMES, f"<tool_call>\n{SAY}\n</tool_call>", f"\n<tool_call>\n{NOW}\n</tool_call>"),
    (
        QWEN3_XML,
        "<tool_call>\n<function=say>\n<parameter=text>\nhi\n</parameter>\n</function>\n</tool_call>",
        "\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    ),
    (
        SEED_OSS,
        "<seed:tool_call>\n<function=say>\n<parameter=text>\nhi\n</parameter>\n</function>\n</seed:tool_call>",
        "\n<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>",
    ),
    (
        INTERNLM,
        f"<|action_start|><|plugin|>\n{SAY}<|action_end|>".replace("arguments", "parameters"),
        f"<|action_start|><|plugin|>\n{NOW}<|action_end|>".replace("arguments", "parameters"),
    ),
    (MISTRAL_ARGS, '[TOOL_CALLS]say[ARGS]{"text": "hi"}', "[TOOL_CALLS]now[ARGS]{}"),
    (LLAMA3_JSON, SAY.replace("arguments", "parameters"), f"; {NOW}".replace("arguments", "parameters")),
]
"""One call as models write it, and how a second one follows."""
ARRAYS = [
    (MISTRAL, "[TOOL_CALLS] [", "]"),
    (MISTRAL, "[TOOL_CALLS][", "]"),
    (GRANITE, "<|tool_call|>[", "]"),
    (PHI4_MINI, "functools[", "]"),
    (PHI4_MINI_TOKENS, "<|tool_call|>[", "]<|/tool_call|>"),
    (JSON_CALLS, "[", "]"),
]
"""Where calls are one array: what opens and closes it."""


@pytest.mark.parametrize(("format", "one", "more"), WRITTEN, ids=lambda each: getattr(each, "name", None))
def test_calls_are_held_to_what_models_write(format, one, more):
    assert holds(format, one, several=False)
    assert holds(format, one)
    assert holds(format, one + more)
    assert not holds(format, one + more, several=False)
    assert not holds(format, "So: " + one)


@pytest.mark.parametrize(("format", "begin", "end"), ARRAYS, ids=lambda each: getattr(each, "name", None))
def test_arrays_of_calls_are_held_to_what_models_write(format, begin, end):
    assert holds(format, f"{begin}{SAY}{end}", several=False)
    assert holds(format, f"{begin}{SAY}, {NOW}{end}")
    assert not holds(format, f"{begin}{SAY}, {NOW}{end}", several=False)
    assert not holds(format, f"{begin}{SAY}")


FORMATS = [*dict.fromkeys([format for format, *_ in [*WRITTEN, *ARRAYS]])]


def written_by(format: ToolFormat) -> list[str]:
    return [one for each, one, _ in WRITTEN if each is format] + [
        f"{begin}{SAY}{end}" for each, begin, end in ARRAYS if each is format
    ]


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_an_opening_is_what_calls_begin_with(format):
    opening = format.opening()
    assert all(text.startswith(opening or "") for text in written_by(format))
    assert (opening is None) == (format in (LLAMA3_JSON, JSON_CALLS))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("format", TOOL_FORMATS, ids=lambda format: format.name)
def test_whatever_is_drawn_is_calls_as_their_schemas_want_them(format, several):
    check_random_calls(format, several=several)


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_no_other_tool_can_be_called(format):
    tools = [tool for tool in OFFERED if tool.name != "say"]
    assert not any(holds(format, text, tools=tools) for text in written_by(format))
