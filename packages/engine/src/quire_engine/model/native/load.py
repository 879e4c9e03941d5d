"""From a proven description and a checkpoint to a decoder: weights are read once, each straight into its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from quire_engine.model.native.describe import fitted
from quire_engine.model.native.families import FAMILIES
from quire_engine.model.native.weights import Checkpoint, Weights
from quire_engine.model.spec import DTYPES, read_json
from quire_kernels.decoder import Decoder, Description


def load_decoder(
    path: Path,
    description: Description,
    *,
    dtype: str,
    max_rows: int,
    progress: bool,
    kind: str | None = None,
    invariant: bool = False,
) -> tuple[Decoder, int]:
    """The decoder of a checkpoint that was proven, and how many numbers its weights are.

    `progress` shows a bar on stderr, with bytes a second; `kind` and `invariant` are as in Decoder.
    """
    family = FAMILIES[read_json(path / "config.json")["model_type"]]
    own = DTYPES[dtype]
    with ExitStack() as stack:
        checkpoint = stack.enter_context(closing(Checkpoint(path)))
        weights = Weights(checkpoint, family, description)
        again = description.vocab * description.hidden if description.tied else 0  # the embedding, as the head
        told = stack.enter_context(_bar((weights.count + again) * own.itemsize)) if progress else _silent

        def weight(name: str) -> Tensor:
            found = weights.get(name, own)
            told(found.nbytes)
            return found

        made = fitted(description, own)
        decoder = Decoder(made, weight, dtype=own, max_rows=max_rows, kind=kind, invariant=invariant)
        return decoder, weights.count


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], Any]]:
    """Hears of bytes that were loaded."""
    from tqdm import tqdm

    with tqdm(total=total, desc="Loading weights", unit="B", unit_scale=True) as bar:
        yield bar.update


def _silent(_: int) -> None:
    """Nobody wants to know."""
