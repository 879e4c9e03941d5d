"""What the clients ask for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

ARGUMENTS = '{"city": "Kyoto"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
SCRIPT = f"Please. [[{CALL}]] [[It is 12 degrees.]]"
"""A question on which the model first calls a tool, and then answers."""


class Animal(BaseModel):
    """An animal."""

    name: str = Field(max_length=10)
    legs: Literal[0, 2, 4, 6, 8]
    is_tame: bool
