"""A checkpoint's weights under the names that a decoder's description gives them. It knows files, no computing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from quire_engine.model.native.describe import NotDescribed
from quire_engine.model.native.families import Family
from quire_kernels.decoder import Description

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def names(family: Family, description: Description) -> dict[str, tuple[str, ...]]:
    """Each of the description's weights -> those of the checkpoint that it consists of, one below the other."""
    head_norms = dict(zip(("q_norm", "k_norm"), family.head_norms or (), strict=False))
    products = {"qkv": family.qkv, "output": (family.output,), "up": family.up, "down": (family.down,)}
    inside = {name: (own,) for name, own in {**family.norms, **head_norms}.items()} | products
    outside = {
        "embedding": "model.embed_tokens",
        "final_norm": family.final_norm,
        "head": "lm_head",
    }
    found: dict[str, tuple[str, ...]] = {}
    for name in description.weights():
        *place, module, kind = name.split(".")
        if place:
            found[name] = tuple(f"model.layers.{place[1]}.{own}.{kind}" for own in inside[module])
        else:
            found[name] = (f"{outside[module]}.{kind}",)
    return found


class Checkpoint:
    """The *.safetensors of a folder, read where they lie: a tensor is its file's pages until it is changed.

    NotDescribed for files that cannot be read, or hold what is no float (quantised weights).
    """

    def __init__(self, folder: Path) -> None:
        self._files = ExitStack()
        self._place: dict[str, Any] = {}
        try:
            for path in weight_files(folder):
                file = self._files.enter_context(safe_open(path, framework="pt"))
                self._place |= dict.fromkeys(file.keys(), file)
        except (OSError, ValueError, SafetensorError) as error:  # transformers' way will say what it makes of them
            raise NotDescribed(f"{folder} cannot be read: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def tensor(self, name: str) -> Tensor:
        """A weight by its own name."""
        tensor: Tensor = self._place[name].get_tensor(name)
        if tensor.dtype not in FLOATS:
            raise NotDescribed(f"{name} is stored as {tensor.dtype}")
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """The same weight's shape, without reading it."""
        return tuple(self._place[name].get_slice(name).get_shape())

    def close(self) -> None:
        """Tensors that were given stay."""
        self._files.close()


def weight_files(folder: Path) -> list[Path]:
    """Those that the index names, else all of them."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return sorted(folder.glob("*.safetensors"))
    return sorted(folder / name for name in set(index["weight_map"].values()))


class Weights:
    """A checkpoint's weights by a description's names, in parts put together as they are asked for."""

    def __init__(self, checkpoint: Checkpoint, family: Family, description: Description) -> None:
        """NotDescribed unless every weight is there in its shape."""
        self._checkpoint = checkpoint
        self._names = names(family, description)
        for name, shape in description.weights().items():
            self._require(name, shape)

    def get(self, name: str, dtype: torch.dtype) -> Tensor:
        """A weight in this type; where that is its own, what the file has."""
        parts = [self._checkpoint.tensor(own) for own in self._names[name]]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(dtype)

    @property
    def count(self) -> int:
        """Numbers in all of them."""
        return sum(math.prod(self._checkpoint.shape(own)) for parts in self._names.values() for own in parts)

    def _require(self, name: str, shape: tuple[int, ...]) -> None:
        missing = [own for own in self._names[name] if own not in self._checkpoint]
        if missing:
            raise NotDescribed(f"the checkpoint has no {missing[0]}")
        shapes = [self._checkpoint.shape(own) for own in self._names[name]]
        is_head_norm = ".q_norm." in name or ".k_norm." in name  # given for one head, or for all
        rows = sum(each[0] for each in shapes)
        fits = shape[0] % math.prod(shapes[0]) == 0 if is_head_norm else (rows, *shapes[0][1:]) == shape
        if not fits:
            raise NotDescribed(f"{name} is {shapes} in the checkpoint, not {[*shape]}")
