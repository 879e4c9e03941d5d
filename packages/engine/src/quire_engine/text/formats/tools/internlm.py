"""Calls of InternLM 2.5 and 3: the plugin among the actions that an answer may take.

    <|action_start|><|plugin|>
    {"name": "get_weather", "parameters": {"city": "Kyoto"}}<|action_end|>

After the models' chat format; the seed system reads it in `tool_parsers/internlm2_tool_parser.py`.
"""

from __future__ import annotations

from quire_engine.text.formats.tools.json_objects import JsonObjects

INTERNLM = JsonObjects(
    name="internlm",
    aliases=("internlm2",),
    begin="<|action_start|>",
    head="<|plugin|>",
    lead="\n",
    end="<|action_end|>",
    key="parameters",
    in_template=("<|plugin|>",),
)
