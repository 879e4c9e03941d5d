from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quire_kernels import DtypeError, ShapeError, draw, limited, uniforms
from quire_kernels._select import INTERPRETED
from quire_kernels.draw import reference, reference_uniforms

pytestmark = [
    pytest.mark.usefixtures("body"),
    # numpy's, under the interpreter: rows of infinities, and words that wrap around
    pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning"),
]
INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a row of a test has several, and a bucket more keys than one holds."""
    monkeypatch.setattr(import_module("quire_kernels.draw"), "_CHUNK", 64)


def problem(
    rows: int, size: int = 300, seed: int = 0, spread: float = 3.0, **settings: list[float]
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Random logits and numbers; each setting's values are taken by the rows in turn. Temperature is 1 unless named."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, size, generator=generator) * spread
    uniform = torch.rand(rows, generator=generator, dtype=torch.float64)

    def column(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor([values[row % len(values)] for row in range(rows)], dtype=dtype)

    temperature = column(settings.pop("temperature", [1.0]))
    types = {"top_k": torch.int64}
    return (
        logits,
        uniform,
        temperature,
        {name: column(each, types.get(name, torch.float32)) for name, each in settings.items()},
    )


def agrees(logits: Tensor, uniform: Tensor, temperature: Tensor, options: dict[str, Any]) -> bool:
    """Whether the op draws what the reference draws."""
    expected = reference(logits, uniform, temperature, **(dict.fromkeys(("top_k", "top_p", "min_p")) | options))
    tokens, best = draw(logits, uniform, temperature, **options)
    return torch.equal(tokens, expected[0]) and torch.equal(best, expected[1])


SETTINGS: dict[str, dict[str, list[float]]] = {
    "nothing": {},
    "temperature": {"temperature": [0.0, 0.1, 0.7, 1.0, 3.0]},
    "top_k": {"top_k": [0, 1, 2, 17, 299, 300, 1000]},
    "top_p": {"top_p": [1.0, 0.9, 0.5, 1e-6, 0.999]},
    "min_p": {"min_p": [0.0, 0.01, 0.3, 1.0]},
    "all": {"temperature": [0.5, 0.0, 2.0], "top_k": [20, 0, 5, 200], "top_p": [0.8, 1.0, 0.3], "min_p": [0.02, 0]},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_body_draws_what_the_reference_draws(name: str, dtype: torch.dtype) -> None:
    logits, *others = problem(7, **SETTINGS[name])  # in bfloat16 many logits are equal
    assert agrees(logits.to(dtype), *others)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 500])
def test_any_vocabulary_is_served(size: int) -> None:
    assert agrees(*problem(3, size, top_k=[3], top_p=[0.9]))


@pytest.mark.parametrize("spread", [0.0, 1e-4, 60.0])
def test_flat_and_steep_rows_are_served(spread: float) -> None:
    """All in one bucket, and most beyond the last."""
    assert agrees(*problem(6, spread=spread, top_k=[40, 0], top_p=[0.7, 0.99], temperature=[1.0, 30.0]))


def test_rows_come_out_as_often_as_they_are_likely() -> None:
    row = torch.tensor([0.4, 0.1, 0.0, 0.3, 0.2]).log()
    uniform = (torch.arange(50, dtype=torch.float64) + 0.5) / 50
    tokens, _ = draw(row.expand(50, 5), uniform, torch.ones(50))
    assert tokens.bincount(minlength=5).tolist() == [20, 5, 0, 15, 10]
    assert (tokens.diff() >= 0).all()  # in the order of their ids


def test_equal_logits_stay_or_go_together() -> None:
    row = torch.tensor([2.0, 0.0, 2.0, 1.0, 2.0, 0.0])
    uniform = torch.linspace(0.001, 0.999, 15, dtype=torch.float64)
    for option in ({"top_k": torch.full((15,), 2)}, {"top_p": torch.full((15,), 0.5)}):
        tokens, _ = draw(row.expand(15, 6), uniform, torch.ones(15), **option)
        assert set(tokens.tolist()) == {0, 2, 4}


def test_temperature_zero_takes_the_first_of_the_largest() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0]]).repeat(1, 40)
    tokens, best = draw(logits, torch.tensor([0.99], dtype=torch.float64), torch.zeros(1), top_k=torch.tensor([1]))
    assert (tokens.tolist(), best.tolist()) == ([1], [3.0])


def test_a_row_is_drawn_alike_in_any_company() -> None:
    logits, uniform, temperature, options = problem(6, **SETTINGS["all"])
    tokens, _ = draw(logits, uniform, temperature, **options)
    for row in range(6):
        own = slice(row, row + 1)
        alone, _ = draw(
            logits[own], uniform[own], temperature[own], **{name: each[own] for name, each in options.items()}
        )
        assert alone.item() == tokens[row]


def test_a_row_without_finite_logits_is_told_by_its_largest() -> None:
    logits, uniform, temperature, options = problem(4, **SETTINGS["all"])
    logits[0], logits[1, 7], logits[2, 9] = -INF, NAN, INF
    tokens, best = draw(logits, uniform, temperature, **options)
    assert best.isfinite().tolist() == [False, False, False, True]
    assert ((tokens >= 0) & (tokens < 300)).all()


def test_excluded_tokens_are_never_drawn() -> None:
    logits, _, _, options = problem(20, size=130, top_p=[0.99])
    logits[:, 5:] = -INF
    uniform = torch.linspace(1e-9, 1 - 1e-9, 20, dtype=torch.float64)
    tokens, _ = draw(logits, uniform, torch.full((20,), 5.0), **options)
    assert (tokens < 5).all()


def test_rows_of_other_tensors_are_taken_as_they_are() -> None:
    logits, *others = problem(4, **SETTINGS["all"])
    wide = torch.cat([logits, logits], 1)
    assert agrees(wide[:, 300:], *others)


@settings(max_examples=10 if INTERPRETED else 60, deadline=None, database=None)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 200),
    spread=st.sampled_from([0.1, 2.0, 10.0]),
    temperature=st.lists(st.sampled_from([0.0, 0.3, 1.0, 4.0]), min_size=1, max_size=3),
    top_k=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    top_p=st.lists(st.floats(1 / 64, 1.0, width=32), min_size=1, max_size=3),
    min_p=st.lists(st.sampled_from([0.0, 0.05, 0.5]), min_size=1, max_size=3),
)
def test_any_settings_agree_with_the_reference(seed: int, size: int, spread: float, **settings: list[float]) -> None:
    assert agrees(*problem(3, size, seed, spread, **settings))


def test_numbers_are_those_of_the_reference_to_the_last_bit() -> None:
    words = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), 12345678901234567])
    triples = torch.cartesian_prod(words, words, words).T.contiguous()
    numbers = uniforms(*triples)
    assert torch.equal(numbers, reference_uniforms(*triples))
    assert ((numbers > 0) & (numbers < 1)).all()
    assert len(numbers.unique()) == 216


def test_arguments_that_do_not_fit_are_named() -> None:
    logits, uniform, temperature, _ = problem(4)
    with pytest.raises(ShapeError, match=r"^draw: uniform .* but logits makes R 4; pass 4 where 3 stands"):
        draw(logits, uniform[:3], temperature)
    with pytest.raises(ShapeError, match=r"^draw: logits has 0 columns; pass from 1"):
        draw(logits[:, :0], uniform, temperature)
    with pytest.raises(DtypeError, match=r"^draw: uniform is torch\.float32; pass torch\.float64"):
        draw(logits, uniform.float(), temperature)
    with pytest.raises(DtypeError, match=r"^draw: top_k is torch\.float32; pass torch\.int64"):
        draw(logits, uniform, temperature, top_k=temperature)
    with pytest.raises(DtypeError, match=r"^uniforms: positions is torch\.int32; pass torch\.int64"):
        uniforms(torch.zeros(1).long(), torch.zeros(1).long(), torch.zeros(1).int())


def test_torch_accepts_the_ops_as_its_own() -> None:
    logits, uniform, temperature, options = problem(4, size=70, **SETTINGS["all"])
    torch.library.opcheck(torch.ops.quire.draw.default, (logits, uniform, temperature, *options.values()))
    words = torch.arange(4)
    torch.library.opcheck(torch.ops.quire.uniforms.default, (words, words, words))


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_limited_is_what_is_drawn_from(name: str) -> None:
    logits, uniform, temperature, options = problem(60, 100, **SETTINGS[name])
    shown = limited(logits, temperature, **options)
    tokens, _ = draw(logits, uniform, temperature, **options)
    once = torch.where(temperature == 0, 0.0, 1.0)
    assert torch.equal(draw(shown, uniform, once)[0], tokens)
    stays = shown.isfinite()
    heat = torch.where(temperature == 0, 1.0, temperature)[:, None]
    torch.testing.assert_close(shown[stays], (logits / heat)[stays])


def test_what_is_cold_is_told_by_its_distance_from_the_largest() -> None:
    shown = limited(torch.tensor([[30.0, 29.0, -INF]]), torch.tensor([1e-30]))
    assert shown.softmax(-1).tolist() == [[1.0, 0.0, 0.0]]


def test_limits_of_another_type_are_refused() -> None:
    with pytest.raises(DtypeError, match=r"^limited: top_k is torch\.int32; pass torch\.int64"):
        limited(torch.zeros(1, 3), torch.ones(1), top_k=torch.ones(1).int())
