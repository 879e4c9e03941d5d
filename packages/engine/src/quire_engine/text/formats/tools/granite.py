"""Calls of Granite 3, as one array behind a mark, which some versions have as a token and others write out.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Kyoto"}}]

Granite 4 writes calls as `hermes` has them. After the models' chat templates; the seed system reads it in
`parser/granite.py`.
"""

from __future__ import annotations

from quire_engine.text.formats.tools.json_array import JsonArray

GRANITE = JsonArray(
    name="granite",
    aliases=("granite3",),
    begins=("<|tool_call|>", "<tool_call>"),
    end="",
    in_template=("<|tool_call|>",),
)
