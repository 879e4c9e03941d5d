"""GET /livez, GET /health, GET and POST /ping, GET /version"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from quire_server.__about__ import __version__
from quire_server.dependencies import Serving, ServingDep
from quire_server.errors import envelope, error_answer

router = APIRouter(tags=["health"])


@router.get("/livez", response_class=Response)
async def live() -> Response:
    """200 while this process answers at all, from its first moments on; it says nothing of the engine."""
    return Response()


@router.get("/health", response_class=Response)
async def health(serving: ServingDep) -> Response:
    """200 while requests can be answered, 503 once the engine has ended."""
    return _state(serving)


@router.get("/ping", response_class=Response)
@router.post("/ping", response_class=Response)
async def ping(serving: ServingDep) -> Response:
    """The same under the name that SageMaker asks for."""
    return _state(serving)


@router.get("/version")
async def version() -> dict[str, str]:
    """The version of this server."""
    return {"version": __version__}


def _state(serving: Serving) -> Response:
    if serving.engine.is_healthy:
        return Response()
    return error_answer(
        envelope("The engine has ended; no request is answered any more.", HTTPStatus.SERVICE_UNAVAILABLE)
    )
