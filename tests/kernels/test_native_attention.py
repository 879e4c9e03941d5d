"""Attention of the CPU library: every instruction set and number of threads at hand, against the reference."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tests.support.native import ISAS, library_or_skip
from tests.support.paged import CASES, LIMITS, Case, error

from quire_kernels import paged_attention
from quire_kernels._cpu import Library

LONG = ((1, 2000), (1, 300), (2, 1500), (40, 900), (1, 1), (3, 3))


@pytest.fixture
def library() -> Iterator[Library]:
    yield from library_or_skip()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_agrees_with_the_reference(library: Library, isa: str, threads: int) -> None:
    library.use_isa(isa)
    library.set_threads(threads)
    for name, case in CASES.items():
        problem = case.problem()
        answer = paged_attention(*problem.tensors, **problem.options)
        assert error(answer, problem.exact()) < LIMITS[problem.q.dtype], name


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_long_contexts_are_cut_between_threads(library: Library, isa: str, dtype: torch.dtype) -> None:
    library.use_isa(isa)
    problem = Case(LONG, heads=4, kv_heads=2, size=64, block=16, window=1200, softcap=3.0, sinks=True).problem()
    problem = replace(problem, q=problem.q.to(dtype), keys=problem.keys.to(dtype), values=problem.values.to(dtype))
    exact = problem.exact()
    for threads in (1, 2, 3, 7):
        library.set_threads(threads)
        assert error(paged_attention(*problem.tensors, **problem.options), exact) < LIMITS[dtype]


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_threads_company_and_chunks_change_no_bit(library: Library, isa: str, dtype: torch.dtype) -> None:
    library.use_isa(isa)
    options = {"invariant": True}
    problem = Case(((1, 1300), (150, 700), (1, 5)), size=48, block=16, dtype=dtype, window=650, sinks=True).problem()
    library.set_threads(1)
    expected = paged_attention(*problem.tensors, **problem.options, **options)
    for threads in (2, 3, 5):
        library.set_threads(threads)
        assert torch.equal(paged_attention(*problem.tensors, **problem.options, **options), expected)
    for first, last in ((1, 2), (2, 60), (60, 151)):  # the second span's queries, in chunks and alone
        chunk = paged_attention(
            problem.q[first:last],
            problem.keys,
            problem.values,
            problem.tables[1:2],
            torch.tensor([0, last - first], dtype=torch.int32),
            torch.tensor([700 - (151 - last)], dtype=torch.int32),
            **problem.options,
            **options,
        )
        assert torch.equal(chunk, expected[first:last])


@pytest.mark.parametrize("size", [8, 16, 24, 40, 64])
@pytest.mark.parametrize("isa", ISAS)
def test_what_scratch_memory_held_before_enters_no_answer(
    library: Library, monkeypatch: pytest.MonkeyPatch, isa: str, size: int
) -> None:
    library.use_isa(isa)
    scratch_of = Library.scratch_of
    monkeypatch.setattr(Library, "scratch_of", lambda *asked: scratch_of(*asked).fill_(0xFF))  # NaN in every type
    for queries in range(1, 7):
        case = Case(((queries, 70), (1, 9)), heads=4, kv_heads=2, size=size, block=16, dtype=torch.bfloat16)
        problem = case.problem()
        answer = paged_attention(*problem.tensors, **problem.options)
        assert error(answer, problem.exact()) < LIMITS[torch.bfloat16]


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_a_query_that_is_no_number_gives_none_and_harms_no_other(
    library: Library, isa: str, dtype: torch.dtype
) -> None:
    library.use_isa(isa)
    problem = Case(((3, 40), (1, 9)), heads=4, kv_heads=2, size=32, block=16, dtype=dtype).problem()
    expected = paged_attention(*problem.tensors, **problem.options)
    problem.q[1] = torch.nan
    answer = paged_attention(*problem.tensors, **problem.options)
    assert answer[1].isnan().all()
    assert torch.equal(answer[[0, 2, 3]], expected[[0, 2, 3]])


@pytest.mark.parametrize(
    "spans", [((2, 266),), ((3, 265),), ((20, 280),), ((40, 540), (7, 519)), ((100, 600),)], ids=str
)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_a_window_may_leave_a_part_of_the_keys_between_two_queries_of_a_tile(
    library: Library, isa: str, dtype: torch.dtype, spans: tuple[tuple[int, int], ...]
) -> None:
    library.use_isa(isa)
    for window in (4, 10, 250, 300):
        problem = Case(spans, heads=4, kv_heads=2, size=32, block=16, dtype=dtype, window=window).problem()
        exact = problem.exact()
        assert error(paged_attention(*problem.tensors, **problem.options), exact) < LIMITS[dtype]
        assert error(paged_attention(*problem.tensors, **problem.options, invariant=True), exact) < LIMITS[dtype]
