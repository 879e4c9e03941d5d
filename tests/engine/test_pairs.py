"""Whatever sampling fields come together, there is a result or a refusal: every pair of values, and the engine lives.

Four thousand requests with a random value for every field; a test of the table says that no pair is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.families import family_named, save
from tests.support.schedules import roomy_config

from quire_engine.errors import RequestError
from quire_engine.llm import LLM, CompletionOutput
from quire_protocol import SamplingParams

EOS = 1  # of the families' tokenizer, in which each character is a token
PROMPTS = ("x", "The quick brown fox jumps", "The quick brown fox sleeps", "#" * 40)
COMBINATIONS = 4_000

VALUES: Mapping[str, tuple[Any, ...]] = {
    "n": (1, 2, 3),
    "temperature": (0, 1e-3, 1, 2),
    "top_p": (1e-6, 0.6, 1),
    "top_k": (-1, 0, 1, 5, 10**6),
    "min_p": (0, 0.2, 1),
    "seed": (None, -1, 0, 2**63 - 1, -(2**63)),
    "presence_penalty": (-2, 0, 2),
    "frequency_penalty": (-2, 0, 2),
    "repetition_penalty": (1e-3, 1, 100),
    "logit_bias": (None, {5: 100}, {5: -100, 7: 3.5}, {EOS: 100}),
    "allowed_token_ids": (None, (5,), (5, 7, EOS), tuple(range(97))),
    "bad_words": ((), ("a",), ("ab", "quick brown"), ("#", "!", '"')),
    "stop": ((), ("a",), ("th", "e q")),
    "stop_token_ids": ((), (5,), (EOS, 5, 7)),
    "include_stop_str_in_output": (False, True),
    "ignore_eos": (False, True),
    "max_tokens": (1, 2, 5),
    "min_tokens": (0, 1, 4),
    "logprobs": (None, 0, 3, 20),
    "prompt_logprobs": (None, 0, 3),
    "detokenize": (True, False),
    "skip_special_tokens": (True, False),
    "spaces_between_special_tokens": (True, False),
    "truncate_prompt_tokens": (None, -1, 1, 7),
}


def combinations_of_all() -> list[dict[str, Any]]:
    """One value for each field, by chance; the same ones every time."""
    random = Random(3)
    return [{name: random.choice(values) for name, values in VALUES.items()} for _ in range(COMBINATIONS)]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    path = save(family_named("qwen3"), tmp_path_factory.mktemp("pairs"))
    config = roomy_config(model=str(path), max_num_seqs=32, max_num_batched_tokens=96)
    asked = config.model_dump(exclude_unset=True, exclude={"model"})
    each = LLM(str(path), progress=False, **asked)
    yield each
    each.close()


def test_no_pair_of_values_is_missing() -> None:
    asked = combinations_of_all()
    for (one, ones), (other, others) in combinations(VALUES.items(), 2):
        met = {(str(each[one]), str(each[other])) for each in asked}
        assert len(met) == len(ones) * len(others), (one, other)


def test_every_combination_gives_a_result_or_a_refusal(llm: LLM) -> None:
    before = greedy(llm)
    outcomes: Counter[str] = Counter()
    wanted = []
    for number, asked in enumerate(combinations_of_all()):
        try:
            wanted.append((PROMPTS[number % len(PROMPTS)], SamplingParams(**asked)))
        except ValidationError:
            outcomes["refused"] += 1
    for start in range(0, len(wanted), 100):
        for params, outputs in answered(llm, wanted[start : start + 100], outcomes):
            assert len(outputs) == params.n
            for output in outputs:
                check(params, output)
                outcomes[str(output.finish_reason)] += 1
    assert greedy(llm) == before
    assert outcomes["stop"] > 500
    assert outcomes["length"] > 500
    assert outcomes["refused"] > 100


def greedy(llm: LLM) -> list[CompletionOutput]:
    """An answer that depends on nothing but the model."""
    return llm.generate(PROMPTS[1], SamplingParams(temperature=0, max_tokens=8), use_tqdm=False)[0].outputs


def answered(
    llm: LLM, wanted: list[tuple[str, SamplingParams]], outcomes: Counter[str]
) -> Iterator[tuple[SamplingParams, list[CompletionOutput]]]:
    """What became of each; where one is refused all are, before any is computed, so then they go one by one."""
    prompts, params = zip(*wanted, strict=True)
    try:
        results = llm.generate(prompts, params, use_tqdm=False)
    except RequestError:
        if len(wanted) == 1:
            outcomes["refused"] += 1
            return
        for one in wanted:
            yield from answered(llm, [one], outcomes)
    else:
        yield from ((own, result.outputs) for own, result in zip(params, results, strict=True))


def check(params: SamplingParams, output: CompletionOutput) -> None:
    """What holds for every answer."""
    if output.finish_reason == "error":
        assert "o token is left to draw" in (output.error or ""), output
        assert params.allowed_token_ids is not None
        return
    assert output.finish_reason in ("stop", "length")
    assert output.error is None
    assert len(output.token_ids) <= (params.max_tokens or 0)
    assert len(output.token_ids) >= params.min_tokens or output.finish_reason == "length"
    assert params.allowed_token_ids is None or {*output.token_ids} <= {*params.allowed_token_ids}
    assert (output.logprobs is None) == (params.logprobs is None)
    assert output.logprobs is None or len(output.logprobs) == len(output.token_ids)
    assert params.detokenize or not output.text
