"""Calls for models that have no form of their own for them: a JSON array as the whole answer.

    [{"name": "get_weather", "arguments": {"city": "Kyoto"}}]

A model that was never shown this has to be held to it, which answers that must call are.
"""

from __future__ import annotations

from quire_engine.text.formats.tools.json_answer import JsonAnswer

JSON_CALLS = JsonAnswer(
    name="json_calls", aliases=("json",), key="arguments", in_template=None, opens="[", between=", ", closes="]"
)
