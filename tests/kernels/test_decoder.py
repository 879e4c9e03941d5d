"""A decoder computes what its description says, in any cut and company, on every instruction set."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.support.native import ISAS, library_or_skip
from torch import Tensor

from quire_kernels import ShapeError
from quire_kernels._cpu import Library
from quire_kernels.decoder import Cache, Decoder, Description, Layer, Norm, Rotation, reference, spent

HIDDEN, VOCAB, BLOCK = 40, 97, 4
RMS = Norm("rms", HIDDEN, 1e-6)
LAYER_NORM = Norm("layer", HIDDEN, 1e-5, bias=True)
PLAIN = Layer(
    q_heads=4,
    kv_heads=2,
    key_size=16,
    value_size=16,
    inner=56,
    scale=0.3,
    activation="silu",
    before_attention=RMS,
    before_mlp=RMS,
    rotation=0,
)
HALF = Rotation(tuple(10.0 ** (-i / 8) for i in range(8)))
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": {"qkv_bias": True, "output_bias": True, "up_bias": True, "down_bias": True},
    "layer-norms": {"before_attention": LAYER_NORM, "before_mlp": LAYER_NORM},
    "norms-without-weight": {"before_attention": Norm("layer", HIDDEN, 1e-5, weight=False)},
    "norms-behind-only": {"before_attention": None, "before_mlp": None, "after_attention": RMS, "after_mlp": RMS},
    "norms-on-both-sides": {"after_attention": replace(RMS, offset=1.0), "after_mlp": replace(RMS, offset=1.0)},
    "norms-of-heads": {"q_norm": Norm("rms", 16, 1e-6), "k_norm": Norm("rms", 16, 1e-6, offset=1.0)},
    "norms-of-heads-with-bias": {"q_norm": Norm("layer", 16, 1e-5, bias=True), "k_norm": Norm("layer", 16, 1e-5)},
    "norms-of-whole-rows": {"q_norm": Norm("rms", 64, 1e-6), "k_norm": Norm("rms", 32, 1e-6), "clip": 0.9},
    "norms-after-rotation": {
        "q_norm": Norm("rms", 16, 1e-6),
        "k_norm": Norm("rms", 16, 1e-6),
        "norm_after_rotation": True,
    },
    "no-positions": {"rotation": None},
    "part-of-a-head-turns": {"rotation": 1},
    "neighbours-turn": {"rotation": 2, "q_norm": Norm("rms", 64, 1e-6), "qkv_bias": True},
    "part-of-neighbours-turns": {"rotation": 3, "k_norm": Norm("rms", 16, 1e-6)},
    "turned-and-scaled": {"rotation": 4},
    "window": {"window": 3},
    "softcap": {"softcap": 1.5},
    "sinks": {"sinks": True},
    "clipped": {"clip": 0.5},
    "residual-multiplier": {"residual_multiplier": 0.4},
    "parallel": {"parallel": True, "before_mlp": None},
    "one-key-head": {"kv_heads": 1},
    "a-head-each": {"kv_heads": 4},
    "long-values": {"value_size": 24},
    "gelu-gate": {"activation": "gelu"},
    "tanh-gate": {"activation": "gelu_tanh"},
    "plain-silu": {"gated": False},
    "plain-gelu": {"gated": False, "activation": "gelu", "up_bias": True},
    "plain-tanh": {"gated": False, "activation": "gelu_tanh"},
    "plain-relu": {"gated": False, "activation": "relu_squared"},
}
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
PROMPTS = [[5, 90, 13, 13, 7, 60, 2, 41, 33, 12, 8], [44], [71, 3, 3, 9, 20, 1]]


library = pytest.fixture(autouse=True)(library_or_skip)


def describe(layer: Layer, **others: Any) -> Description:
    """Two layers, the first of them plain, so that what a layer leaves undone shows in the next one."""
    rotations = (
        HALF,
        Rotation(HALF.frequencies[:3]),
        replace(HALF, interleaved=True),
        Rotation(HALF.frequencies[:3], interleaved=True),
        replace(HALF, scale=1.3),
    )
    final = Norm("rms", HIDDEN, 1e-6)
    return Description(HIDDEN, VOCAB, (layer, PLAIN, layer), rotations, final, tied=False, **others)


def make_weights(description: Description, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random, large enough that every layer matters."""
    generator = torch.Generator().manual_seed(3)

    def one(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        return (1 + 0.3 * noise if "norm" in name or "_m" in name or "attention" in name else 0.3 * noise).to(dtype)

    return {name: one(name, shape) for name, shape in description.weights().items()}


def serve(decoder: Decoder, prompts: list[list[int]], chunk: int, given: Tensor | None = None) -> list[Tensor]:
    """Logits of all rows of all prompts, computed together, each cut into parts of `chunk` tokens.

    `given` stands for the first tokens of the first prompt.
    """
    layers = decoder.description.layers
    width = max(-(-len(prompt) // BLOCK) for prompt in prompts)
    tables = torch.arange(width * len(prompts), dtype=torch.int32).view(width, -1).T.contiguous()  # interleaved
    blocks = tables.numel()
    keys = tuple(torch.full((blocks, BLOCK, each.kv_heads, each.key_size), torch.nan) for each in layers)
    values = tuple(torch.full((blocks, BLOCK, each.kv_heads, each.value_size), torch.nan) for each in layers)
    cache = Cache.of(*(tuple(each.to(decoder.dtype) for each in side) for side in (keys, values)))
    done: list[list[Tensor]] = [[] for _ in prompts]
    for start in range(0, max(map(len, prompts)), chunk):
        spans = [(number, start, min(start + chunk, len(prompt))) for number, prompt in enumerate(prompts)]
        spans = [span for span in spans if span[1] < span[2]]
        ids = torch.tensor([token for number, low, high in spans for token in prompts[number][low:high]])
        positions = torch.cat([torch.arange(low, high) for _, low, high in spans])
        owners = torch.cat([torch.full((high - low,), number) for number, low, high in spans])
        slots = tables[owners, positions // BLOCK].long() * BLOCK + positions % BLOCK
        starts = torch.tensor([0, *(high - low for _, low, high in spans)]).cumsum(0).int()
        rows = (owners == 0) & (positions < (0 if given is None else len(given)))
        logits = decoder.step(
            ids,
            positions,
            slots,
            starts,
            torch.tensor([high for _, _, high in spans], dtype=torch.int32),
            tables[[number for number, _, _ in spans]],
            cache,
            torch.arange(len(ids)),
            longest=max(high for _, _, high in spans),
            given=None if given is None else (rows.nonzero().flatten(), given[positions[rows]]),
        )
        for (number, _, _), (first, last) in zip(spans, pairwise(starts.tolist()), strict=True):
            done[number].append(logits[first:last])
    return [torch.cat(parts) for parts in done]


def distance(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("feature", FEATURES)
def test_every_feature_is_computed_as_described(feature: str) -> None:
    description = describe(replace(PLAIN, **FEATURES[feature]))
    weights = make_weights(description)
    decoder = Decoder(description, weights.__getitem__, dtype=torch.float32, max_rows=32)
    for got, prompt in zip(serve(decoder, PROMPTS, chunk=4), PROMPTS, strict=True):
        assert distance(got, reference(description, weights.__getitem__, torch.tensor(prompt))) < 1e-5


@pytest.mark.parametrize("feature", [name for name in FEATURES if name != "plain"])
def test_every_feature_bites(feature: str) -> None:
    plain, other = describe(PLAIN), describe(replace(PLAIN, **FEATURES[feature]))
    ids = torch.tensor(PROMPTS[0])
    wanted, got = (reference(each, make_weights(each).__getitem__, ids) for each in (plain, other))
    assert distance(got, wanted) > 1e-3


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_instruction_set_and_type_agrees(library: Library, isa: str, dtype: torch.dtype, threads: int) -> None:
    library.use_isa(isa)
    library.set_threads(threads)
    layer = replace(PLAIN, **FEATURES["norms-on-both-sides"], **FEATURES["norms-of-heads"], window=5)
    description = describe(layer, logits_scale=0.7, logits_softcap=9.0, embedding_scale=1.7)
    weights = make_weights(description, dtype)
    decoder = Decoder(description, weights.__getitem__, dtype=dtype, max_rows=32)
    for got, prompt in zip(serve(decoder, PROMPTS, chunk=4), PROMPTS, strict=True):
        wanted = reference(description, weights.__getitem__, torch.tensor(prompt))
        assert distance(got, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_neither_cut_nor_company_changes_a_bit(library: Library, dtype: torch.dtype) -> None:
    library.set_threads(2)
    description = describe(replace(PLAIN, **FEATURES["norms-of-heads"]))
    weights = make_weights(description, dtype)
    decoder = Decoder(description, weights.__getitem__, dtype=dtype, max_rows=600)
    prompts = [*PROMPTS, [(7 * i) % VOCAB for i in range(400)]]  # long enough for rows to be shared
    together = serve(decoder, prompts, chunk=1000)
    for prompt, wanted in zip(prompts, together, strict=True):
        (alone,) = serve(decoder, [prompt], chunk=3)
        assert torch.equal(alone, wanted)


def test_embeddings_take_the_place_of_ids() -> None:
    description = describe(PLAIN, embedding_scale=1.3, given_scale=0.6)
    weights = make_weights(description)
    decoder = Decoder(description, weights.__getitem__, dtype=torch.float32, max_rows=32)
    given = torch.randn(6, HIDDEN)
    first, *others = serve(decoder, PROMPTS, chunk=4, given=given)
    assert distance(first, reference(description, weights.__getitem__, torch.tensor(PROMPTS[0]), given)) < 1e-5
    assert distance(others[1], reference(description, weights.__getitem__, torch.tensor(PROMPTS[2]))) < 1e-5


def test_the_head_may_be_the_embedding_and_have_a_bias() -> None:
    description = replace(describe(PLAIN), tied=True, head_bias=True)
    weights = make_weights(description)
    decoder = Decoder(description, weights.__getitem__, dtype=torch.float32, max_rows=32)
    (got,) = serve(decoder, [PROMPTS[0]], chunk=4)
    assert distance(got, reference(description, weights.__getitem__, torch.tensor(PROMPTS[0]))) < 1e-5


def test_more_logits_of_the_last_step_can_be_asked_for() -> None:
    description = describe(replace(PLAIN, after_mlp=RMS))
    weights = make_weights(description)
    decoder = Decoder(description, weights.__getitem__, dtype=torch.float32, max_rows=32)
    (logits,) = serve(decoder, [PROMPTS[0]], chunk=32)
    assert torch.equal(decoder.logits(torch.tensor([7, 0, 7])), logits[[7, 0, 7]])


def test_where_the_time_of_steps_goes_is_told_by_phase() -> None:
    description = describe(replace(PLAIN, gated=False))
    decoder = Decoder(description, make_weights(description).__getitem__, dtype=torch.float32, max_rows=32)
    before, began = spent(), time.perf_counter()
    serve(decoder, [PROMPTS[0]], chunk=4)
    whole, after = time.perf_counter() - began, spent()
    taken = {phase: after[phase] - before[phase] for phase in after}
    assert all(seconds > 0 for phase, seconds in taken.items() if phase != "waiting")
    assert sum(taken.values()) < whole


def test_integers_in_the_place_of_weights_stay_near() -> None:
    description = describe(PLAIN)
    weights = make_weights(description, torch.bfloat16)
    decoder = Decoder(description, weights.__getitem__, dtype=torch.bfloat16, max_rows=32, kind="int8")
    (got,) = serve(decoder, [PROMPTS[0]], chunk=4)
    assert 1e-4 < distance(got, reference(description, weights.__getitem__, torch.tensor(PROMPTS[0]))) < 0.1


def test_a_step_takes_as_many_rows_as_the_decoder_was_made_for() -> None:
    description = describe(PLAIN)
    decoder = Decoder(description, make_weights(description).__getitem__, dtype=torch.float32, max_rows=8)
    with pytest.raises(ShapeError, match="9 tokens; the decoder was made for 8"):
        serve(decoder, [[1] * 9], chunk=9)
    with pytest.raises(ShapeError, match="ids go from 1 to 97; pass numbers from 0 to 96"):
        serve(decoder, [[1, 97]], chunk=9)
    serve(decoder, [[1] * 8], chunk=8)
    with pytest.raises(ShapeError, match="9 rows chosen; 8 are the most"):
        decoder.logits(torch.zeros(9, dtype=torch.int64))


@pytest.mark.parametrize(
    ("slot", "length", "reason"),
    [(64, 1, "slots go up to 64; the cache has 64"), (0, 17, "a sequence has 17 tokens; tables of 1 blocks hold 16")],
)
def test_a_step_keeps_to_its_cache(slot: int, length: int, reason: str) -> None:
    description = describe(PLAIN)
    decoder = Decoder(description, make_weights(description).__getitem__, dtype=torch.float32, max_rows=8)
    layers = [
        tuple(torch.zeros(4, 16, layer.kv_heads, size) for size in (layer.key_size, layer.value_size))
        for layer in description.layers
    ]
    keys, values = zip(*layers, strict=True)
    one = torch.zeros(1, dtype=torch.int64)
    spans = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([length], dtype=torch.int32)
    tables = torch.zeros(1, 1, dtype=torch.int32)
    with pytest.raises(ShapeError, match=reason):
        decoder.step(one, one, one + slot, *spans, tables, Cache.of(keys, values), one, longest=length)


def test_a_weight_of_another_shape_is_refused_by_name() -> None:
    description = describe(PLAIN)
    weights = make_weights(description)
    weights["layers.1.up.weight"] = weights["layers.1.up.weight"][:-1]
    with pytest.raises(ShapeError, match=r"layers\.1\.up\.weight has shape \[111, 40\].*asks for \[112, 40\]"):
        Decoder(description, weights.__getitem__, dtype=torch.float32, max_rows=8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key_size": 2048}, "1024 are the most"),
        ({"q_heads": 3}, "no multiple of its 2 key heads"),
        ({"parallel": True, "after_mlp": RMS}, "no norms behind"),
        ({"activation": "relu_squared"}, "silu and gelu can"),
        ({"key_size": 4}, "turns more pairs than its heads of 4 elements have"),
    ],
)
def test_what_cannot_be_computed_is_refused(change: dict[str, Any], reason: str) -> None:
    description = describe(replace(PLAIN, **change))
    with pytest.raises(ShapeError, match=reason):
        Decoder(description, make_weights(description).__getitem__, dtype=torch.float32, max_rows=8)
