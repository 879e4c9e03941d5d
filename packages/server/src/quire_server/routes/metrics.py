"""GET /metrics"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from quire_server.dependencies import ServingDep, off_loop

router = APIRouter(tags=["operations"])


@router.get("/metrics", response_class=Response)
async def metrics(http: Request, serving: ServingDep) -> Response:
    """What was counted and measured, for Prometheus: as text, or as OpenMetrics where that is asked for."""
    encode, media_type = choose_encoder(http.headers.get("accept", ""))
    return Response(await off_loop(encode, await serving.siblings.metrics()), media_type=media_type)
