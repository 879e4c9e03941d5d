"""Calls of Hermes 2 Pro and its heirs: Qwen 2.5, QwQ, Qwen 3 and Granite 4 write them so.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Kyoto"}}
    </tool_call>

After the chat templates of these models; the seed system reads it in `tool_parsers/hermes_tool_parser.py`.
"""

from __future__ import annotations

from quire_engine.text.formats.tools.json_objects import JsonObjects

HERMES = JsonObjects(
    name="hermes",
    aliases=("qwen3_json", "qwen2_5", "granite4"),
    begin="<tool_call>",
    end="</tool_call>",
    lead="\n",
    trail="\n",
    between="\n",
    key="arguments",
    in_template=("<tool_call>", "</tool_call>"),
)
