from dataclasses import replace
from importlib import import_module
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.paged import CASES, LIMITS, MIX, Case, Problem, error
from torch.nn.functional import scaled_dot_product_attention

from quire_kernels import DeviceError, DtypeError, ShapeError, paged_attention
from quire_kernels._select import INTERPRETED

pytestmark = pytest.mark.usefixtures("body")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So short that a test's sequences have several; a multiple of the keys in any turn of the walk here."""
    monkeypatch.setattr(import_module("quire_kernels.paged_attention"), "_INVARIANT_SEGMENT", 64)


def answer(problem: Problem) -> torch.Tensor:
    return paged_attention(*problem.tensors, **problem.options)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("name", CASES)
def test_a_body_agrees_with_the_reference(name: str) -> None:
    problem = CASES[name].problem()
    assert error(answer(problem), problem.exact()) < LIMITS[problem.q.dtype]


@settings(max_examples=15 if INTERPRETED else 60, deadline=None, database=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 80)), max_size=5).map(tuple),
    heads=st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    block=st.sampled_from([8, 16]),
    window=st.sampled_from([0, 1, 7, 30]),
    softcap=st.sampled_from([0.0, 2.0]),
    sinks=st.booleans(),
    surplus=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_any_mix_of_spans_agrees_with_the_reference(heads: tuple[int, int], seed: int, **case: object) -> None:
    problem = Case(heads=heads[0], kv_heads=heads[1], **case).problem(seed)
    assert error(answer(problem), problem.exact()) < LIMITS[torch.float32]


@pytest.mark.parametrize("window", [0, 7])
def test_the_reference_is_causal_attention_over_the_sequence(window: int) -> None:
    problem = Case(((6, 20),), heads=4, kv_heads=2, window=window).problem()
    keys, values = (cache[problem.tables[0].long()].flatten(0, 1)[:20].nan_to_num() for cache in problem.tensors[1:3])
    back = torch.arange(14, 20)[:, None] - torch.arange(20)
    seen = (back >= 0) & (back < (window or 20))
    q, k, v = (tensor.double().transpose(0, 1)[None] for tensor in (problem.q, keys, values))
    dense = scaled_dot_product_attention(q, k, v, seen, scale=0.25, enable_gqa=True)
    assert error(problem.exact(), dense[0].transpose(0, 1)) < 1e-12


def test_equal_scores_give_the_mean_of_the_values_in_the_window() -> None:
    problem = Case(((1, 20),), heads=1, kv_heads=1, window=8).problem()
    problem.q.zero_()
    values = problem.values[problem.tables[0].long()].flatten(0, 1)[12:20, 0]
    torch.testing.assert_close(answer(problem)[0, 0], values.mean(0))


def test_a_sink_takes_its_share_of_the_weight_and_gives_no_value() -> None:
    problem = Case(((1, 3),), heads=1, kv_heads=1, sinks=True).problem()
    problem.q.zero_()
    problem.options["sinks"].fill_(torch.tensor(5.0).log())  # as heavy as five keys of score 0
    values = problem.values[problem.tables[0].long()].flatten(0, 1)[:3, 0]
    torch.testing.assert_close(answer(problem)[0, 0], values.sum(0) / 8)


def test_a_softcap_bounds_every_score() -> None:
    problem = Case(((1, 2),), heads=1, kv_heads=1, softcap=2.0).problem()
    k = problem.keys[problem.tables[0].long()].flatten(0, 1)[:2, 0]
    problem.q[0, 0] = 3 * (k[0] - k[1])  # scores far beyond the cap, one up and one down
    values = problem.values[problem.tables[0].long()].flatten(0, 1)[:2, 0]
    weight = torch.sigmoid(torch.tensor(4.0))
    torch.testing.assert_close(answer(problem)[0, 0], weight * values[0] + (1 - weight) * values[1])


