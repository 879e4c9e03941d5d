import random

import pytest
import torch
from tests.support.paged import CASES, LIMITS, Case, error

from quire_kernels import paged_attention, store_kv
from quire_kernels.store_kv import reference as store_reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

BF16 = torch.bfloat16
DRAW = random.Random(0)
DECODE = tuple((1, DRAW.randint(1, 2048)) for _ in range(64))
CHUNKS = ((512, 512), (700, 1500), (64, 4000))
LLAMA = {"heads": 32, "kv_heads": 8, "size": 128, "block": 16, "scale": 128**-0.5}
REALISTIC = {
    "decode": Case(DECODE, **LLAMA, dtype=BF16),
    "decode, float16": Case(DECODE, **LLAMA, dtype=torch.float16),
    "decode, float32": Case(DECODE[:16], **LLAMA),
    "skewed": Case(((1, 16000), *DECODE[:15]), **LLAMA, dtype=BF16),
    "prefill": Case(CHUNKS, **LLAMA, dtype=BF16),
    "prefill, float32": Case(CHUNKS, **LLAMA),
    "everything at once": Case(DECODE + CHUNKS, **LLAMA, dtype=BF16, surplus=37),
    "large heads, window and cap": Case(
        DECODE[:16] + CHUNKS, heads=8, kv_heads=4, size=256, block=32, dtype=BF16, window=512, softcap=50.0
    ),
    "sinks": Case(DECODE + CHUNKS, heads=64, kv_heads=8, size=64, block=16, dtype=BF16, window=128, sinks=True),
    "float8": Case(DECODE + CHUNKS, **LLAMA, dtype=BF16, float8=True),
    "invariant": Case(((1, 16000), *DECODE[:15], *CHUNKS), **LLAMA, dtype=BF16, invariant=True),
    "one long sequence": Case(((1, 32768),), **LLAMA, dtype=BF16),
    "one key head, odd size": Case(DECODE[:16] + CHUNKS, heads=16, kv_heads=1, size=96, block=64, dtype=BF16),
}


@pytest.mark.parametrize("name", CASES)
def test_the_device_agrees_with_the_reference_on_every_branch(name: str) -> None:
    problem = CASES[name].problem(device="cuda")
    answer = paged_attention(*problem.tensors, **problem.options)
    assert error(answer, problem.exact()) < LIMITS[answer.dtype]


@pytest.mark.parametrize("name", REALISTIC)
def test_the_device_agrees_with_the_reference_at_real_sizes(name: str) -> None:
    problem = REALISTIC[name].problem(device="cuda")
    answer = paged_attention(*problem.tensors, **problem.options)
    assert error(answer, problem.exact()) < LIMITS[answer.dtype]


@pytest.mark.parametrize("size", [1, 100, 512])
def test_invariant_answers_are_the_same_to_the_last_bit_on_the_device(size: int) -> None:
    problem = Case((*DECODE[:20], (512, 5000)), **LLAMA, dtype=BF16, window=4500, invariant=True).problem(device="cuda")
    crowd = paged_attention(*problem.tensors, **problem.options)
    for first in range(0, 512, size)[:8]:
        last = min(first + size, 512)
        alone = paged_attention(
            problem.q[20 + first : 20 + last],
            *problem.tensors[1:3],
            problem.tables[20:],
            torch.tensor([0, last - first], dtype=torch.int32, device="cuda"),
            problem.lengths[20:] - (512 - last),
            **problem.options,
        )
        assert torch.equal(alone, crowd[20 + first : 20 + last])


@pytest.mark.parametrize("name", ["decode", "invariant"])
def test_nothing_waits_for_the_device(name: str) -> None:
    problem = REALISTIC[name].problem(device="cuda")
    paged_attention(*problem.tensors, **problem.options)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        paged_attention(*problem.tensors, **problem.options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_one_graph_serves_any_mix_of_spans() -> None:
    mixes = [((1, 40), (20, 20), (3, 90)), ((8, 8), (1, 1), (15, 90)), ((24, 60), (0, 0), (0, 9))]
    problems = [Case(mix, **LLAMA, dtype=BF16).problem(device="cuda") for mix in mixes]
    blocks = max(len(problem.keys) for problem in problems)
    held = [problems[0].q.clone()]
    held += [cache.new_zeros(blocks, *cache.shape[1:]) for cache in problems[0].tensors[1:3]]
    held += [torch.zeros(3, 16, dtype=torch.int32, device="cuda"), *(t.clone() for t in problems[0].tensors[4:])]
    paged_attention(*held, **problems[0].options)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = paged_attention(*held, **problems[0].options)
    for problem in problems:
        for place, tensor in zip(held, problem.tensors, strict=True):
            place[tuple(slice(size) for size in tensor.shape)] = tensor
        graph.replay()
        assert error(answer, problem.exact()) < LIMITS[BF16]


@pytest.mark.parametrize("tokens", [1, 33, 8192])
def test_rows_land_in_their_slots_on_the_device(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    key, value = (torch.randn(8, tokens, 128, generator=generator).to("cuda", BF16).transpose(0, 1) for _ in range(2))
    slots = torch.randperm(1024 * 16, generator=generator)[:tokens]
    slots[torch.rand(tokens, generator=generator) < 0.1] = -1
    keys, values = torch.zeros(2, 1024, 16, 8, 128, dtype=BF16, device="cuda")
    expected = keys.clone(), values.clone()
    store_reference(key, value, *expected, slots, 1.0, 1.0)
    store_kv(key, value, keys, values, slots.cuda())
    assert torch.equal(keys, expected[0])
    assert torch.equal(values, expected[1])


def test_offsets_pass_two_to_the_31_on_the_device() -> None:
    problem = Case(((1, 16),), **LLAMA, dtype=BF16).problem(device="cuda")
    far = 2**31 // (16 * 8 * 128)
    keys = torch.empty(far + 1, 16, 8, 128, dtype=BF16, device="cuda")
    rows = problem.keys[1]
    store_kv(rows, rows, keys, keys, torch.arange(far * 16, far * 16 + 16, device="cuda"))
    moved = paged_attention(
        problem.q, keys, keys, torch.full_like(problem.tables, far), *problem.tensors[4:], **problem.options
    )
    near = paged_attention(problem.q, problem.keys, problem.keys, *problem.tensors[3:], **problem.options)
    assert torch.equal(moved, near)
