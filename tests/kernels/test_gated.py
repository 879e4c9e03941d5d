import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.paged import LIMITS, error
from torch import Tensor

from quire_kernels import DtypeError, ShapeError, gated
from quire_kernels._select import INTERPRETED
from quire_kernels.gated import ACTIVATIONS, reference

pytestmark = [
    pytest.mark.usefixtures("body", "poisoned_memory"),
    # numpy, under the interpreter, warns where a device goes to the limit in silence, as it should
    pytest.mark.filterwarnings("ignore:overflow encountered in exp"),
]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def problem(rows: int, size: int, dtype: torch.dtype = torch.float32, scale: float = 3.0) -> Tensor:
    """Gates and values side by side."""
    generator = torch.Generator().manual_seed(rows)
    return (torch.randn(rows, 2 * size, generator=generator) * scale).to(dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "size"), [(0, 32), (1, 32), (3, 80), (2, 1), (2, 2100), (2, 0)])
def test_a_body_agrees_with_the_reference(rows: int, size: int, dtype: torch.dtype, activation: str) -> None:
    gate_up = problem(rows, size, dtype)
    answer = gated(gate_up, activation=activation)
    assert answer.dtype == dtype
    assert error(answer, reference(gate_up.double(), activation)) < LIMITS[dtype]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_large_gates_neither_overflow_nor_vanish(activation: str) -> None:
    gate_up = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4, 1.0, 1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(gated(gate_up, activation=activation), torch.tensor([[0.0, 0.0, 0.0, 100.0, 1e4]]))


def test_rows_of_other_tensors_are_taken_as_they_are() -> None:
    gate_up = problem(4, 48)
    answer = gated(gate_up[1:, 16:80], activation="silu")
    assert error(answer, reference(gate_up[1:, 16:80].double(), "silu")) < LIMITS[torch.float32]


@settings(max_examples=10 if INTERPRETED else 50, deadline=None, database=None)
@given(
    rows=st.integers(0, 4),
    size=st.integers(1, 50),
    activation=st.sampled_from(list(ACTIVATIONS)),
    scale=st.floats(0.01, 50),
)
def test_any_shape_agrees_with_the_reference(rows: int, size: int, activation: str, scale: float) -> None:
    gate_up = problem(rows, size, scale=scale)
    exact = reference(gate_up.double(), activation)
    # Far below zero a gelu is a small difference, off by roundings of gate * up.
    atol = 1e-5 + 2e-6 * scale**2
    torch.testing.assert_close(gated(gate_up, activation=activation).double(), exact, rtol=1e-5, atol=atol)


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"^gated: gate_up has 33 columns; pass an even number"):
        gated(torch.zeros(2, 33), activation="silu")
    with pytest.raises(ShapeError, match=r"^gated: activation is 'relu'; pass one of silu, gelu, gelu_tanh"):
        gated(torch.zeros(2, 32), activation="relu")
    with pytest.raises(DtypeError, match=r"^gated: gate_up is torch\.float64; pass torch\.float32"):
        gated(torch.zeros(2, 32, dtype=torch.float64), activation="silu")


def test_torch_accepts_the_op_as_its_own() -> None:
    torch.library.opcheck(torch.ops.quire.gated.default, (problem(3, 32), "gelu_tanh"))