def test_company_does_not_change_a_sequence_answer() -> None:
    problem = Case(((1, 33), (9, 40), (1, 70))).problem()
    crowd = answer(problem)
    for span, (first, last) in enumerate(((0, 1), (1, 10), (10, 11))):
        alone = paged_attention(
            problem.q[first:last],
            problem.keys,
            problem.values,
            problem.tables[span : span + 1],
            torch.tensor([0, last - first], dtype=torch.int32),
            problem.lengths[span : span + 1],
            **problem.options,
        )
        assert torch.equal(crowd[first:last], alone)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_chunks_give_what_the_whole_prompt_gives(size: int) -> None:
    problem = Case(((20, 20),), window=6).problem()
    whole = answer(problem)
    for first in range(0, 20, size):
        last = min(first + size, 20)
        chunk = paged_attention(
            problem.q[first:last],
            *problem.tensors[1:4],
            torch.tensor([0, last - first], dtype=torch.int32),
            torch.tensor([last], dtype=torch.int32),
            **problem.options,
        )
        assert error(chunk, whole[first:last]) < LIMITS[torch.float32]


def part(problem: Problem, span: int, first: int, last: int) -> torch.Tensor:
    """The answer to the queries from first to last of one span, alone."""
    begin, end = problem.starts[span : span + 2].tolist()
    length = problem.lengths[span : span + 1] - (end - begin - last)
    return paged_attention(
        problem.q[begin + first : begin + last],
        *problem.tensors[1:3],
        problem.tables[span : span + 1],
        torch.tensor([0, last - first], dtype=torch.int32),
        length,
        **problem.options,
    )


@pytest.mark.parametrize(
    "case",
    [
        Case(((1, 140), (8, 130), (1, 3)), size=128, invariant=True),
        Case(((1, 140), (8, 130)), size=128, window=70, softcap=2.0, sinks=True, invariant=True),
        Case(((1, 150), (5, 140)), size=256, dtype=torch.bfloat16, invariant=True),
    ],
    ids=["plain", "all features", "bfloat16"],
)
def test_invariant_answers_are_the_same_to_the_last_bit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = case.problem()
    crowd = answer(problem)
    for span, (begin, end) in enumerate(pairwise(problem.starts.tolist())):
        assert torch.equal(part(problem, span, 0, end - begin), crowd[begin:end])
        for first in range(0, end - begin, 5):
            last = min(first + 5, end - begin)
            assert torch.equal(part(problem, span, first, last), crowd[begin + first : begin + last])
    monkeypatch.setattr(import_module("quire_kernels.paged_attention"), "_WAVES", 0)  # no program is split
    assert torch.equal(answer(problem), crowd)


def test_bounds_on_lengths_change_nothing() -> None:
    problem = Case(MIX).problem()
    bounded = paged_attention(*problem.tensors, **problem.options, max_query=6, max_length=70)
    torch.testing.assert_close(bounded, answer(problem))


def test_views_of_other_tensors_are_taken_as_they_are() -> None:
    problem = Case(MIX).problem()
    q = problem.q.transpose(0, 1).contiguous().transpose(0, 1)  # [T, Hq, D] over heads first
    cache = torch.stack([problem.keys, problem.values], 1)  # keys and values of a block side by side
    tables = torch.cat([problem.tables, problem.tables], 1)[:, : problem.tables.shape[1]]
    views = paged_attention(q, cache[:, 0], cache[:, 1], tables, *problem.tensors[4:], **problem.options)
    torch.testing.assert_close(views, answer(problem))


def test_offsets_pass_two_to_the_31() -> None:
    problem = Case(((1, 8),), heads=1, kv_heads=1, size=64, dtype=torch.float16).problem()
    far = 2**31 // (8 * 64)
    keys = torch.empty(far + 1, 8, 1, 64, dtype=torch.float16)  # 4 GiB of address space, of which a page is touched
    keys[far] = problem.keys[1]
    tables = torch.full_like(problem.tables, far)
    moved = paged_attention(problem.q, keys, keys, tables, *problem.tensors[4:], **problem.options)
    near = paged_attention(problem.q, problem.keys, problem.keys, *problem.tensors[3:], **problem.options)
    assert torch.equal(moved, near)


OPTIONS = ("scale", "window", "softcap", "sinks", "key_scale")


def wrong(problem: Problem, **changes: object) -> torch.Tensor:
    options = {name: changes.pop(name) for name in OPTIONS if name in changes}
    return answer(replace(problem, options=problem.options | options, **changes))


