from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.paged import LIMITS, error
from torch import Tensor

from quire_kernels import DtypeError, ShapeError, rms_norm, rotary
from quire_kernels._select import INTERPRETED
from quire_kernels.rotary import reference

pytestmark = pytest.mark.usefixtures("body", "poisoned_memory")

EPS = 1e-5
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def problem(
    tokens: int,
    heads: tuple[int, int] = (4, 2),
    size: int = 32,
    turned: int | None = None,
    dtype: torch.dtype = torch.float32,
    weights: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
    """Queries, keys, the cosines and sines of random angles, and options."""
    generator = torch.Generator().manual_seed(tokens)
    q, k = (torch.randn(tokens, count, size, generator=generator).to(dtype) for count in heads)
    angles = torch.rand(tokens, (turned or size) // 2, generator=generator) * 100
    options: dict[str, Any] = {}
    if weights:
        options = {"eps": EPS, "offset": 0.5}
        options |= {name: torch.randn(size, generator=generator).to(dtype) for name in ("q_weight", "k_weight")}
    return q, k, angles.cos(), angles.sin(), options


def exact(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """What the reference makes of q and k in float64."""
    q, k = q.double(), k.double()
    reference(q, k, cos, sin, **({"q_weight": None, "k_weight": None, "eps": 0.0, "offset": 0.0} | options))
    return q, k


def agrees(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, options: dict[str, Any]) -> bool:
    """Whether the op leaves q and k as the reference does."""
    expected = exact(q, k, cos, sin, options)
    rotary(q, k, cos, sin, **options)
    return all(error(x, y) < LIMITS[x.dtype] for x, y in zip((q, k), expected, strict=True))


@pytest.mark.parametrize("weights", [False, True], ids=["plain", "with norms"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_a_body_agrees_with_the_reference(tokens: int, dtype: torch.dtype, weights: bool) -> None:
    assert agrees(*problem(tokens, dtype=dtype, weights=weights))


@pytest.mark.parametrize("weights", [False, True], ids=["plain", "with norms"])
@pytest.mark.parametrize(
    "shape",
    [
        {"heads": (1, 1), "size": 128},
        {"heads": (16, 16), "size": 64},
        {"heads": (71, 1), "size": 64},  # more heads than a program takes
        {"heads": (3, 1), "size": 96},
        {"heads": (4, 2), "size": 80, "turned": 32},
        {"heads": (4, 2), "size": 64, "turned": 24},
        {"heads": (2, 2), "size": 256, "turned": 64},
        {"heads": (2, 1), "size": 2},
    ],
    ids=str,
)
def test_any_shape_of_heads_is_served(shape: dict[str, Any], weights: bool) -> None:
    assert agrees(*problem(3, **shape, weights=weights))


@pytest.mark.parametrize("name", ["q_weight", "k_weight"])
def test_queries_or_keys_alone_may_have_a_norm(name: str) -> None:
    q, k, cos, sin, options = problem(3, weights=True)
    assert agrees(q, k, cos, sin, {name: options[name], "eps": EPS})


def test_the_turn_is_that_of_transformers() -> None:
    q, k, cos, sin, _ = problem(5)
    full_cos, full_sin = (torch.cat([half, half], -1)[:, None] for half in (cos, sin))
    expected = [x * full_cos + torch.cat([-x[..., 16:], x[..., :16]], -1) * full_sin for x in (q, k)]
    rotary(q, k, cos, sin)
    torch.testing.assert_close([q, k], expected)


def test_scores_depend_on_distances_alone() -> None:
    row = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(0))
    angles = torch.arange(12)[:, None] * 0.3 ** torch.arange(16)
    q, k = row.repeat(12, 1, 1), row.repeat(12, 1, 1)
    rotary(q, k, angles.cos(), angles.sin())
    scores = q[:, 0] @ k[:, 0].T
    torch.testing.assert_close(scores[2:, 2:], scores[:-2, :-2])


def test_no_angle_leaves_the_norm_alone() -> None:
    q, k, cos, sin, options = problem(3, weights=True)
    expected = rms_norm(q.flatten(0, 1), options["q_weight"], eps=EPS, offset=0.5).view_as(q)
    rotary(q, k, torch.ones_like(cos), torch.zeros_like(sin), **options)
    torch.testing.assert_close(q, expected)


def test_parts_of_one_product_are_turned_where_they_lie() -> None:
    q, k, cos, sin, options = problem(4, weights=True)
    expected = exact(q, k, cos, sin, options)
    product = torch.cat([q.flatten(1), k.flatten(1), torch.ones(4, 64)], 1)  # queries, keys and values of a token
    parts = product[:, :128].view(4, 4, 32), product[:, 128:192].view(4, 2, 32)
    angles = (torch.cat([half, half], 1)[:, :16] for half in (cos, sin))
    rotary(*parts, *angles, **options)
    assert error(product[:, :128], expected[0].flatten(1)) < LIMITS[torch.float32]
    assert error(product[:, 128:192], expected[1].flatten(1)) < LIMITS[torch.float32]
    assert (product[:, 192:] == 1).all()


@settings(max_examples=10 if INTERPRETED else 50, deadline=None, database=None)
@given(
    tokens=st.integers(0, 4),
    heads=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.integers(2, 40),
    weights=st.booleans(),
    data=st.data(),
)
def test_any_heads_agree_with_the_reference(
    tokens: int, heads: tuple[int, int], size: int, weights: bool, data: st.DataObject
) -> None:
    turned = 2 * data.draw(st.integers(1, size // 2))
    assert agrees(*problem(tokens, heads, size, turned, weights=weights))


def test_shapes_that_do_not_fit_are_named() -> None:
    q, k, cos, sin, _ = problem(4)
    with pytest.raises(ShapeError, match=r"^rotary: k .* but q makes T 4; pass 4 where 3 stands"):
        rotary(q, k[:3], cos, sin)
    with pytest.raises(ShapeError, match=r"^rotary: sin .* but cos makes R/2 16; pass 16 where 8 stands"):
        rotary(q, k, cos, sin[:, :8])
    with pytest.raises(ShapeError, match=r"^rotary: cos turns 32 pairs of dimensions, but a head has 32"):
        rotary(q, k, torch.cat([cos, cos], 1), torch.cat([sin, sin], 1))
    with pytest.raises(ShapeError, match=r"^rotary: q_weight .* but q makes D 32; pass 32 where 128 stands"):
        rotary(q, k, cos, sin, q_weight=torch.ones(128))


def test_dtypes_that_do_not_fit_are_named() -> None:
    q, k, cos, sin, _ = problem(4)
    with pytest.raises(DtypeError, match=r"^rotary: cos is torch\.float16; pass torch\.float32"):
        rotary(q, k, cos.half(), sin.half())
    with pytest.raises(DtypeError, match=r"^rotary: k is torch\.float16; pass torch\.float32"):
        rotary(q, k.half(), cos, sin)


def test_torch_accepts_the_op_as_its_own() -> None:
    q, k, cos, sin, options = problem(4, weights=True)
    arguments = (q, k, cos, sin, options["q_weight"], options["k_weight"], EPS, 0.5)
    torch.library.opcheck(torch.ops.quire.rotary.default, arguments)
