"""The embedded default says what `tools.demo_model.answers` wrote down when it was made, whatever computes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from quire_engine import LLM
from quire_protocol import SamplingParams

EXPECTED: list[Mapping[str, str]] = json.loads(
    Path(__file__).with_name("default_model_answers.json").read_text(encoding="utf-8")
)
GREEDY = SamplingParams(temperature=0, max_tokens=160)


def said(**config: object) -> list[str]:
    """What the embedded default answers to the whole list."""
    llm = LLM(device="cpu", max_num_seqs=16, progress=False, **config)
    outputs = llm.generate([each["prompt"] for each in EXPECTED], GREEDY, use_tqdm=False)
    return [each.outputs[0].text for each in outputs]


@pytest.mark.parametrize("native", [None, False], ids=["as-decided", "transformers"])
def test_it_answers_in_float32_as_transformers_does(native: bool | None) -> None:
    answers = said(dtype="float32", native=native)
    assert answers == [each["answer"] for each in EXPECTED]


@pytest.mark.parametrize(
    ("config", "equal"),
    [({"dtype": "bfloat16"}, 0.95), ({"quantization": "int8"}, 0.93), ({"quantization": "int4"}, 0.8)],
    ids=["bfloat16", "int8", "int4"],
)
def test_rounding_leaves_most_answers_as_they_are(config: Mapping[str, str], equal: float) -> None:
    same = [answer == each["answer"] for answer, each in zip(said(**config), EXPECTED, strict=True)]
    assert sum(same) >= equal * len(EXPECTED)
