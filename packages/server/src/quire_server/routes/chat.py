"""POST /v1/chat/completions"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quire_engine.text.answers import reading_of
from quire_protocol import ChatCompletionRequest, ChatCompletionResponse
from quire_server.bodies import JsonRoute
from quire_server.dependencies import ServingDep, in_fields_of, rendered, request_id
from quire_server.replies.chat import ChatReply
from quire_server.routes.documented import STREAMED
from quire_server.streams import respond

router = APIRouter(route_class=JsonRoute, tags=["chat"])


@router.post("/v1/chat/completions", response_model=ChatCompletionResponse, responses=STREAMED)
async def create_chat_completion(request: ChatCompletionRequest, http: Request, serving: ServingDep) -> Response:
    """Answer a conversation, at once or as server-sent events."""
    warnings = serving.admit(request, http)
    own_id = request_id(http, request.request_id)
    with in_fields_of(request):
        prompt = await rendered(serving.renderer.render_chat, request, http)
        outputs = await serving.submit(prompt, http, own_id)  # refusals raise here, before any byte
    heading = serving.heading("chatcmpl", own_id, warnings)
    reply = ChatReply(request, prompt, outputs, heading, serving.tokenizer, serving.settings, reading_of(prompt))
    return await respond(reply, http, stream=bool(request.stream), warnings=warnings)
