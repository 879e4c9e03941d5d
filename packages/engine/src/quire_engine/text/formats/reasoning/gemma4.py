"""Reasoning in a channel of its own: Gemma 4.

Facts: vLLM 0.32, `vllm/parser/gemma4.py`. The channel's name, `thought`, and its newline are no reasoning, and small
models leave them out.
"""

from __future__ import annotations

from quire_engine.text.formats.reasoning.marked import MarkedReasoning

GEMMA4 = MarkedReasoning(name="gemma4", begin="<|channel>thought\n", label="thought\n", end="<channel|>")
"""`<|channel>thought`, a newline, `reasoning<channel|>answer`."""
