"""Calls the model: ids or embeddings in, logits of chosen rows out. It knows how transformers calls, no sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from torch import Tensor

from quire_engine.model.embeds import GivenRows, mixed
from quire_engine.model.seam import Pass

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPast


class Forward(Protocol):
    """A causal language model behind two calls that differ in how much memory logits may take."""

    def logits(
        self, ids: Tensor, positions: Tensor, rows: Tensor, quire: Pass, given: GivenRows | None = None
    ) -> Tensor:
        """[R, V]: the logits of some rows [R] of a pass with ids and positions [T]. `given` rows have no id."""
        ...

    def logits_in_parts(
        self, ids: Tensor, positions: Tensor, parts: list[Tensor], quire: Pass, given: GivenRows | None = None
    ) -> Iterator[Tensor]:
        """The same for several sets of rows, one after the other; each is used up before the next is asked for."""
        ...


class ModelForward:
    """transformers' own model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._trunk = cast("PreTrainedModel", model.base_model)

    def logits(
        self, ids: Tensor, positions: Tensor, rows: Tensor, quire: Pass, given: GivenRows | None = None
    ) -> Tensor:
        """[R, V]: the logits of some rows [R] of a pass with ids and positions [T]. `given` rows have no id."""
        out = self._model(
            **self._inputs(ids, given), position_ids=positions[None], use_cache=False, logits_to_keep=rows, quire=quire
        )
        logits: Tensor = out.logits
        return logits[0]

    def logits_in_parts(
        self, ids: Tensor, positions: Tensor, parts: list[Tensor], quire: Pass, given: GivenRows | None = None
    ) -> Iterator[Tensor]:
        """The same for several sets of rows, one after the other: all layers run once, the output projection per part.

        A prompt whose every row is scored would otherwise need its length times the vocabulary in memory.
        """
        inputs = self._inputs(ids, given)
        hidden = self._trunk(**inputs, position_ids=positions[None], use_cache=False, quire=quire)
        with _answering(self._trunk, hidden):
            for rows in parts:
                yield self.logits(ids, positions, rows, quire)

    def _inputs(self, ids: Tensor, given: GivenRows | None) -> dict[str, Tensor]:
        """What a pass begins with: ids, or embeddings where some rows have no id."""
        if given is None:
            return {"input_ids": ids[None]}
        return {"inputs_embeds": mixed(self._model, ids, given)[None]}


@contextmanager
def _answering(trunk: PreTrainedModel, hidden: BaseModelOutputWithPast) -> Iterator[None]:
    """Let the trunk give a known output, so that the model around it computes its own way from there to logits."""

    def known(*_: Any, **__: Any) -> BaseModelOutputWithPast:
        return hidden

    trunk.forward = known
    try:
        yield
    finally:
        del trunk.forward
