"""Short ways to write a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quire_engine.sequence import Submission
from quire_protocol import GenerateRequest, SamplingParams

_OF_THE_REQUEST = ("cache_salt", "priority", "kv_transfer_params", "features")


def generate_request(token_ids: Sequence[int], **fields: Any) -> GenerateRequest:
    """A greedy request; `fields` are SamplingParams', or the request's own."""
    own = {name: fields.pop(name) for name in _OF_THE_REQUEST if name in fields}
    params = SamplingParams(**{"temperature": 0, "ignore_eos": True} | fields)
    return GenerateRequest(token_ids=list(token_ids), sampling_params=params, **own)


def submission(handle: int, token_ids: Sequence[int], **fields: Any) -> Submission:
    """The same, with the handle that the engine knows it by."""
    return Submission(handle, generate_request(token_ids, **fields))
