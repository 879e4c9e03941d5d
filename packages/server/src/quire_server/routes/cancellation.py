"""DELETE /v1/requests/{id}, POST /inference/v1/abort_requests: whoever made a request may end it, and admins any."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quire_engine.errors import RequestError
from quire_protocol import AbortRequest, AbortResponse, Cancellation, check_limits
from quire_protocol.limits import LimitError
from quire_protocol.problems import shown
from quire_server.bodies import JsonRoute
from quire_server.dependencies import Serving, ServingDep
from quire_server.errors import RequestNotFound
from quire_server.middleware import caller_of, handles_strictly
from quire_server.replies.heading import said_once
from quire_server.routes.documented import REFUSED
from quire_server.streams import warning_headers
from quire_server.unknown import judged, strangers

router = APIRouter(route_class=JsonRoute, tags=["cancellation"])

PREFIXES = ("chatcmpl-", "cmpl-")
"""What the ids of answers have before the ids of their requests."""


@router.delete("/v1/requests/{request_id:path}", responses={404: REFUSED[404]})
async def cancel_request(request_id: str, http: Request, serving: ServingDep) -> Cancellation:
    """End a request: its answer is what there is, with `finish_reason` abort. 404 if it does not run (any more)."""
    if not await cancel([request_id], http, serving):
        raise RequestNotFound(f"No request with the id {shown(request_id)} is being answered here.", param="request_id")
    return Cancellation(id=request_id)


@router.post("/inference/v1/abort_requests", responses=REFUSED)
async def abort_requests(request: AbortRequest, http: Request, out: Response, serving: ServingDep) -> AbortResponse:
    """End several requests; ids of those that do not run (any more) are passed over."""
    try:
        check_limits(request)
    except LimitError as error:
        raise RequestError(str(error), param=error.param) from error
    warnings = judged(strangers(request, ()), serving.settings.unknown_fields, strict=handles_strictly(http))
    out.headers.update(warning_headers(warnings))
    return AbortResponse(request_ids=await cancel(request.request_ids, http, serving), **said_once(warnings))


async def cancel(ids: list[str], http: Request, serving: Serving) -> list[str]:
    """End the requests with these ids that the caller may end; the ids of those that still ran, as they were given."""
    caller = caller_of(http)
    asked = {each: {each, *(each.removeprefix(prefix) for prefix in PREFIXES)} for each in ids}
    names = {name for each in asked.values() for name in each}
    ended = await serving.siblings.cancel(names, None if caller.is_admin else caller.name)
    return [each for each, known in asked.items() if known & ended]
