from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quire_kernels import DtypeError, ShapeError, penalties
from quire_kernels._select import INTERPRETED
from quire_kernels.penalties import reference

pytestmark = pytest.mark.usefixtures("body")

Sequence = tuple[int, int, list[int]]
"""Tokens before the first that counts, tokens of the prompt, and all of them."""


def problem(
    sequences: list[Sequence], repetition: float = 1.5, presence: float = 0.5, frequency: float = 0.25, vocab: int = 50
) -> list[Tensor]:
    """Random logits in rows of which every other one belongs to a sequence; columns beyond a sequence hold a 7."""
    n = len(sequences)
    logits = torch.randn(2 * n + 1, vocab, generator=torch.Generator().manual_seed(n))
    tokens = torch.full((n, max((len(each) for _, _, each in sequences), default=0) + 3), 7)
    for row, (first, _, each) in zip(tokens, sequences, strict=True):
        row[: len(each)] = torch.tensor(each, dtype=torch.int64)
        row[:first] = 7
    columns = [[first for first, _, _ in sequences], [prompt for _, prompt, _ in sequences]]
    columns += [[len(each) for _, _, each in sequences]]
    numbers = [torch.tensor(column, dtype=torch.int64) for column in columns]
    strengths = [torch.full((n,), strength) for strength in (repetition, presence, frequency)]
    return [logits, torch.arange(n) * 2 + 1, tokens, *numbers, *strengths]


def agrees(arguments: list[Tensor]) -> bool:
    """Whether the op leaves the logits, all of them, as the reference does."""
    logits, *others = arguments
    expected = logits.clone()
    reference(expected, *others)
    penalties(logits, *others)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    return True


MIX: list[Sequence] = [(0, 3, [1, 2, 3, 4, 4, 4, 1, 2]), (0, 2, [5, 5]), (0, 0, [9]), (0, 4, [8, 8, 9, 8, 8, 9])]


@pytest.mark.parametrize(
    "strengths",
    [
        {"presence": 0.0, "frequency": 0.0},
        {"repetition": 1.0, "frequency": 0.0},
        {"repetition": 1.0, "presence": 0.0},
        {"repetition": 0.7, "presence": -1.0, "frequency": -0.5},
        {},
    ],
    ids=str,
)
def test_a_body_agrees_with_the_reference(strengths: dict[str, Any]) -> None:
    assert agrees(problem(MIX, **strengths))


def test_what_changes_nothing_leaves_every_bit() -> None:
    logits, *others = problem(MIX, repetition=1.0, presence=0.0, frequency=0.0)
    before = logits.clone()
    penalties(logits, *others)
    assert torch.equal(logits, before)


def test_tokens_before_the_first_and_beyond_the_last_do_not_count() -> None:
    logits, *others = problem([(3, 4, [1, 2, 3, 4, 5])], repetition=2.0)
    before = logits.clone()
    penalties(logits, *others)
    assert (logits != before).nonzero().tolist() == [[1, 4], [1, 5]]


def test_a_sequence_without_tokens_changes_nothing() -> None:
    logits, *others = problem([(0, 0, []), (2, 2, [1, 2])])
    before = logits.clone()
    penalties(logits, *others)
    assert torch.equal(logits, before)


def test_no_rows_and_long_sequences_are_served() -> None:
    assert agrees(problem([]))
    long = torch.randint(50, (2500,), generator=torch.Generator().manual_seed(0)).tolist()
    assert agrees(problem([(0, 700, long), (0, 2499, long), (0, 2, long[:3])], frequency=1e-3))


def test_rows_of_other_tensors_are_taken_as_they_are() -> None:
    logits, rows, tokens, *others = problem(MIX)
    wide, table = torch.randn(len(logits), 80), torch.cat([tokens, tokens], 1)
    assert agrees([wide[:, :50], rows, table[:, : tokens.shape[1]], *others])


@settings(max_examples=10 if INTERPRETED else 50, deadline=None, database=None)
@given(
    sequences=st.lists(
        st.lists(st.integers(0, 20), max_size=12).flatmap(
            lambda tokens: st.tuples(st.integers(0, len(tokens)), st.integers(0, len(tokens)), st.just(tokens)).map(
                lambda each: (min(each[:2]), max(each[:2]), each[2])
            )
        ),
        max_size=4,
    ),
    strengths=st.tuples(st.floats(0.5, 2, width=32), st.floats(-2, 2, width=32), st.floats(-2, 2, width=32)),
)
def test_any_sequences_agree_with_the_reference(
    sequences: list[Sequence], strengths: tuple[float, float, float]
) -> None:
    assert agrees(problem(sequences, *strengths))


def test_arguments_that_do_not_fit_are_named() -> None:
    arguments = problem(MIX)
    with pytest.raises(ShapeError, match=r"^penalties: lengths .* but rows makes n 4; pass 4 where 3 stands"):
        penalties(*arguments[:5], arguments[5][:3], *arguments[6:])
    with pytest.raises(DtypeError, match=r"^penalties: logits is torch\.float16; pass torch\.float32"):
        penalties(arguments[0].half(), *arguments[1:])


def test_torch_accepts_the_op_as_its_own() -> None:
    torch.library.opcheck(torch.ops.quire.penalties.default, tuple(problem(MIX)))
