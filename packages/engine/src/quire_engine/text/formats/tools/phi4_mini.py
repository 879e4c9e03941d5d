"""Calls of Phi-4-mini, as one array behind a word, or between tokens.

    functools[{"name": "get_weather", "arguments": {"city": "Kyoto"}}]
    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Kyoto"}}]<|/tool_call|>

After the model's description and chat templates, one of which asks for the first in words; the seed system reads that
in `tool_parsers/phi4mini_tool_parser.py`.
"""

from __future__ import annotations

from quire_engine.text.formats.tools.json_array import JsonArray

PHI4_MINI = JsonArray(
    name="phi4_mini",
    aliases=("phi4_mini_json",),
    begins=("functools[", "<|tool_call|>"),
    end="<|/tool_call|>",
    in_template=("functools[",),
)
PHI4_MINI_TOKENS = JsonArray(
    name="phi4_mini_tokens",
    aliases=("phi4_mini", "phi4_mini_json"),
    begins=("<|tool_call|>", "functools["),
    end="<|/tool_call|>",
    in_template=("<|tool|>",),
)
