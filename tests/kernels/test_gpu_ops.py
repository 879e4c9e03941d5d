"""The ops beside attention on a device: against their references or plain torch bodies, at real sizes."""

from collections.abc import Callable

import pytest
import torch
from tests.support.paged import LIMITS, error
from torch import Tensor

from quire_kernels import add_rms_norm, draw, experts, gated, penalties, rms_norm, rotary, uniforms
from quire_kernels.draw import cpu as draw_plainly
from quire_kernels.draw import reference_uniforms
from quire_kernels.experts import cpu as experts_plainly
from quire_kernels.gated import reference as gated_reference
from quire_kernels.penalties import reference as penalties_reference
from quire_kernels.rms_norm import reference as norm_reference
from quire_kernels.rotary import reference as rotary_reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

BF16 = torch.bfloat16
DTYPES = (torch.float32, torch.float16, BF16)


def random(*shape: int, dtype: torch.dtype = BF16) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, device="cuda").to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "size"), [(1, 4096), (1000, 1024), (300, 5120), (7, 16384)])
def test_norms_agree_with_the_reference(rows: int, size: int, dtype: torch.dtype) -> None:
    x, residual, weight = random(rows, size, dtype=dtype), random(rows, size, dtype=dtype), random(size, dtype=dtype)
    exact = norm_reference(x.double(), weight.double(), 1e-6, 1.0)
    assert error(rms_norm(x, weight, eps=1e-6, offset=1.0), exact) < LIMITS[dtype]
    total = residual + x
    answer = add_rms_norm(x, residual, weight, eps=1e-6)
    assert torch.equal(residual, total)
    assert error(answer, norm_reference(total.double(), weight.double(), 1e-6, 0.0)) < LIMITS[dtype]


@pytest.mark.parametrize("norms", [False, True], ids=["plain", "with norms"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads", "size", "half"), [(32, 8, 128, 64), (16, 16, 80, 16), (71, 1, 64, 32)])
def test_rotation_agrees_with_the_reference(
    heads: int, kv_heads: int, size: int, half: int, dtype: torch.dtype, norms: bool
) -> None:
    q, k = random(500, heads, size, dtype=dtype), random(500, kv_heads, size, dtype=dtype)
    angles = 1000 * random(500, half, dtype=torch.float32)
    weights = {"q_weight": random(size, dtype=dtype), "k_weight": random(size, dtype=dtype)} if norms else {}
    options = {"q_weight": None, "k_weight": None, "eps": 1e-6, "offset": 0.0} | weights
    exact = q.double(), k.double()
    rotary_reference(*exact, angles.cos(), angles.sin(), **options)
    rotary(q, k, angles.cos(), angles.sin(), **options)
    assert error(q, exact[0]) < LIMITS[dtype]
    assert error(k, exact[1]) < LIMITS[dtype]


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gates_agree_with_the_reference(dtype: torch.dtype, activation: str) -> None:
    gate_up = 4 * random(300, 2 * 3000, dtype=dtype)
    exact = gated_reference(gate_up.double(), activation)
    assert error(gated(gate_up, activation=activation), exact) < LIMITS[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 30, 2000])
def test_experts_agree_with_plain_torch(tokens: int, dtype: torch.dtype) -> None:
    x = random(tokens, 512)
    gate_up, down = random(64, 2 * 384, 512) / 20, random(64, 512, 384) / 20
    ids = torch.rand(tokens, 64, device="cuda").topk(6).indices
    ids[0, 0] = 64
    weights = torch.rand(tokens, 6, device="cuda")
    exact = experts_plainly(x.double(), gate_up.double(), down.double(), ids, weights, "silu", False)
    answer = experts(x.to(dtype), gate_up.to(dtype), down.to(dtype), ids, weights, activation="silu")
    assert error(answer, exact) < 3 * max(LIMITS[dtype], 2e-3 if dtype == torch.float16 else 0)


def test_invariant_experts_do_not_mind_company() -> None:
    x, gate_up, down = random(700, 512), random(64, 2 * 384, 512) / 20, random(64, 512, 384) / 20
    ids, weights = torch.rand(700, 64, device="cuda").topk(6).indices, torch.rand(700, 6, device="cuda")
    crowd = experts(x, gate_up, down, ids, weights, activation="silu", invariant=True)
    for token in (0, 333, 699):
        own = slice(token, token + 1)
        alone = experts(x[own], gate_up, down, ids[own], weights[own], activation="silu", invariant=True)
        assert torch.equal(alone[0], crowd[token])


def test_penalties_agree_with_the_reference() -> None:
    logits = random(6, 151936, dtype=torch.float32)
    tokens = torch.randint(900, (3, 5000), device="cuda")
    columns = torch.tensor([[0, 3, 0], [100, 3, 4000], [5000, 2, 4100]], device="cuda")
    strengths = torch.tensor([[1.3, 1.0, 0.8], [0.5, 0.0, -0.1], [0.01, 0.2, 0.0]], device="cuda")
    rows = torch.tensor([4, 0, 1], device="cuda")
    expected = logits.clone()
    penalties_reference(expected, rows, tokens, *columns, *strengths)
    penalties(logits, rows, tokens, *columns, *strengths)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)  # thousands of additions, one by one


