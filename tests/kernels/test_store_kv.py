import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quire_kernels import DtypeError, ShapeError, store_kv
from quire_kernels._select import INTERPRETED
from quire_kernels.store_kv import reference

pytestmark = pytest.mark.usefixtures("body")


def problem(
    tokens: int, heads: int = 2, size: int = 32, v_size: int = 32, block: int = 8, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """New rows for distinct random slots of a cache of ten blocks that is full of other values."""
    generator = torch.Generator().manual_seed(tokens)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    slots = torch.randperm(10 * block, generator=generator)[:tokens]
    rows = random(tokens, heads, size), random(tokens, heads, v_size)
    return *rows, random(10, block, heads, size), random(10, block, heads, v_size), slots


def agrees(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> bool:
    """Whether the op leaves the cache, all of it, as the reference does."""
    expected = keys.clone(), values.clone()
    reference(key, value, *expected, slots, 1.0, 1.0)
    store_kv(key, value, keys, values, slots)
    return torch.equal(keys, expected[0]) and torch.equal(values, expected[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tokens", [0, 1, 2, 17])
def test_rows_land_in_their_slots_and_nowhere_else(tokens: int, dtype: torch.dtype) -> None:
    assert agrees(*problem(tokens, dtype=dtype))


@pytest.mark.parametrize(
    "shape",
    [
        {"heads": 1, "size": 256, "v_size": 256},
        {"heads": 3, "size": 80, "v_size": 112},
        {"heads": 2, "size": 192, "v_size": 128},
        {"heads": 20, "size": 128, "v_size": 128},
        {"block": 256},
        {"block": 24},
    ],
    ids=str,
)
def test_any_shape_of_cache_is_served(shape: dict[str, int]) -> None:
    assert agrees(*problem(5, **shape))


def test_a_slot_below_zero_stores_nothing() -> None:
    key, value, keys, values, slots = problem(6)
    slots[1] = slots[4] = -1
    key[1] = value[4] = torch.nan
    assert agrees(key, value, keys, values, slots)
    assert not keys.isnan().any()


def test_a_cache_of_float8_holds_what_is_left_of_a_division() -> None:
    key, value, keys, values, slots = problem(5)
    key, value, keys, values = (tensor.to(torch.float8_e4m3fn) for tensor in (key, value, keys, values))
    expected = key.clone(), value.clone()
    key, value = key.bfloat16() * 0.5, value.bfloat16() * 2.0
    key[0, 0, 0], expected[0][0, 0, 0] = 1e5, 448.0
    value[1, 1, 1], expected[1][1, 1, 1] = -1e5, -448.0
    store_kv(key, value, keys, values, slots, key_scale=0.5, value_scale=2.0)
    assert torch.equal(keys.flatten(0, 1)[slots], expected[0])
    assert torch.equal(values.flatten(0, 1)[slots], expected[1])


def test_padding_alone_changes_nothing() -> None:
    key, value, keys, values, slots = problem(3)
    before = keys.clone()
    store_kv(key, value, keys, values, slots.fill_(-1))
    assert torch.equal(keys, before)


def test_views_of_other_tensors_are_taken_as_they_are() -> None:
    key, value, keys, values, slots = problem(6)
    key, value = (rows.transpose(0, 1).contiguous().transpose(0, 1) for rows in (key, value))
    cache = torch.stack([keys, values], 1)  # keys and values of a block side by side
    assert agrees(key, value, cache[:, 0], cache[:, 1], slots)


def test_offsets_pass_two_to_the_31() -> None:
    key, value, *_ = problem(1, heads=1, size=64, v_size=64, dtype=torch.float16)
    last = 2**31 // (8 * 64)
    keys = torch.empty(last + 1, 8, 1, 64, dtype=torch.float16)  # 4 GiB of address space, of which a page is touched
    store_kv(key, value, keys, keys, torch.tensor([last * 8 + 3]))
    assert torch.equal(keys[last, 3], value[0])


@settings(max_examples=10 if INTERPRETED else 50, deadline=None, database=None)
@given(data=st.data(), tokens=st.integers(0, 20))
def test_any_slots_agree_with_the_reference(data: st.DataObject, tokens: int) -> None:
    key, value, keys, values, slots = problem(tokens)
    skipped = data.draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens))
    slots[torch.tensor(skipped, dtype=torch.bool)] = -1
    assert agrees(key, value, keys, values, slots)


def test_shapes_that_do_not_fit_are_named() -> None:
    key, value, keys, values, slots = problem(4)
    with pytest.raises(
        ShapeError, match=r"^store_kv: value .*\[T, Hkv, Dv\], but key makes T 4; pass 4 where 3 stands"
    ):
        store_kv(key, value[:3], keys, values, slots)
    with pytest.raises(ShapeError, match=r"^store_kv: values .* but keys makes block 8; pass 8 where 4 stands"):
        store_kv(key, value, keys, values[:, :4], slots)


def test_scales_that_do_not_fit_are_named() -> None:
    arguments = problem(4)
    with pytest.raises(ShapeError, match=r"^store_kv: key_scale is 0\.0; pass a positive number"):
        store_kv(*arguments, key_scale=0.0)
    with pytest.raises(ShapeError, match=r"^store_kv: value_scale is 2\.0, but the cache has torch\.float32; pass 1"):
        store_kv(*arguments, value_scale=2.0)


def test_dtypes_that_do_not_fit_are_named() -> None:
    key, value, keys, values, slots = problem(4)
    with pytest.raises(DtypeError, match=r"^store_kv: keys is torch\.float32; pass torch\.float16"):
        store_kv(key.half(), value.half(), keys, values, slots)
    with pytest.raises(DtypeError, match=r"^store_kv: slots is torch\.int32; pass torch\.int64"):
        store_kv(key, value, keys, values, slots.int())


def test_torch_accepts_the_op_as_its_own() -> None:
    torch.library.opcheck(torch.ops.quire.store_kv.default, (*problem(4), 1.0, 1.0))


def test_the_call_is_one_node_of_a_compiled_graph() -> None:
    arguments = problem(4)
    compiled = torch.compile(store_kv, backend="eager", fullgraph=True)
    compiled(*arguments)
    key, _, keys, _, slots = arguments
    assert torch.equal(keys.flatten(0, 1)[slots], key)
