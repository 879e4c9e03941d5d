"""Every route, one file per API; a handler reads as the way of its request."""

from __future__ import annotations

from fastapi import APIRouter

from quire_server.routes import (
    admin,
    cancellation,
    capabilities,
    chat,
    completions,
    generate,
    health,
    metrics,
    models,
    tokenization,
    tokenizer_info,
)
from quire_server.settings import ServerSettings

ROUTERS: tuple[APIRouter, ...] = (
    chat.router,
    completions.router,
    generate.router,
    cancellation.router,
    models.router,
    capabilities.router,
    tokenization.router,
    health.router,
    metrics.router,
)
"""Routes of every server."""

OPTIONAL: tuple[tuple[str, APIRouter], ...] = (("enable_tokenizer_info_endpoint", tokenizer_info.router),)
"""Routes that a setting switches on: (setting, router)."""

ADMIN: tuple[APIRouter, ...] = (admin.router,)
"""Routes for administration, also of every server: whoever calls one needs an admin key, whatever else is open."""


def routers(settings: ServerSettings) -> list[APIRouter]:
    """The routes of a server with these settings."""
    return [*ROUTERS, *(router for setting, router in OPTIONAL if getattr(settings, setting))]
