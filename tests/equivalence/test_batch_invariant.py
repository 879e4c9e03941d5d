"""In batch-invariant mode a sequence's log-probabilities are the same to the last bit under every schedule."""

from __future__ import annotations

import pytest
import torch
from tests.support.families import Checkpoints, family_named
from tests.support.schedules import SCHEDULES, roomy_config, serve
from torch.nn import functional

from quire_engine.engine import Engine
from quire_engine.errors import ModelNotSupported
from quire_engine.model import invariant
from quire_engine.model.invariant import BlocksOfRows, in_blocks
from quire_protocol import SamplingParams

PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [5, 9, 11, 3, 7, 7, 2, 40, 13], [80], [3] * 17, list(range(20, 45))]
PARAMS = (
    SamplingParams(temperature=0, max_tokens=10, ignore_eos=True, logprobs=3),
    SamplingParams(seed=3, max_tokens=10, ignore_eos=True, logprobs=3),
)
REQUESTS = [(prompt, PARAMS[row % 2]) for row, prompt in enumerate(PROMPTS)]


DENSE = ("llama", "qwen3", "gemma2")
BY_TRANSFORMERS = (*DENSE, "mixtral", "qwen3_moe", "gpt2", "phi")


WAYS = [(name, dtype, False) for name in BY_TRANSFORMERS for dtype in ("float32", "bfloat16")]
WAYS += [(name, dtype, True) for name in DENSE for dtype in ("float32", "bfloat16")]


@pytest.mark.parametrize(("name", "dtype", "native"), WAYS)
def test_no_schedule_changes_a_bit(checkpoints: Checkpoints, name: str, dtype: str, native: bool) -> None:
    path = str(checkpoints.path(family_named(name)))
    how = {"dtype": dtype, "native": native, "logprobs_mode": "raw_logits"}
    engine = Engine.load(roomy_config(model=path, batch_invariant=True, **how))
    assert engine.decisions.batch_invariant
    wanted = serve(engine, SCHEDULES[0], REQUESTS)
    for schedule in SCHEDULES[1:]:
        got = serve(engine, schedule, REQUESTS)
        assert [own.tokens for own in got] == [own.tokens for own in wanted], schedule
        assert [own.logprobs for own in got] == [own.logprobs for own in wanted], schedule  # floats, bit for bit


def test_the_mode_gives_the_same_tokens_as_without(checkpoints: Checkpoints) -> None:
    path = str(checkpoints.path(family_named("qwen3")))
    plain, fixed = (
        Engine.load(roomy_config(model=path, native=False, batch_invariant=value)) for value in (False, True)
    )
    answers = [[own.tokens for own in serve(engine, SCHEDULES[0], REQUESTS)] for engine in (plain, fixed)]
    assert answers[0] == answers[1]


def test_what_cannot_be_kept_is_refused_with_the_reason(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(product: object, x: torch.Tensor) -> torch.Tensor:  # a row takes something from those beside it
        answer = in_blocks(product, x)  # type: ignore[arg-type]
        return answer + 1e-6 * len(x.reshape(-1, x.shape[-1]))

    monkeypatch.setattr(invariant, "in_blocks", leaky)
    path = str(checkpoints.path(family_named("llama")))
    with pytest.raises(ModelNotSupported, match="batch_invariant cannot be kept: LlamaForCausalLM"):
        Engine.load(roomy_config(model=path, native=False, batch_invariant=True))


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_rows_product_is_the_same_among_any_number(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((100, 96), (40, 96), (40,)))
    with BlocksOfRows():
        whole = functional.linear(x, weight, bias)
        assert torch.equal(functional.linear(x[:rows], weight, bias), whole[:rows])
        assert torch.equal(functional.linear(x[None, 100 - rows :], weight, bias=bias)[0], whole[100 - rows :])
        assert torch.equal(torch.addmm(bias, x[:rows], weight.T), torch.addmm(bias, x, weight.T)[:rows])
    torch.testing.assert_close(whole, functional.linear(x, weight, bias))
