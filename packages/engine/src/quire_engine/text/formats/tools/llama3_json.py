"""Calls of Llama 3.1 to 3.3, as the whole answer: there is no mark, or a token that also stands before code.

    {"name": "get_weather", "parameters": {"city": "Kyoto"}}
    <|python_tag|>{"name": "get_weather", "parameters": {"city": "Kyoto"}}; {"name": "now", "parameters": {}}

After Meta's prompt format and the models' chat templates; the seed system reads it in
`tool_parsers/llama_tool_parser.py`.
"""

from __future__ import annotations

from quire_engine.text.formats.tools.json_answer import JsonAnswer

LLAMA3_JSON = JsonAnswer(
    name="llama3_json",
    aliases=("llama4_json",),
    key="parameters",
    in_template='{"name": function name, "parameters":',
    mark="<|python_tag|>",
    between="; ",
)
