"""POST /inference/v1/generate: token ids in, token ids out, for callers that do their own templates and tokenising."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quire_protocol import GenerateRequest, GenerateResponse
from quire_server.bodies import JsonRoute
from quire_server.dependencies import ServingDep, in_fields_of, rendered, request_id
from quire_server.replies.generate import GenerateReply
from quire_server.routes.documented import STREAMED
from quire_server.streams import respond

router = APIRouter(route_class=JsonRoute, tags=["tokens"])


@router.post("/inference/v1/generate", response_model=GenerateResponse, responses=STREAMED)
async def generate(request: GenerateRequest, http: Request, serving: ServingDep) -> Response:
    """Continue a prompt of token ids, at once or as server-sent events."""
    warnings = serving.admit(request, http)
    own_id = request_id(http, request.request_id)
    prompt = request.model_copy(update={"request_id": own_id})
    with in_fields_of(request):
        if serving.text is not None:
            prompt = await rendered(serving.text.render_tokens, prompt, http)
        outputs = await serving.submit(prompt, http, own_id)  # refusals raise here, before any byte
    reply = GenerateReply(prompt, outputs, serving.settings, warnings)
    return await respond(reply, http, stream=bool(request.stream), warnings=warnings)
