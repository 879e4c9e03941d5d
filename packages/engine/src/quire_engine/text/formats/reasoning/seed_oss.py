"""Reasoning between `<seed:think>` and `</seed:think>`: ByteDance's Seed-OSS.

Facts: the models' chat template; vLLM 0.32, `vllm/parser/seed_oss.py`. What these models note of their thinking budget,
`<seed:cot_budget_reflect>`, is part of the reasoning.
"""

from __future__ import annotations

from quire_engine.text.formats.reasoning.marked import MarkedReasoning

SEED_OSS = MarkedReasoning(name="seed_oss", begin="<seed:think>", end="</seed:think>")
"""`<seed:think>reasoning</seed:think>answer`."""
