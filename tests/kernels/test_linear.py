"""`linear` against its reference: every kind of weight, every instruction set, sizes that fill no block."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from quire_kernels import DtypeError, PackedLinear, ShapeError, _cpu, linear, pack_linear
from quire_kernels._select import OVERRIDE
from quire_kernels.linear import ACTIVATIONS, GROUPS, KINDS, unpack

ISAS = ("avx2", "avx512", "avx512bf16", "amx_emulated", "amx")  # the emulated one runs AMX's code elsewhere
SIZES = ((16, 64), (37, 71), (200, 1100), (1, 1), (130, 2500))  # [N, K]: whole blocks, odd ones, more than one chunk
ROWS = (1, 2, 3, 5, 6, 7, 13, 97, 200)
# What summing in float32 leaves of the answer's precision; and AMX's rows of 15 bits, and its int4 made bf16.
BOUND = 3e-6
BOUND_OF_TILES = {"int8": 5e-4, "int4": 3e-3}
TILES_FROM = {"int8": 3, "int4": 16}  # rows


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this processor has."""
    library = _cpu.library
    if library is None:
        pytest.skip("the package was installed without its library")
    before = library.isa
    try:
        library.use_isa(request.param)
    except _cpu.LibraryError as error:
        pytest.skip(str(error))
    yield request.param
    library.use_isa(before)


def packed_linear(
    kind: str, n: int, k: int, *, activation: str = "", bias: bool = True, group: int = 32
) -> PackedLinear:
    rows = 2 * n if activation else n
    weight = torch.randn(rows, k) / k**0.5
    weight = weight.to(getattr(torch, kind)) if "float" in kind else weight.bfloat16()
    return pack_linear(weight, torch.randn(rows) if bias else None, kind=kind, group=group, activation=activation)


