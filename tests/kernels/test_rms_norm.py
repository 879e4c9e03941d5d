import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.paged import LIMITS, error
from torch import Tensor

from quire_kernels import DtypeError, ShapeError, add_rms_norm, rms_norm
from quire_kernels._select import INTERPRETED
from quire_kernels.rms_norm import reference

pytestmark = pytest.mark.usefixtures("body", "poisoned_memory")

EPS = 1e-5
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def problem(rows: int, size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, a residual and a weight."""
    generator = torch.Generator().manual_seed(rows)
    x, residual = torch.randn(2, rows, size, generator=generator).to(dtype)
    return x, residual, torch.randn(size, generator=generator).to(dtype)


def exact(x: Tensor, weight: Tensor, eps: float = EPS, offset: float = 0.0) -> Tensor:
    """The reference's answer in float64."""
    return reference(x.double(), weight.double(), eps, offset)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "size"), [(0, 32), (1, 32), (5, 64), (3, 80), (2, 7), (2, 2304)])
def test_a_body_agrees_with_the_reference(rows: int, size: int, dtype: torch.dtype) -> None:
    x, _, weight = problem(rows, size, dtype)
    answer = rms_norm(x, weight, eps=EPS)
    assert answer.dtype == dtype
    assert error(answer, exact(x, weight)) < LIMITS[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "size"), [(0, 32), (1, 32), (5, 80), (2, 2304)])
def test_the_residual_takes_the_sum_and_the_norm_is_the_sum_s(rows: int, size: int, dtype: torch.dtype) -> None:
    x, residual, weight = problem(rows, size, dtype)
    total = x.double() + residual.double()
    answer = add_rms_norm(x, residual, weight, eps=EPS)
    assert error(residual, total) < LIMITS[dtype]
    assert error(answer, exact(residual, weight)) < LIMITS[dtype]


def test_an_offset_is_added_to_the_weight() -> None:
    x, residual, weight = problem(4, 48)
    assert error(rms_norm(x, weight, eps=EPS, offset=1.0), exact(x, weight + 1)) < LIMITS[torch.float32]
    assert error(add_rms_norm(x, residual, weight, eps=EPS, offset=1.0), exact(residual, weight + 1)) < 1e-6


def test_eps_keeps_a_row_of_zeros_zero() -> None:
    assert torch.equal(rms_norm(torch.zeros(2, 32), torch.ones(32), eps=EPS), torch.zeros(2, 32))


def test_large_values_in_float16_do_not_overflow() -> None:
    x = torch.full((1, 64), 60000.0, dtype=torch.float16)
    torch.testing.assert_close(rms_norm(x, torch.ones(64).half(), eps=EPS), torch.ones(1, 64).half())


def test_views_of_other_tensors_are_taken_as_they_are() -> None:
    x, residual, weight = problem(4, 96)
    expected = residual[:, 32:64] + x[:, :32], residual[:, :32].clone()
    answer = add_rms_norm(x[:, :32], residual[:, 32:64], weight[:32], eps=EPS)
    torch.testing.assert_close(residual[:, 32:64], expected[0])
    assert torch.equal(residual[:, :32], expected[1])
    assert error(answer, exact(expected[0], weight[:32])) < LIMITS[torch.float32]


def test_company_does_not_change_a_row() -> None:
    x, _, weight = problem(7, 80)
    crowd = rms_norm(x, weight, eps=EPS)
    for row in range(7):
        assert torch.equal(rms_norm(x[row : row + 1], weight, eps=EPS)[0], crowd[row])


@settings(max_examples=10 if INTERPRETED else 50, deadline=None, database=None)
@given(rows=st.integers(0, 6), size=st.integers(1, 70), offset=st.sampled_from([0.0, 1.0]), scale=st.floats(1e-2, 1e3))
def test_any_shape_agrees_with_the_reference(rows: int, size: int, offset: float, scale: float) -> None:
    x, _, weight = problem(rows, size)
    x *= scale
    assert error(rms_norm(x, weight, eps=EPS, offset=offset), exact(x, weight, EPS, offset)) < LIMITS[torch.float32]


def test_shapes_that_do_not_fit_are_named() -> None:
    x, residual, weight = problem(4, 32)
    with pytest.raises(ShapeError, match=r"^rms_norm: weight .* but x makes H 32; pass 32 where 31 stands"):
        rms_norm(x, weight[:31], eps=EPS)
    with pytest.raises(ShapeError, match=r"^add_rms_norm: residual .* but x makes T 4; pass 4 where 3 stands"):
        add_rms_norm(x, residual[:3], weight, eps=EPS)
    with pytest.raises(ShapeError, match=r"^rms_norm: eps is -1\.0; pass zero or a small positive number"):
        rms_norm(x, weight, eps=-1.0)


def test_dtypes_that_do_not_fit_are_named() -> None:
    x, residual, weight = problem(4, 32)
    with pytest.raises(DtypeError, match=r"^rms_norm: weight is torch\.float32; pass torch\.float16"):
        rms_norm(x.half(), weight, eps=EPS)
    with pytest.raises(DtypeError, match=r"^add_rms_norm: residual is torch\.float32; pass torch\.float16"):
        add_rms_norm(x.half(), residual, weight, eps=EPS)


def test_torch_accepts_the_ops_as_its_own() -> None:
    x, residual, weight = problem(4, 32)
    torch.library.opcheck(torch.ops.quire.rms_norm.default, (x, weight, EPS, 1.0))
    torch.library.opcheck(torch.ops.quire.add_rms_norm.default, (x, residual, weight, EPS, 1.0))
