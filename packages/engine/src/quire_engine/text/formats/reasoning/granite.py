"""Reasoning between two phrases: Granite 3.2.

Facts: the models' chat template, which asks for the phrases; vLLM 0.32, `vllm/reasoning/granite_reasoning_parser.py`,
which notes that quantized models shorten "Here is" to "Here's". Granite 3.3 and later mark it as `think_tags` does.
"""

from __future__ import annotations

from quire_engine.text.formats.reasoning.marked import MarkedReasoning

GRANITE = MarkedReasoning(
    name="granite",
    begin="Here is my thought process:",
    end="Here is my response:",
    other_begins=("Here's my thought process:",),
    other_ends=("Here's my response:",),
)
"""`Here is my thought process:reasoning Here is my response:answer`."""
