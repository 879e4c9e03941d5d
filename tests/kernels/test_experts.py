from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.paged import LIMITS, error
from torch import Tensor

from quire_kernels import DtypeError, ShapeError, experts
from quire_kernels._select import INTERPRETED
from quire_kernels.experts import reference
from quire_kernels.gated import ACTIVATIONS

pytestmark = [
    pytest.mark.usefixtures("body"),
    pytest.mark.filterwarnings("ignore:overflow encountered in exp"),  # numpy's, under the interpreter
]


@dataclass(frozen=True)
class Problem:
    """The tensors of one call."""

    x: Tensor
    gate_up: Tensor
    down: Tensor
    expert_ids: Tensor
    weights: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.x, self.gate_up, self.down, self.expert_ids, self.weights

    def exact(self, activation: str = "silu") -> Tensor:
        return reference(self.x.double(), *self.tensors[1:], activation, False)


def problem(
    tokens: int,
    choices: int = 2,
    count: int = 4,
    size: int = 32,
    inner: int = 48,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Problem:
    """Every token chooses other experts, at random."""
    generator = torch.Generator().manual_seed(tokens)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    ids = torch.rand(tokens, count, generator=generator).topk(choices).indices.to(device)
    weights = torch.rand(tokens, choices, generator=generator).to(device)
    return Problem(
        random(tokens, size), random(count, 2 * inner, size) / 5, random(count, size, inner) / 5, ids, weights
    )


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("tokens", [0, 1, 7, 40])
def test_a_body_agrees_with_the_reference(tokens: int, dtype: torch.dtype) -> None:
    case = problem(tokens, dtype=dtype)
    answer = experts(*case.tensors, activation="silu")
    assert answer.dtype == dtype
    assert error(answer, case.exact()) < 3 * LIMITS[dtype]  # rounded between the products and before the sum


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "shape",
    [
        {"count": 1, "choices": 1},
        {"count": 5, "choices": 5},
        {"count": 60, "choices": 4},
        {"size": 130, "inner": 34},
        {"size": 20, "inner": 70},
    ],
    ids=str,
)
def test_any_shape_is_served(shape: dict[str, int], activation: str) -> None:
    case = problem(3, **shape)
    assert error(experts(*case.tensors, activation=activation), case.exact(activation)) < 2e-6


def test_all_tokens_may_choose_one_expert() -> None:
    case = problem(50, choices=1)
    case.expert_ids.fill_(2)
    assert error(experts(*case.tensors, activation="silu"), case.exact()) < 2e-6


@pytest.mark.usefixtures("poisoned_memory")
def test_ids_of_no_expert_add_nothing() -> None:
    case = problem(9)
    case.expert_ids[::2, 0] = 4
    case.expert_ids[1::3, 1] = -1
    case.expert_ids[5] = 99
    answer = experts(*case.tensors, activation="silu")
    assert error(answer, case.exact()) < 2e-6
    assert (answer[5] == 0).all()


def test_views_of_other_tensors_are_taken_as_they_are() -> None:
    case = problem(6, size=64)
    weight = torch.stack([case.weights, case.weights], 0).transpose(0, 1)[:, 0]
    view = Problem(
        case.x[:, :32], case.gate_up[:, :, :32], case.down[:, 16:48], case.expert_ids.expand(6, 2)[:, :1], weight[:, :1]
    )
    assert error(experts(*view.tensors, activation="silu"), view.exact()) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_invariant_answers_are_the_same_to_the_last_bit(dtype: torch.dtype) -> None:
    case = problem(35, dtype=dtype)
    crowd = experts(*case.tensors, activation="silu", invariant=True)
    for token in (0, 17, 34):
        alone = (tensor[token : token + 1] for tensor in (case.x, case.expert_ids, case.weights))
        x, ids, weights = alone
        answer = experts(x, case.gate_up, case.down, ids, weights, activation="silu", invariant=True)
        assert torch.equal(answer[0], crowd[token])


@settings(max_examples=8 if INTERPRETED else 40, deadline=None, database=None)
@given(tokens=st.integers(0, 20), count=st.integers(1, 6), choices=st.integers(1, 3), size=st.integers(1, 40))
def test_any_choices_agree_with_the_reference(tokens: int, count: int, choices: int, size: int) -> None:
    case = problem(tokens, min(choices, count), count, size, 16)
    torch.testing.assert_close(experts(*case.tensors, activation="silu").double(), case.exact(), rtol=1e-5, atol=1e-6)


def test_arguments_that_do_not_fit_are_named() -> None:
    x, gate_up, down, ids, weights = problem(4).tensors
    with pytest.raises(ShapeError, match=r"^experts: gate_up has 96 rows an expert and down 47 columns"):
        experts(x, gate_up, down[:, :, :47], ids, weights, activation="silu")
    with pytest.raises(ShapeError, match=r"^experts: weights .* but expert_ids makes k 2; pass 2 where 1 stands"):
        experts(x, gate_up, down, ids, weights[:, :1], activation="silu")
    with pytest.raises(ShapeError, match=r"^experts: activation is 'relu'; pass one of silu, gelu, gelu_tanh"):
        experts(x, gate_up, down, ids, weights, activation="relu")
    with pytest.raises(DtypeError, match=r"^experts: expert_ids is torch\.int32; pass torch\.int64"):
        experts(x, gate_up, down, ids.int(), weights, activation="silu")


def test_torch_accepts_the_op_as_its_own() -> None:
    torch.library.opcheck(torch.ops.quire.experts.default, (*problem(4).tensors, "silu", False))
