"""GET /v1/models and /v1/models/{id}"""

from __future__ import annotations

from fastapi import APIRouter

from quire_protocol import ModelCard, ModelList, ModelPermission
from quire_server.dependencies import Serving, ServingDep
from quire_server.routes.documented import REFUSED

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(serving: ServingDep) -> ModelList:
    """Every name the model is served under."""
    return ModelList(data=cards(serving))


@router.get("/v1/models/{model:path}", responses={404: REFUSED[404]})
async def show_model(model: str, serving: ServingDep) -> ModelCard:
    """One of them."""
    for card in cards(serving):
        if card.id == model:
            return card
    raise serving.not_served(model)


def cards(serving: Serving) -> list[ModelCard]:
    """A card for each name, the same at every call."""
    return [
        ModelCard(
            id=name,
            created=serving.started,
            owned_by="quire",
            root=serving.root,
            max_model_len=serving.engine.decisions.max_model_len,
            permission=[ModelPermission(id=f"modelperm-{name}", created=serving.started)],
        )
        for name in serving.names
    ]