@pytest.mark.parametrize(
    ("changes", "problem_named"),
    [
        ({"q": torch.zeros(3, 4)}, r"q has shape \[3, 4\]; pass \[T, Hq, D\]"),
        ({"q": torch.zeros(3, 4, 16)}, r"keys .* but q makes D 16; pass 16 where 32 stands"),
        ({"q": torch.zeros(3, 3, 32)}, r"q has 3 heads and keys have 2; make the first a multiple"),
        ({"values": torch.zeros(7, 8, 1, 32)}, r"values .* but keys makes"),
        (
            {"starts": torch.zeros(3, dtype=torch.int32)},
            r"starts .*\[S\+1\], but tables makes S 1; pass 2 where 3 stands",
        ),
        ({"lengths": torch.zeros(2, dtype=torch.int32)}, r"lengths .*tables makes S 1; pass 1 where 2 stands"),
        ({"sinks": torch.zeros(3)}, r"sinks .*q makes Hq 4; pass 4 where 3 stands"),
        ({"window": -1}, r"window is -1; pass 0 for no limit"),
        ({"softcap": -2.0}, r"softcap is -2\.0; pass 0 to turn it off"),
        ({"scale": 0.0}, r"scale is 0\.0; pass a positive number"),
        ({"key_scale": 0.0}, r"key_scale is 0\.0; pass what store_kv divided by"),
        ({"q": torch.zeros(3, 4, 64)[:, :, ::2]}, r"q has stride 2 in its last dimension; pass it with stride 1"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changes: dict[str, object], problem_named: str) -> None:
    with pytest.raises(ShapeError, match=rf"^paged_attention: {problem_named}"):
        wrong(Case(((3, 8),)).problem(), **changes)


@pytest.mark.skipif(INTERPRETED, reason="a device's lengths are not read on the host")
@pytest.mark.parametrize(
    ("changes", "problem_named"),
    [
        ({"starts": torch.tensor([0, 9], dtype=torch.int32)}, "starts end at 9, but q has 3 rows"),
        (
            {"lengths": torch.tensor([900], dtype=torch.int32)},
            "lengths go up to 900, but a row of tables holds 24 keys",
        ),
    ],
)
def test_counts_that_the_shapes_do_not_allow_are_named(changes: dict[str, object], problem_named: str) -> None:
    with pytest.raises(ShapeError, match=f"^paged_attention: {problem_named}"):
        wrong(Case(((3, 8),)).problem(), **changes)


@pytest.mark.parametrize(
    ("changes", "problem_named"),
    [
        ({"q": torch.zeros(3, 4, 32, dtype=torch.float64)}, "q is torch.float64; pass torch.float32 or torch.float16"),
        (
            {"q": torch.zeros(3, 4, 32, dtype=torch.float16)},
            "keys is torch.float32; pass torch.float16 or torch.float8",
        ),
        (
            {"keys": torch.zeros(5, 8, 2, 32).to(torch.float8_e4m3fn)},
            "values is torch.float32; pass torch.float8_e4m3fn",
        ),
        ({"tables": torch.zeros(1, 3, dtype=torch.int64)}, "tables is torch.int64; pass torch.int32"),
    ],
)
def test_dtypes_that_do_not_fit_are_named(changes: dict[str, object], problem_named: str) -> None:
    with pytest.raises(DtypeError, match=rf"^paged_attention: {problem_named}"):
        wrong(Case(((3, 8),)).problem(), **changes)


def test_tensors_on_two_devices_are_refused() -> None:
    problem = Case(((3, 8),)).problem()
    with pytest.raises(DeviceError, match="lengths is on meta, but q is on cpu; move one of them"):
        wrong(problem, lengths=problem.lengths.to("meta"))


def test_torch_accepts_the_op_as_its_own() -> None:
    problem = Case(MIX, v_size=16, sinks=True, surplus=1).problem()
    arguments = (*problem.tensors, 0.25, 3, 2.0, problem.options["sinks"], None, 70, 1.0, 1.0, False)
    torch.library.opcheck(torch.ops.quire.paged_attention.default, arguments)


def test_the_call_is_one_node_of_a_compiled_graph() -> None:
    problem = Case(MIX).problem()
    compiled = torch.compile(
        lambda *tensors: paged_attention(*tensors, scale=0.25) * 2, backend="eager", fullgraph=True
    )
    torch.testing.assert_close(compiled(*problem.tensors), answer(problem) * 2)
