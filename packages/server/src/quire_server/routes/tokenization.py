"""POST /tokenize and /detokenize"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quire_engine.errors import RequestError
from quire_protocol import DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse
from quire_server.bodies import JsonRoute
from quire_server.dependencies import Serving, ServingDep, off_loop
from quire_server.replies.heading import said_once
from quire_server.routes.documented import REFUSED
from quire_server.streams import warning_headers

router = APIRouter(route_class=JsonRoute, tags=["tokenization"], responses=REFUSED)


@router.post("/tokenize", response_model=TokenizeResponse)
async def tokenize(request: TokenizeRequest, http: Request, serving: ServingDep) -> Response:
    """The token ids of a text, or of a conversation as the model would see it."""
    warnings = serving.admit(request, http)
    answer = await off_loop(tokenized, request, serving, warnings)
    return Response(answer, headers=warning_headers(warnings), media_type="application/json")


def tokenized(request: TokenizeRequest, serving: Serving, warnings: tuple[str, ...]) -> str:
    """The answer as JSON, all of it made at once: of a long text it is millions of ids and names."""
    tokens = serving.renderer.tokenize(request)
    names = [serving.tokenizer.token_text(token) for token in tokens] if request.return_token_strs else None
    max_model_len = serving.engine.decisions.max_model_len
    answer = TokenizeResponse(
        count=len(tokens), max_model_len=max_model_len, tokens=tokens, token_strs=names, **said_once(warnings)
    )
    return answer.model_dump_json()


@router.post("/detokenize")
async def detokenize(
    request: DetokenizeRequest, http: Request, out: Response, serving: ServingDep
) -> DetokenizeResponse:
    """The text of token ids, special tokens included."""
    warnings = serving.admit(request, http)
    out.headers.update(warning_headers(warnings))
    strangers = [token for token in request.tokens if not 0 <= token < serving.tokenizer.vocab_size]
    if strangers:
        last = serving.tokenizer.vocab_size - 1
        raise RequestError(f"tokens has {strangers[0]}, which is no token: ids go from 0 to {last}.", param="tokens")
    prompt = await off_loop(serving.tokenizer.decode, request.tokens, skip_special_tokens=False)
    return DetokenizeResponse(prompt=prompt, **said_once(warnings))
