"""The lines that are logged of requests: one when the engine is asked, one when an answer is over.

They tell what was asked and what it took, never prompts, answers or keys.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from enum import Enum
from typing import Any
from urllib.parse import quote

from quire_engine.async_engine import RequestOutputs
from quire_engine.timing import Timing
from quire_protocol import SamplingParams
from quire_server.accounts import Account
from quire_server.logs import tell

ACCESS = logging.getLogger("quire.access")
REQUESTS = logging.getLogger("quire.requests")

_DEFAULTS = SamplingParams()
_CONTENT = frozenset({"stop", "bad_words", "structured_outputs", "logit_bias", "extra_args", "vllm_xargs"})
"""Parameters that may quote what is written about; of these only the names are logged."""
_LONGEST_PATH = 256


class AccessLog:
    """Logs a line for each HTTP request. A Reader of accounts."""

    def __init__(self, silent: frozenset[str]) -> None:
        """`silent` are paths of which nothing is logged."""
        self.silent = silent

    def __call__(self, account: Account) -> None:
        """Log one request, once it is over."""
        if account.path not in self.silent and account.route not in self.silent:
            tell(ACCESS, f"{account.method} {_quoted(account.path)} {account.status}", _of_account(account))


def log_request(outputs: RequestOutputs) -> None:
    """Log what the engine is asked for: how long the prompt is, and which parameters are not as they always are."""
    request = outputs.request
    told: dict[str, Any] = {"prompt_tokens": len(request.token_ids)}
    if outputs.tenant:
        told["caller"] = outputs.tenant
    tell(REQUESTS, "asked", told | _of_params(request.sampling_params))


def _of_params(params: SamplingParams) -> dict[str, Any]:
    """What a request says otherwise than most do."""
    told: dict[str, Any] = {}
    for each in fields(params):
        value = getattr(params, each.name)
        if value != getattr(_DEFAULTS, each.name):
            told[each.name] = True if each.name in _CONTENT else value.name if isinstance(value, Enum) else value
    return told


def _of_account(account: Account) -> dict[str, Any]:
    told: dict[str, Any] = {
        "method": account.method,
        "path": _quoted(account.path),
        "status": account.status,
        "client": account.client,
        "caller": account.caller,
        "reason": account.reason,
        "seconds": round(account.total, 4),
        "received_bytes": account.received,
        "sent_bytes": account.sent,
    }
    timing = account.timing
    if timing is not None:
        told |= _of_timing(timing)
        told["finish_reason"] = ",".join(dict.fromkeys(account.finish_reasons))
    return {name: value for name, value in told.items() if value not in (None, "")}


def _of_timing(timing: Timing) -> dict[str, Any]:
    seconds = {
        "queue_seconds": timing.queued,
        "first_token_seconds": timing.to_first_token,
        "decode_seconds": timing.decode,
    }
    return {
        "prompt_tokens": timing.prompt_tokens,
        "cached_tokens": timing.cached_tokens,
        "generation_tokens": timing.generation_tokens,
        "preemptions": timing.preemptions,
        **{name: round(value, 4) for name, value in seconds.items() if value is not None},
    }


def _quoted(path: str) -> str:
    """A path as it may stand in a log: of one line, whatever a client wrote, and of bounded length."""
    return quote(path[:_LONGEST_PATH], safe="/!$&'()*+,:;=@~")
