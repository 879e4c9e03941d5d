"""A described decoder in the CPU library: packs weights, owns a step's memory, runs a whole step in one call."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor

from quire_kernels import _cpu
from quire_kernels._checks import FLOATS, Checks, ShapeError
from quire_kernels._select import BodyError, choose
from quire_kernels.decoder.description import Activation, Description, Layer, Norm, Rotation, WeightSource
from quire_kernels.linear import ACTIVATIONS as GATES
from quire_kernels.linear import KINDS, PackedLinear, pack_linear

OWN_ROWS: Final = 8192  # elements up to which every thread normalises all rows for itself, instead of meeting
ACTIVATIONS: Final[tuple[Activation, ...]] = ("silu", "gelu", "gelu_tanh", "relu_squared")  # of QuirePlainActivation
NORMS: Final = {"rms": 1, "layer": 2}  # of QuireNormKind
PHASES: Final = (
    *("embed", "norm", "qkv", "rotate", "attention", "output", "up", "activation", "down", "head"),
    "waiting",  # for other threads, at the end of any phase
)  # in the order of Phase in csrc/cpu/watch.h


def is_available() -> bool:
    """Whether a Decoder can be made: the library is there, and no other body was asked for."""
    return _cpu.library is not None and choose(torch.device("cpu")) == "cpu"


@cache
def fingerprint() -> str:
    """Changes with the library and the instruction set in use."""
    if _cpu.library is None:
        return ""
    return f"{hashlib.sha256(_cpu.PATH.read_bytes()).hexdigest()[:16]} {_cpu.library.isa}"


def spent() -> dict[str, float]:
    """Seconds by phase that all steps of this process have taken so far, as the first thread of the team saw them.

    What two calls differ by is what the steps between them took. Empty where there is no library.
    """
    if _cpu.library is None:
        return {}
    return {phase: time / 1e9 for phase, time in zip(PHASES, _cpu.library.decoder_spent(), strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """Keys and values of every layer, as the library finds them. `Cache.of` makes one; it keeps the tensors."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    places: ctypes.Array[_cpu.DecoderCacheLayer]

    @classmethod
    def of(cls, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Cache:
        """Per layer keys [blocks, block, Hkv, D] and values [blocks, block, Hkv, Dv]; any strides but the last."""
        places = (_cpu.DecoderCacheLayer * len(keys))()
        for place, key, value in zip(places, keys, values, strict=True):
            checks = Checks("Cache.of")
            checks.require("keys", key, "[blocks, block, Hkv, D]", *FLOATS)
            checks.require("values", value, "[blocks, block, Hkv, Dv]", key.dtype)
            place.keys, place.values = key.data_ptr(), value.data_ptr()
            place.key_block, place.key_token, place.key_head = key.stride()[:3]
            place.value_block, place.value_token, place.value_head = value.stride()[:3]
        return cls(keys, values, places)


class Decoder:
    """A decoder-only language model on the CPU. One step at a time; its memory is set aside here, once.

    Weights are packed as they are asked for, one after the other, so that nothing but the embedding is kept twice.
    """

    def __init__(
        self,
        description: Description,
        weights: WeightSource,
        *,
        dtype: torch.dtype,
        max_rows: int,
        kind: str | None = None,
        invariant: bool = False,
    ) -> None:
        """`dtype` is that of activations and of the cache; a step has `max_rows` tokens at most.

        `kind` is how products' weights are stored, as `pack_linear` has it: the dtype's own way unless it is named;
        with "int4" the head is int8, since every logit is an answer. A row's result depends on no other row, on
        processors with AMX only if `invariant` says so.
        BodyError where there is no library, ShapeError for a weight of another shape.
        """
        if _cpu.library is None:
            raise BodyError("Decoder runs in the CPU library only, and it was not built with this installation")
        _require_limits(description)
        self.description = description
        self.dtype = dtype
        self.max_rows = max_rows
        self._library = _cpu.library
        self._shapes = description.weights()
        self._source = weights
        self._kept: list[object] = []
        self._packed_bytes = 0
        self._invariant = invariant
        self._step = _cpu.DecoderStep()
        self._decoder = self._build(kind)
        self._step.decoder = ctypes.addressof(self._decoder)
        del self._source

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._packed_bytes

    @property
    def products(self) -> tuple[PackedLinear, ...]:
        """The packed weights of all products."""
        return tuple(each for each in self._kept if isinstance(each, PackedLinear))

    @property
    def runs_on(self) -> str:
        """What it runs on, in words."""
        threads = self._library.threads
        return f"{self._library.isa}, {threads} {'thread' if threads == 1 else 'threads'}"

    def step(
        self,
        ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        starts: Tensor,
        lengths: Tensor,
        tables: Tensor,
        cache: Cache,
        chosen: Tensor,
        *,
        longest: int,
        given: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Compute packed spans, store their keys and values, and give the logits of chosen rows.

        ids, positions, slots [T] int64; starts [S+1], lengths [S], tables [S, max_blocks] int32, all as
        `paged_attention` and `store_kv` have them; chosen [R] int64, rows of the pass -> [R, V] float32.
        `longest` bounds lengths from above. `given` is (rows [G] int64, embeddings [G, hidden] float32): these rows are
        embeddings already and their ids mean nothing.
        Raises ShapeError, DtypeError.
        """
        self._check(ids, positions, slots, starts, lengths, tables, cache, chosen, longest)
        step = self._step
        step.cache = ctypes.addressof(cache.places)
        step.ids, step.positions, step.slots = ids.data_ptr(), positions.data_ptr(), slots.data_ptr()
        step.starts, step.lengths, step.tables = starts.data_ptr(), lengths.data_ptr(), tables.data_ptr()
        step.rows, step.spans, step.table_stride = len(ids), len(lengths), tables.stride(0)
        step.block_size, step.longest = cache.keys[0].shape[1], longest
        which, values = self._given(len(ids), given)
        step.given, step.given_rows = _cpu.pointer(which), _cpu.pointer(values)
        logits = torch.empty(len(chosen), self.description.vocab)
        step.chosen, step.chosen_rows, step.logits = chosen.data_ptr(), len(chosen), logits.data_ptr()
        scratch = self._library.scratch_of("decoder_step", step)
        step.scratch = scratch.data_ptr()
        self._library.run("decoder_step", step)
        return logits

    def logits(self, chosen: Tensor) -> Tensor:
        """[R, V] float32: the logits of more rows [R] of the last step."""
        checks = Checks("Decoder.logits")
        checks.require("chosen", chosen, "[R]", torch.int64)
        checks.expect(len(chosen) <= self.max_rows, f"{len(chosen)} rows chosen; {self.max_rows} are the most")
        self._require_rows(chosen, self._step.rows, "chosen")
        logits = torch.empty(len(chosen), self.description.vocab)
        op = _cpu.DecoderLogits(ctypes.addressof(self._decoder), chosen.data_ptr(), logits.data_ptr(), len(chosen))
        self._library.run("decoder_logits", op)
        return logits

    # ---- what a step is given ----

    def _check(
        self,
        ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        starts: Tensor,
        lengths: Tensor,
        tables: Tensor,
        cache: Cache,
        chosen: Tensor,
        longest: int,
    ) -> None:
        checks = Checks("Decoder.step")
        for name, tensor in (("ids", ids), ("positions", positions), ("slots", slots)):
            checks.require(name, tensor, "[T]", torch.int64)
        checks.require("lengths", lengths, "[S]", torch.int32)
        checks.require("starts", starts, "[S+1]", torch.int32)
        checks.require("tables", tables, "[S, max_blocks]", torch.int32)
        checks.require("chosen", chosen, "[R]", torch.int64)
        checks.expect(
            len(ids) <= self.max_rows, f"{len(ids)} tokens; the decoder was made for {self.max_rows} in one step"
        )
        checks.expect(
            len(cache.keys) == len(self.description.layers) and cache.keys[0].dtype == self.dtype,
            f"the cache has {len(cache.keys)} layers of {cache.keys[0].dtype}; "
            f"the decoder has {len(self.description.layers)} of {self.dtype}",
        )
        checks.expect(len(chosen) <= self.max_rows, f"{len(chosen)} rows chosen; {self.max_rows} are the most")
        block, blocks = cache.keys[0].shape[1], len(cache.keys[0])
        most, room = int(lengths.max()) if len(lengths) else 0, tables.shape[1] * block
        checks.expect(most <= room, f"a sequence has {most} tokens; tables of {tables.shape[1]} blocks hold {room}")
        checks.expect(most <= longest, f"a sequence has {most} tokens, but longest is {longest}")
        last = int(slots.max()) if len(slots) else -1
        checks.expect(last < blocks * block, f"slots go up to {last}; the cache has {blocks * block}")
        self._require_rows(ids, self.description.vocab, "ids")
        self._require_rows(chosen, len(ids), "chosen")

    @staticmethod
    def _require_rows(numbers: Tensor, bound: int, name: str) -> None:
        if len(numbers):
            low, high = (int(each) for each in numbers.aminmax())
            if low < 0 or high >= bound:
                raise ShapeError(f"Decoder: {name} go from {low} to {high}; pass numbers from 0 to {bound - 1}")

    def _given(self, rows: int, given: tuple[Tensor, Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
        """For each row which of the given ones it is, and these."""
        if given is None:
            return None, None
        numbers, values = given
        which = torch.full((rows,), -1).index_copy_(0, numbers, torch.arange(len(numbers)))
        return which, values.to(torch.float32).contiguous()

    # ---- construction ----

    def _build(self, kind: str | None) -> _cpu.Decoder:
        description, rows = self.description, self.max_rows
        layers = description.layers
        embedding = self._weight("embedding.weight")
        made = _cpu.Decoder(
            layers=self._array(_cpu.DecoderLayer, [self._layer(number, kind) for number in range(len(layers))]),
            rotations=self._array(_cpu.DecoderRotation, [self._rotation(each) for each in description.rotations]),
            embedding=self._address(embedding),
            final_norm=self._norm("final_norm", description.final_norm, description.hidden),
            head=self._product(
                "embedding" if description.tied else "head", bias=description.head_bias, kind=_head_kind(kind)
            ),
            layer_count=len(layers),
            rotation_count=len(description.rotations),
            hidden=description.hidden,
            vocab=description.vocab,
            embedding_scale=description.embedding_scale,
            given_scale=description.given_scale,
            logits_scale=description.logits_scale,
            logits_softcap=description.logits_softcap,
            embedding_type=_cpu.TYPES[embedding.dtype],
            type=_cpu.TYPES[self.dtype],
        )
        threads = self._library.threads
        adds_later = any(each.after_attention or each.after_mlp or each.residual_multiplier != 1.0 for each in layers)
        pairs = max((len(each.frequencies) for each in description.rotations), default=1)
        made.residual = self._room(rows, description.hidden, dtype=torch.float32)
        made.added = self._room(rows, description.hidden, dtype=torch.float32) if adds_later else None
        made.normed = self._room(rows, description.hidden)
        made.own = self._room(threads, OWN_ROWS)
        made.projected = self._room(rows, max(each.projected for each in layers))
        made.attended = self._room(rows, max(each.attended for each in layers))
        made.inner = self._room(rows, max(each.inner for each in layers))
        made.turns = self._room(max(len(description.rotations), 1), rows, 2 * pairs, dtype=torch.float32)
        made.max_rows, made.threads, made.own_size, made.most_pairs = rows, threads, OWN_ROWS, pairs
        made.product_scratch = self._product_scratch(made)
        return made

    def _layer(self, number: int, kind: str | None) -> _cpu.DecoderLayer:
        layer, hidden = self.description.layers[number], self.description.hidden
        prefix = f"layers.{number}."
        sizes = {"q_norm": layer.q_heads * layer.key_size, "k_norm": layer.kv_heads * layer.key_size}
        norms = {
            name: self._norm(prefix + name, norm, sizes.get(name, hidden), layer)
            for name, norm in layer.norms().items()
        }
        products = {
            name: self._product(prefix + name, bias=bias, kind=kind, layer=layer)
            for name, (_, _, bias) in layer.products(hidden).items()
        }
        sinks = self._address(self._weight(prefix + "sinks").float()) if layer.sinks else None
        names = {"q_norm": "q", "k_norm": "k"}
        return _cpu.DecoderLayer(
            **{names.get(name, name): norm for name, norm in norms.items()},
            **products,
            sinks=sinks,
            q_heads=layer.q_heads,
            kv_heads=layer.kv_heads,
            key_size=layer.key_size,
            value_size=layer.value_size,
            window=layer.window,
            inner=layer.inner,
            scale=layer.scale,
            softcap=layer.softcap,
            clip=layer.clip,
            residual_multiplier=layer.residual_multiplier,
            rotation=-1 if layer.rotation is None else layer.rotation,
            norm_after_rotation=layer.norm_after_rotation,
            parallel=layer.parallel,
            gated=layer.gated,
            plain_activation=ACTIVATIONS.index(layer.activation),
        )

    def _norm(self, name: str, norm: Norm, size: int, layer: Layer | None = None) -> _cpu.DecoderNorm:
        """float32, as long as the row, and what is added to the weight is in it."""

        def row(part: str, offset: float) -> int:
            weight = self._weight(f"{name}.{part}", repeats=True).float().flatten()
            whole = weight.repeat(size // len(weight)) + offset
            if layer is not None and name.endswith(("q_norm", "k_norm")):
                whole = self._in_order(whole, layer)
            return self._address(whole.contiguous())

        return _cpu.DecoderNorm(
            weight=row("weight", norm.offset) if norm.weight else None,
            bias=row("bias", 0.0) if norm.bias else None,
            size=norm.size,
            eps=norm.eps,
            kind=NORMS[norm.kind],
        )

    def _product(self, name: str, *, bias: bool, kind: str | None, layer: Layer | None = None) -> _cpu.Linear:
        """A product of a layer, or the head."""
        weight = self._weight(f"{name}.weight")
        added = self._weight(f"{name.replace('embedding', 'head')}.bias") if bias else None  # of a head that is tied
        activation = ""
        if layer is not None and name.endswith(".qkv"):
            weight = self._in_order(weight, layer)
            added = None if added is None else self._in_order(added, layer)
        if layer is not None and name.endswith(".up") and layer.gated:
            activation = layer.activation
        packed = pack_linear(weight.to(self.dtype), added, kind=kind, activation=activation)
        self._keep(packed)
        self._packed_bytes += packed.nbytes
        return _linear_op(packed, invariant=self._invariant)

    def _in_order(self, rows: Tensor, layer: Layer) -> Tensor:
        """Rows of queries and keys (and values after them) so that pairs that turn together stand apart by half.

        Scores are sums over a head's elements: the same order for queries and keys changes none of them.
        """
        if layer.rotation is None or not self.description.rotations[layer.rotation].interleaved:
            return rows
        pairs = len(self.description.rotations[layer.rotation].frequencies)
        turning = torch.arange(2 * pairs).view(-1, 2).T.flatten()
        order = torch.cat([turning, torch.arange(2 * pairs, layer.key_size)])
        heads = min((layer.q_heads + layer.kv_heads) * layer.key_size, len(rows)) // layer.key_size
        moved = (torch.arange(heads)[:, None] * layer.key_size + order).flatten()
        return rows[torch.cat([moved, torch.arange(len(moved), len(rows))])]

    def _rotation(self, rotation: Rotation) -> _cpu.DecoderRotation:
        frequencies = torch.tensor(rotation.frequencies, dtype=torch.float32)
        return _cpu.DecoderRotation(self._address(frequencies), len(frequencies), rotation.scale)

    def _product_scratch(self, made: _cpu.Decoder) -> int | None:
        """Enough for the most demanding product at `max_rows`."""
        products = [made.head]
        for layer in ctypes.cast(made.layers, ctypes.POINTER(_cpu.DecoderLayer))[: made.layer_count]:
            products += [layer.qkv, layer.output, layer.up, layer.down]
        sizes = []
        for product in products:
            product.rows, product.x_type = self.max_rows, made.type
            sizes.append(self._library.scratch_size("linear", product))
        return self._room(max(sizes), 1, dtype=torch.uint8) if max(sizes) else None

    def _weight(self, name: str, *, repeats: bool = False) -> Tensor:
        """A weight in the shape that the description asks for; with `repeats`, what that consists of is enough."""
        weight, shape = self._source(name), self._shapes[name]
        fits = shape[0] % weight.numel() == 0 if repeats else tuple(weight.shape) == shape
        if not fits:
            raise ShapeError(f"Decoder: {name} has shape {[*weight.shape]}; the description asks for {[*shape]}")
        return weight

    def _keep(self, thing: Any) -> Any:
        self._kept.append(thing)
        return thing

    def _address(self, tensor: Tensor) -> int:
        """Where a tensor lies that is kept from now on."""
        self._keep(tensor)
        return tensor.data_ptr()

    def _array(self, kind: Any, items: Iterable[Any]) -> int:
        made = [*items]
        return ctypes.addressof(self._keep((kind * max(len(made), 1))(*made)))

    def _room(self, *shape: int, dtype: torch.dtype | None = None) -> int:
        return self._address(torch.empty(shape, dtype=dtype or self.dtype))


def _head_kind(kind: str | None) -> str | None:
    return "int8" if kind == "int4" else kind


def _linear_op(packed: PackedLinear, *, invariant: bool) -> _cpu.Linear:
    """What stays the same in every call of a product."""
    return _cpu.Linear(
        weight=packed.weight.data_ptr(), scales=_cpu.pointer(packed.scales), bias=_cpu.pointer(packed.bias),
        n=packed.n, k=packed.k, kind=KINDS.index(packed.kind), group=packed.group,
        gate=GATES.index(packed.activation), invariant=invariant,
    )  # fmt: skip


def _require_limits(description: Description) -> None:
    """ShapeError for what the library's loops were not made for."""
    for number, layer in enumerate(description.layers):
        widest = max(layer.key_size, layer.value_size)
        if widest > _cpu.WIDEST_HEAD:
            raise ShapeError(
                f"Decoder: heads of layer {number} have {widest} elements; {_cpu.WIDEST_HEAD} are the most"
            )
        if layer.rotation is not None and 2 * len(description.rotations[layer.rotation].frequencies) > layer.key_size:
            raise ShapeError(
                f"Decoder: layer {number} turns more pairs than its heads of {layer.key_size} elements have"
            )
        if layer.q_heads % layer.kv_heads:
            raise ShapeError(
                f"Decoder: layer {number} has {layer.q_heads} query heads, "
                f"no multiple of its {layer.kv_heads} key heads"
            )
        if layer.parallel and (layer.after_attention or layer.after_mlp or layer.residual_multiplier != 1.0):
            raise ShapeError(f"Decoder: layer {number} is parallel; it then has no norms behind and no multiplier")
        if layer.gated and layer.activation == "relu_squared":
            raise ShapeError(f"Decoder: the gate of layer {number} cannot be relu_squared; silu and gelu can")
