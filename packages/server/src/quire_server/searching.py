"""Which fields have no effect because a request searches with beams, or because it does not. It refuses nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from quire_protocol import ChatCompletionRequest, CompletionRequest

_OF_A_DRAW: Mapping[str, tuple[float, ...]] = {
    "temperature": (0, 1),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
}
"""Fields that say how to draw a token, each with the values that ask for nothing a search does not do."""


def fields_beside_the_search(request: BaseModel) -> Iterator[tuple[str, str]]:
    """The fields of a request that are set to something and change nothing, each with the reason."""
    if not isinstance(request, ChatCompletionRequest | CompletionRequest):
        return
    if not request.use_beam_search:
        if request.length_penalty != 1:
            yield "length_penalty", "it is for beam search, and use_beam_search is not set"
        return
    for name, neutral in _OF_A_DRAW.items():
        if getattr(request, name) not in (None, *neutral):
            yield name, "beam search goes by the model's own log-probabilities, without a draw"
