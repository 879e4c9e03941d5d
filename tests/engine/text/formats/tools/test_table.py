"""The format of a model's calls is found by its name, or by what its chat template says and writes."""

from __future__ import annotations

import pytest

from quire_engine.errors import ConfigError
from quire_engine.text.formats.tools import TOOL_FORMATS, detect_tool_format, tool_format

TEMPLATES = {
    "hermes": "{{- '<tool_call>\\n{\"name\": \"' + call.name + '\"}\\n</tool_call>' }}",
    "qwen3_xml": "{{- '<tool_call>\\n<function=' + call.name + '>\\n<parameter=' + key + '>' }}</tool_call>",
    "seed_oss": "{{- '<seed:tool_call>\\n<function=' + call.name + '>\\n<parameter=' + key + '>' }}",
    "granite": "{{- '<|tool_call|>' + message.tool_calls | tojson }}",
    "phi4_mini": "Write calls as functools[{...}, ...]",
    "phi4_mini_tokens": "{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}",
    "internlm": "{{- '<|action_start|><|plugin|>\\n' + call | tojson + '<|action_end|>' }}",
    "mistral": "{{- '[TOOL_CALLS] [' + call.function | tojson + ']' }}",
    "mistral_args": "{{- '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}",
    "llama3_json": 'Respond in the format {"name": function name, "parameters": ...}.',
    "harmony": "{{- '<|start|>assistant<|channel|>commentary to=functions.' + name + ' json<|message|>' }}",
    "deepseek_v3": "{{ '<｜tool▁calls▁begin｜>' + type + '<｜tool▁sep｜>' + name + '\\n```json' }}",
    "deepseek_v31": "{{ '<｜tool▁calls▁begin｜>' + name + '<｜tool▁sep｜>' + arguments }}",
    "kimi_k2": "<|tool_calls_section_begin|>{{ calls }}<|tool_calls_section_end|>",
    "minimax": "{{ '<minimax:tool_call>' }}<invoke name=\"{{ name }}\">",
    "glm4": "<tool_call>{{ name }}\n<arg_key>{{ key }}</arg_key>\n<arg_value>{{ value }}</arg_value>\n</tool_call>",
    "glm47": "<tool_call>{{ name }}<arg_key>{{ key }}</arg_key><arg_value>{{ value }}</arg_value></tool_call>",
    "pythonic": "Respond in the format [func_name1(params_name1=params_value1...), func_name2(params)]",
    "llama4_pythonic": "<|header_start|>system<|header_end|>Use [func_name1(param1=value1), func_name2(...)]",
}
"""What tells a format, as templates have it."""


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_tells_the_format(name):
    known = detect_tool_format(TEMPLATES[name])
    assert known is not None
    assert known.name == name


@pytest.mark.parametrize(
    "template", ["", "{{ message.content }}", "{% if tools %}{{ tools | tojson }}{% endif %}<think>"], ids=str
)
def test_other_templates_tell_none(template):
    assert detect_tool_format(template) is None


def test_every_name_finds_a_format_that_goes_by_it():
    for known in TOOL_FORMATS:
        assert tool_format(known.name) is known
        for alias in known.aliases:
            found = tool_format(alias)
            assert alias in (found.name, *found.aliases)


def test_names_are_those_of_one_format():
    names = [known.name for known in TOOL_FORMATS]
    assert len({*names}) == len(names)


@pytest.mark.parametrize("name", ["mistral", "mistral_args", "phi4_mini", "phi4_mini_tokens"])
def test_of_the_versions_of_a_format_the_template_says_which(name):
    family = name.removesuffix("_args").removesuffix("_tokens")
    assert tool_format(family, TEMPLATES[name]).name == name
    assert tool_format(family).name == family


def test_a_name_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"tool_call_parser is hermse, .* one of .*hermes.*mistral.*, or auto"):
        tool_format("hermse")