def rows_of(rows: int, k: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers that 8 bits of any group hold, whatever their type, so that most weights see what the reference sees."""
    steps = torch.randint(-127, 128, (rows, -(-k // 32), 32))
    steps[..., 0] = 127  # the largest of its group
    return (steps.flatten(1)[:, :k] * 2.0 ** torch.randint(-8, -4, (rows, 1))).to(dtype)


def exact(x: Tensor, packed: PackedLinear, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setenv(OVERRIDE, "reference")
        return linear(x.double().float(), packed, dtype=torch.float32)


def bound(isa: str, kind: str, rows: int) -> float:
    in_tiles = isa.startswith("amx") and rows >= TILES_FROM.get(kind, rows + 1)
    return BOUND_OF_TILES[kind] if in_tiles else BOUND


def error(out: Tensor, wanted: Tensor) -> float:
    assert out.shape == wanted.shape
    return float((out.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_any_number_of_rows_gives_what_the_reference_gives(
    isa: str, kind: str, n: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = packed_linear(kind, n, k)
    for rows in ROWS:
        x = rows_of(rows, k)
        assert error(linear(x, packed), exact(x, packed, monkeypatch)) < bound(isa, kind, rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_a_gate_opens_what_stands_beside_it(
    isa: str, kind: str, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, k in SIZES[:3]:
        packed, x = packed_linear(kind, n, k, activation=activation), rows_of(9, k)
        tails = 1e-5  # of a gelu are small
        assert error(linear(x, packed), exact(x, packed, monkeypatch)) < bound(isa, kind, 9) + tails


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x_type", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_and_results_may_have_any_type(
    isa: str, kind: str, x_type: torch.dtype, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, x = packed_linear(kind, 48, 96, bias=False), rows_of(4, 96, x_type)
    out = linear(x, packed, dtype=dtype)
    assert out.dtype == dtype
    assert error(out, exact(x, packed, monkeypatch)) < max(bound(isa, kind, 4), torch.finfo(dtype).eps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_no_bit(kind: str, threads: int) -> None:
    if _cpu.library is None:
        pytest.skip("the package was installed without its library")
    before = _cpu.library.threads
    packed = packed_linear(kind, 300, 640, activation="silu")
    few, many = rows_of(3, 640), rows_of(300, 640)
    narrow = packed_linear(kind, 40, 640)
    try:
        _cpu.library.set_threads(1)
        wanted = [linear(few, packed), linear(many, packed), linear(many, narrow)]
        _cpu.library.set_threads(threads)
        got = [linear(few, packed), linear(many, packed), linear(many, narrow)]
    finally:
        _cpu.library.set_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_does_not_depend_on_its_company(isa: str, kind: str, dtype: torch.dtype) -> None:
    packed, x = packed_linear(kind, 90, 1500), rows_of(130, 1500, dtype)
    together = linear(x, packed, invariant=True)
    for begin, end in ((0, 1), (3, 5), (7, 13), (20, 40), (30, 130)):
        assert torch.equal(linear(x[begin:end], packed, invariant=True), together[begin:end])


@pytest.mark.parametrize(("kind", "rows"), [("int8", 2), ("int4", 15)])
def test_integers_are_the_same_on_every_instruction_set(kind: str, rows: int) -> None:
    library = _cpu.library
    if library is None:
        pytest.skip("the package was installed without its library")
    packed, x, before = packed_linear(kind, 70, 1500), torch.randn(rows, 1500), library.isa
    outputs = []
    for name in ISAS:
        try:
            library.use_isa(name)
        except _cpu.LibraryError:
            continue
        outputs.append(linear(x, packed))
    library.use_isa(before)
    assert all(torch.equal(out, outputs[0]) for out in outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_may_lie_apart(isa: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, wide = packed_linear(kind, 33, 64), rows_of(5, 100, torch.bfloat16)
    x = wide[:, 10:74]
    assert error(linear(x, packed, dtype=torch.float32), exact(x, packed, monkeypatch)) < bound(isa, kind, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_stays_none_in_its_row_only(isa: str, kind: str) -> None:
    packed, x = packed_linear(kind, 20, 70), rows_of(4, 70)
    clean = linear(x, packed)
    for bad in (torch.nan, torch.inf):
        spoilt = x.clone()
        spoilt[2, 69] = bad
        out = linear(spoilt, packed)
        assert not out[2].isfinite().all()
        assert torch.equal(out[[0, 1, 3]], clean[[0, 1, 3]])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_zeros_and_no_rows(isa: str, kind: str) -> None:
    packed = packed_linear(kind, 20, 70, bias=False)
    assert torch.equal(linear(torch.zeros(2, 70), packed), torch.zeros(2, 20))
    assert linear(torch.zeros(0, 70), packed).shape == (0, 20)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_rounding_rows_loses_little(isa: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, x = packed_linear(kind, 130, 1500), torch.randn(7, 1500)
    assert 0 < error(linear(x, packed), exact(x, packed, monkeypatch)) < 7e-3


def test_an_element_far_larger_than_others_spoils_its_own_group_only(isa: str) -> None:
    packed, x = packed_linear("int4", 32, 256), torch.randn(1, 256)
    wild = x.clone()
    wild[0, 70] = 1e4
    moved = linear(wild, packed) - linear(x, packed)
    group = torch.zeros_like(x)
    group[0, 64:96] = 1
    alone = linear(wild * group, packed) - linear(x * group, packed)
    torch.testing.assert_close(moved, alone, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("activation", ["", "silu"])
def test_floats_are_packed_without_loss(kind: str, activation: str) -> None:
    weight = torch.randn(38, 71).to(getattr(torch, kind))
    assert torch.equal(unpack(pack_linear(weight, activation=activation)), weight.float())


@pytest.mark.parametrize(
    ("kind", "group", "loss"), [("int8", 32, 0.01), *(("int4", group, 0.13) for group in GROUPS)], ids=str
)
def test_integers_lose_what_their_steps_are_wide(kind: str, group: int, loss: float) -> None:
    weight = torch.randn(50, 200)
    kept = unpack(pack_linear(weight, kind=kind, group=group))
    assert 0 < error(kept, weight) < loss


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["", "gelu"])
def test_the_library_packs_as_torch_does(kind: str, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if _cpu.library is None:
        pytest.skip("the package was installed without its library")
    for n, k in SIZES:
        torch.manual_seed(n)
        native = packed_linear(kind, n, k, activation=activation)
        with monkeypatch.context() as patch:
            patch.setattr(_cpu, "library", None)
            torch.manual_seed(n)
            plain = packed_linear(kind, n, k, activation=activation)
        assert torch.equal(native.weight, plain.weight)
        assert (native.scales is None and plain.scales is None) or torch.equal(native.scales, plain.scales)


def test_without_the_library_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cpu, "library", None)
    weight, bias, x = torch.randn(37, 71), torch.randn(37), torch.randn(3, 71)
    torch.testing.assert_close(linear(x, pack_linear(weight, bias)), torch.nn.functional.linear(x, weight, bias))


def test_packed_weights_say_how_much_they_hold() -> None:
    weight = torch.zeros(64, 128)
    assert pack_linear(weight).nbytes == 64 * 128 * 4
    assert pack_linear(weight, kind="int8").nbytes == 64 * 128 + 64 * 4
    assert pack_linear(weight, kind="int4", group=64).nbytes == 64 * 128 // 2 + 64 * 2 * 2


def test_large_weights_lie_on_pages_of_two_mebibytes() -> None:
    packed = pack_linear(torch.randn(1024, 1024))
    assert packed.weight.data_ptr() % 2**21 == 0


def test_a_fake_result_has_the_shape_of_a_real_one() -> None:
    with FakeTensorMode():
        weight = torch.empty(20 * 96, dtype=torch.uint8)
        packed = PackedLinear(weight, None, None, 20, 48, "bfloat16", 32, "")
        out = linear(torch.empty(3, 48), packed, dtype=torch.bfloat16)
    assert (out.shape, out.dtype) == ((3, 20), torch.bfloat16)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kind": "int3"}, "kind is 'int3'; pass one of float32, bfloat16, float16, int8, int4"),
        ({"kind": "int4", "group": 48}, "group is 48; pass 32 or 64"),
        ({"activation": "tanh"}, "activation is 'tanh'; pass one of silu, gelu, gelu_tanh"),
        ({"bias": torch.zeros(4)}, r"bias has shape \[4\].*makes N 5"),
        ({"activation": "silu"}, "weight has 5 rows; a gate and what it opens have the same number"),
    ],
    ids=str,
)
def test_what_cannot_be_packed_is_refused(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(ShapeError, match=problem):
        pack_linear(torch.zeros(5, 8), **arguments)  # type: ignore[arg-type]


def test_what_cannot_be_multiplied_is_refused() -> None:
    packed = pack_linear(torch.zeros(5, 8))
    with pytest.raises(ShapeError, match="x has 9 columns; the weight was packed for 8"):
        linear(torch.zeros(1, 9), packed)
    with pytest.raises(DtypeError, match=r"x is torch.int64; pass torch.float32 or"):
        linear(torch.zeros(1, 8, dtype=torch.int64), packed)
    with pytest.raises(DtypeError, match=r"dtype is torch.float64; pass one of"):
        linear(torch.zeros(1, 8), packed, dtype=torch.float64)
    with pytest.raises(ShapeError, match="not empty"):
        pack_linear(torch.zeros(0, 8))