SETTINGS = {
    "nothing": (),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "all": ("top_k", "top_p", "min_p"),
}


def sampling(rows: int, size: int, *names: str) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Random logits, numbers, temperatures and settings."""
    turn = torch.arange(rows, device="cuda") % 4
    settings = {
        "top_k": torch.tensor([0, 1, 50, 3000], device="cuda")[turn],
        "top_p": torch.tensor([0.9, 1.0, 0.5, 0.999], device="cuda")[turn],
        "min_p": torch.tensor([0.0, 0.1, 0.001, 0.0], device="cuda")[turn],
    }
    temperature = torch.tensor([1.0, 0.7, 2.0, 0.0, 1.2], device="cuda")[torch.arange(rows, device="cuda") % 5]
    words = torch.arange(rows, device="cuda")
    logits = 3 * random(rows, size, dtype=torch.float32)
    return logits, uniforms(words, words, words), temperature, {name: settings[name] for name in names}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("rows", "size"), [(1, 151936), (200, 32000), (64, 128256)])
def test_draws_agree_with_plain_torch(rows: int, size: int, name: str) -> None:
    logits, uniform, temperature, options = sampling(rows, size, *SETTINGS[name])
    tokens, best = draw(logits, uniform, temperature, **options)
    others = {name: options.get(name) for name in ("top_k", "top_p", "min_p")}
    expected, _ = draw_plainly(logits, uniform, temperature, **others)
    assert torch.equal(best, logits.amax(-1))
    assert (tokens != expected).sum() <= rows // 100  # where the number falls between two tokens, to a rounding


def test_numbers_are_those_of_the_reference_on_the_device() -> None:
    words = torch.randint(-(2**63), 2**63 - 1, (3, 1000)).cuda()
    assert torch.equal(uniforms(*words), reference_uniforms(*words))


def everything() -> list[Callable[[], object]]:
    """A call of every op."""
    x, residual, weight = random(8, 1024), random(8, 1024), random(1024)
    q, k = random(8, 16, 64), random(8, 4, 64)
    angles = random(8, 32, dtype=torch.float32)
    gate_up, down = random(16, 512, 1024), random(16, 1024, 256)
    ids, weights = torch.rand(8, 16, device="cuda").topk(2).indices, torch.rand(8, 2, device="cuda")
    logits, uniform, temperature, options = sampling(8, 32000, "top_k", "top_p", "min_p")
    words = torch.arange(8, device="cuda")
    tokens = torch.randint(32000, (8, 100), device="cuda")
    ones = torch.ones(8, device="cuda")
    return [
        lambda: rms_norm(x, weight, eps=1e-6),
        lambda: add_rms_norm(x, residual, weight, eps=1e-6),
        lambda: rotary(q, k, angles.cos(), angles.sin()),
        lambda: gated(x, activation="silu"),
        lambda: experts(x, gate_up, down, ids, weights, activation="silu"),
        lambda: penalties(logits, words, tokens, words * 0, words * 0 + 50, words * 0 + 100, ones, ones, ones),
        lambda: draw(logits, uniform, temperature, **options),
        lambda: uniforms(words, words, words),
    ]


def test_no_op_waits_for_the_device_and_a_graph_takes_all() -> None:
    calls = everything()
    for call in calls:
        call()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for call in calls:
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = [call() for call in calls]
    graph.replay()
    torch.cuda.synchronize()
    assert len(answers) == len(calls)
