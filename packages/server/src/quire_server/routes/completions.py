"""POST /v1/completions"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quire_protocol import CompletionRequest, CompletionResponse
from quire_server.bodies import JsonRoute
from quire_server.dependencies import ServingDep, rendered, request_id
from quire_server.replies.completions import CompletionReply
from quire_server.routes.documented import STREAMED
from quire_server.streams import respond

router = APIRouter(route_class=JsonRoute, tags=["completions"])


@router.post("/v1/completions", response_model=CompletionResponse, responses=STREAMED)
async def create_completion(request: CompletionRequest, http: Request, serving: ServingDep) -> Response:
    """Continue one or several prompts, at once or as server-sent events."""
    warnings = serving.admit(request, http)
    own_id = request_id(http, request.request_id)
    prompts = await rendered(serving.renderer.render_completion, request, http)
    outputs = await serving.submit_all(prompts, http, own_id)  # refusals raise here, before any byte
    heading = serving.heading("cmpl", own_id, warnings)
    reply = CompletionReply(request, prompts, outputs, heading, serving.tokenizer, serving.settings)
    return await respond(reply, http, stream=bool(request.stream), warnings=warnings)
