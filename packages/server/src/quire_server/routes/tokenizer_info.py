"""GET /tokenizer_info, for servers that are asked to publish it"""

from __future__ import annotations

from fastapi import APIRouter

from quire_protocol import TokenizerInfoResponse
from quire_server.dependencies import ServingDep

router = APIRouter(tags=["tokenization"])


@router.get("/tokenizer_info")
async def tokenizer_info(serving: ServingDep) -> TokenizerInfoResponse:
    """The tokenizer's configuration and chat template."""
    return TokenizerInfoResponse.model_validate(serving.tokenizer.info())
