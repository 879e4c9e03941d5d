"""Ending requests that are being answered, by their ids."""

from pydantic import Field

from quire_protocol.base import Many, OpenAIBaseModel, RequestModel


class AbortRequest(RequestModel):
    """Which requests to end."""

    request_ids: Many[str] = Field(min_length=1)
    """Their ids: what X-Request-Id said, or the `id` of their answers."""


class AbortResponse(OpenAIBaseModel):
    """What was ended."""

    request_ids: list[str] = Field(default_factory=list)
    """The ids of those that were still running; each has ended with `finish_reason` abort."""


class Cancellation(OpenAIBaseModel):
    """A request that was ended."""

    id: str
    """Its id, as it was given."""
    object: str = "request"
    """What this is."""
    cancelled: bool = True
    """That it was still running, and has ended with `finish_reason` abort."""
