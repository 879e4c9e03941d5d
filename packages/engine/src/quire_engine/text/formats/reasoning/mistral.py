"""Reasoning between `[THINK]` and `[/THINK]`: Magistral and Ministral models with tokenizers of version 13 and later.

Facts: the special tokens `begin_think` and `end_think` of mistral-common; vLLM 0.32, `vllm/parser/mistral.py`.
Earlier Magistral models write `<think>`: theirs is `think_tags`.
"""

from __future__ import annotations

from quire_engine.text.formats.reasoning.marked import MarkedReasoning

MISTRAL = MarkedReasoning(name="mistral", begin="[THINK]", end="[/THINK]")
"""`[THINK]reasoning[/THINK]answer`."""
