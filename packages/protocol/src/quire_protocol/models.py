"""The models that a server has: what GET /v1/models answers."""

import time

from pydantic import Field

from quire_protocol.base import OpenAIBaseModel, random_uuid


class ModelPermission(OpenAIBaseModel):
    """What may be done with a model; kept for clients of the old API that read it."""

    id: str = Field(default_factory=lambda: f"modelperm-{random_uuid()}")
    """Names the permission."""
    object: str = "model_permission"
    """What this is."""
    created: int = Field(default_factory=lambda: int(time.time()))
    """When it was made, in seconds since 1970."""
    allow_create_engine: bool = False
    """Whether engines may be made of it."""
    allow_sampling: bool = True
    """Whether it may generate."""
    allow_logprobs: bool = True
    """Whether it tells log-probabilities."""
    allow_search_indices: bool = False
    """Whether it may be searched with."""
    allow_view: bool = True
    """Whether it may be listed."""
    allow_fine_tuning: bool = False
    """Whether it may be trained further."""
    organization: str = "*"
    """Whom the permission is for."""
    group: str | None = None
    """Which group of them."""
    is_blocking: bool = False
    """Whether it denies rather than allows."""


class ModelCard(OpenAIBaseModel):
    """A model or an adapter that is served."""

    id: str
    """The name to ask for."""
    object: str = "model"
    """What this is."""
    created: int = Field(default_factory=lambda: int(time.time()))
    """Since when it is served, in seconds since 1970."""
    owned_by: str = "vllm"
    """Who serves it."""
    root: str | None = None
    """Where its weights are from."""
    parent: str | None = None
    """The model that an adapter belongs to."""
    max_model_len: int | None = None
    """Longest prompt plus answer, in tokens."""
    permission: list[ModelPermission] = Field(default_factory=list)
    """What may be done with it."""


class ModelList(OpenAIBaseModel):
    """All models of a server."""

    object: str = "list"
    """What this is."""
    data: list[ModelCard] = Field(default_factory=list)
    """The models."""
