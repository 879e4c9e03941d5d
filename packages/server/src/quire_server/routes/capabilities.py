"""GET /v1/capabilities"""

from __future__ import annotations

from fastapi import APIRouter, Request

from quire_protocol import Capabilities
from quire_server.capabilities import capabilities
from quire_server.dependencies import ServingDep

router = APIRouter(tags=["models"])


@router.get("/v1/capabilities")
async def show_capabilities(http: Request, serving: ServingDep) -> Capabilities:
    """Which fields, formats and limits this server honours."""
    return capabilities(serving, http.app.openapi())
