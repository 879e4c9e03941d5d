"""GET and HEAD /livez, /readyz and /health, GET and POST /ping, GET /load, GET /version"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from quire_server.__about__ import __version__
from quire_server.closing import REASON as CLOSING
from quire_server.dependencies import Serving, ServingDep
from quire_server.errors import envelope, error_answer

router = APIRouter(tags=["health"])

ENDED = "The engine has ended; no request is answered any more."
NOT_READY = {
    "starting": ("The engine is being loaded; requests wait until it is there.", "engine_restarting"),
    "restarting": ("The engine has ended by itself and is loaded again; requests wait for it.", "engine_restarting"),
    "sleeping": ("The engine sleeps; requests wait until somebody wakes it up (POST /wake_up).", "engine_sleeping"),
    "stopped": (ENDED, None),
}
"""The states of an engine in which it answers nobody at the moment: state → what that means, and its `reason`."""


@router.get("/livez", response_class=Response)
@router.head("/livez", response_class=Response, include_in_schema=False)
async def live() -> Response:
    """200 while this process answers at all, from its first moments on; it says nothing of the engine."""
    return Response()


@router.get("/readyz", response_class=Response)
@router.head("/readyz", response_class=Response, include_in_schema=False)
async def ready(serving: ServingDep) -> Response:
    """200 while a new request would be begun at once; 503 while the engine is not there, and once the server stops."""
    if serving.closing.has_begun:
        return _unavailable(CLOSING, "shutting_down")
    if serving.engine.state in NOT_READY:
        return _unavailable(*NOT_READY[serving.engine.state])
    return Response()


@router.get("/health", response_class=Response)
@router.head("/health", response_class=Response, include_in_schema=False)
async def health(serving: ServingDep) -> Response:
    """200 while requests are answered, be it after a pause; 503 once the engine has ended for good."""
    return _state(serving)


@router.get("/ping", response_class=Response)
@router.post("/ping", response_class=Response)
async def ping(serving: ServingDep) -> Response:
    """The same under the name that SageMaker asks for."""
    return _state(serving)


@router.get("/load")
async def load(serving: ServingDep) -> dict[str, int]:
    """How many prompts wait or are computed, as `server_load`."""
    return {"server_load": await serving.siblings.load()}


@router.get("/version")
async def version() -> dict[str, str]:
    """The version of this server."""
    return {"version": __version__}


def _state(serving: Serving) -> Response:
    return Response() if serving.engine.is_healthy else _unavailable(ENDED)


def _unavailable(message: str, reason: str | None = None) -> Response:
    return error_answer(envelope(message, HTTPStatus.SERVICE_UNAVAILABLE, reason=reason))
