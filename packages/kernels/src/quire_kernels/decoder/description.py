"""A decoder-only language model as data: what its layers compute, and the weights they need. It holds no tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Activation = Literal["silu", "gelu", "gelu_tanh", "relu_squared"]

WeightSource = Callable[[str], Tensor]
"""Gives a weight by its name here; the names are those that `Layer.weights` and `Description.weights` list."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation of `size` elements at a time, computed in float32."""

    kind: Literal["rms", "layer"]
    size: int
    """A whole row's elements, or a head's: a longer row is normalised in stretches of this many."""
    eps: float
    weight: bool = True
    """Whether it multiplies by one."""
    bias: bool = False
    offset: float = 0.0
    """Added to the weight: 1 for Gemma."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary position embedding (Su et al. 2021): pairs of a head's elements turn by position times a frequency."""

    frequencies: tuple[float, ...]
    """One for each pair, in radians per token; elements beyond the pairs keep still."""
    scale: float = 1.0
    """Multiplies cosines and sines."""
    interleaved: bool = False
    """Pairs are elements 2i and 2i + 1; otherwise i and i + the number of pairs."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Attention and an MLP, each between norms, added to a residual stream.

    Both read `before(x)` and add `residual_multiplier * after(result)`; a norm that is None changes nothing. With
    `parallel` the MLP reads what attention reads.
    """

    q_heads: int
    kv_heads: int
    key_size: int
    """Elements of a query's or key's head."""
    value_size: int
    """Elements of a value's head."""
    inner: int
    """Elements between the MLP's products."""
    scale: float
    """Multiplies scores."""
    activation: Activation
    gated: bool = True
    """act(gate) * up, by one product that holds both; otherwise act(up)."""
    before_attention: Norm | None = None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    after_attention: Norm | None = None
    before_mlp: Norm | None = None
    after_mlp: Norm | None = None
    rotation: int | None = None
    """Which of the decoder's rotations; None: queries and keys do not know their positions."""
    norm_after_rotation: bool = False
    """Queries and keys are normalised after they have been turned."""
    qkv_bias: bool = False
    output_bias: bool = False
    up_bias: bool = False
    down_bias: bool = False
    sinks: bool = False
    """Each query head has one more score, without a value."""
    window: int = 0
    """Keys that a query sees, its own included; 0: all."""
    softcap: float = 0.0
    """c * tanh(score / c); 0: none."""
    clip: float = 0.0
    """Queries, keys and values are kept between its negative and itself; 0: none."""
    residual_multiplier: float = 1.0
    parallel: bool = False

    @property
    def projected(self) -> int:
        """Elements of queries, keys and values of one token."""
        return (self.q_heads + self.kv_heads) * self.key_size + self.kv_heads * self.value_size

    @property
    def attended(self) -> int:
        """Elements that attention gives for one token."""
        return self.q_heads * self.value_size

    def norms(self) -> dict[str, Norm]:
        """Those that it has, by name."""
        names = ("before_attention", "q_norm", "k_norm", "after_attention", "before_mlp", "after_mlp")
        return {name: norm for name in names if (norm := getattr(self, name)) is not None}

    def products(self, hidden: int) -> dict[str, tuple[int, int, bool]]:
        """Its products by name: outputs, inputs, and whether there is a bias."""
        return {
            "qkv": (self.projected, hidden, self.qkv_bias),
            "output": (hidden, self.attended, self.output_bias),
            "up": (self.inner * (2 if self.gated else 1), hidden, self.up_bias),
            "down": (hidden, self.inner, self.down_bias),
        }

    def weights(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """Every weight by name, and its shape. q_norm and k_norm may be given for one head or for all."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, norm in self.norms().items():
            size = {"q_norm": self.q_heads * self.key_size, "k_norm": self.kv_heads * self.key_size}.get(name, hidden)
            shapes |= {f"{name}.{part}": (size,) for part in ("weight", "bias") if getattr(norm, part)}
        for name, (outputs, inputs, bias) in self.products(hidden).items():
            shapes[f"{name}.weight"] = (outputs, inputs)
            if bias:
                shapes[f"{name}.bias"] = (outputs,)
        return shapes | ({"sinks": (self.q_heads,)} if self.sinks else {})


@dataclass(frozen=True, slots=True)
class Description:
    """Embedding, layers, a norm, and the product that gives logits."""

    hidden: int
    """Elements of the residual stream."""
    vocab: int
    """Rows of the embedding and of the head."""
    layers: tuple[Layer, ...]
    rotations: tuple[Rotation, ...]
    final_norm: Norm
    tied: bool
    """The head is the embedding."""
    head_bias: bool = False
    embedding_scale: float = 1.0
    """Multiplies rows of the embedding."""
    given_scale: float = 1.0
    """Multiplies rows that come as embeddings already."""
    logits_scale: float = 1.0
    logits_softcap: float = 0.0
    """c * tanh(logit / c), after the scale; 0: none."""

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Every weight by name, and its shape: "layers.0.qkv.weight", "embedding.weight", "final_norm.weight", …"""
        shapes = {
            f"layers.{number}.{name}": shape
            for number, layer in enumerate(self.layers)
            for name, shape in layer.weights(self.hidden).items()
        }
        shapes["embedding.weight"] = (self.vocab, self.hidden)
        shapes |= {
            f"final_norm.{part}": (self.hidden,) for part in ("weight", "bias") if getattr(self.final_norm, part)
        }
        if not self.tied:
            shapes["head.weight"] = (self.vocab, self.hidden)
        return shapes | ({"head.bias": (self.vocab,)} if self.head_bias else {})
