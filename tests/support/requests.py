"""Short ways to write a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quire_engine.sequence import Submission, Terms
from quire_protocol import BeamSearchParams, GenerateRequest, SamplingParams

_OF_THE_REQUEST = ("cache_salt", "priority", "kv_transfer_params", "features", "beam_search")


def generate_request(token_ids: Sequence[int], **fields: Any) -> GenerateRequest:
    """A greedy request; `fields` are SamplingParams', or the request's own."""
    own = {name: fields.pop(name) for name in _OF_THE_REQUEST if name in fields}
    params = SamplingParams(**{"temperature": 0, "ignore_eos": True} | fields)
    return GenerateRequest(token_ids=list(token_ids), sampling_params=params, **own)


def beam_request(token_ids: Sequence[int], *, length_penalty: float = 1.0, **fields: Any) -> GenerateRequest:
    """A request that searches with `n` beams; `fields` as above."""
    request = generate_request(token_ids, **{"ignore_eos": False} | fields)
    params = request.sampling_params
    assert params.max_tokens is not None
    search = BeamSearchParams(
        beam_width=params.n,
        max_tokens=params.max_tokens,
        ignore_eos=params.ignore_eos,
        length_penalty=length_penalty,
        include_stop_str_in_output=params.include_stop_str_in_output,
    )
    return request.model_copy(update={"beam_search": search})


def submission(handle: int, token_ids: Sequence[int], **fields: Any) -> Submission:
    """The same, with the handle that the engine knows it by, and `terms` if they are given."""
    terms = fields.pop("terms", Terms())
    return Submission(handle, generate_request(token_ids, **fields), terms=terms)
