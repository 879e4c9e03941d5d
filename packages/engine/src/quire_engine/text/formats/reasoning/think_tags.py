"""Reasoning between `<think>` and `</think>`: Qwen 3, DeepSeek R1 and V3.1, GLM 4.5, Kimi K2, MiniMax M2 and many more.

Facts: the chat templates of these models; vLLM 0.32, `vllm/reasoning/basic_parsers.py`,
`deepseek_r1_reasoning_parser.py` and `vllm/parser/qwen3.py`.

Some of their templates write the first mark into the prompt, some leave it to the model, and some write both where
no reasoning is wanted: what the prompt ends with decides, not a switch of the request.
"""

from __future__ import annotations

from quire_engine.text.formats.reasoning.marked import MarkedReasoning

THINK_TAGS = MarkedReasoning(
    name="think_tags",
    begin="<think>",
    end="</think>",
    aliases=(
        "deepseek_r1",
        "deepseek_v3",
        "glm45",
        "glm47",
        "granite_thinking_parser",
        "holo2",
        "kimi_k2",
        "mimo",
        "minimax_m2",
        "nemotron_v3",
        "olmo3",
        "qwen3",
        "step3",
        "step3p5",
    ),
)
"""`<think>reasoning</think>answer`."""
