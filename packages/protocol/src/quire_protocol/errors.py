"""What a client gets instead of an answer: one envelope for every refusal and failure, and its stable types."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from quire_protocol.base import OpenAIBaseModel

ERROR_TYPES: Mapping[int, str] = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: "BadRequestError",
        HTTPStatus.UNAUTHORIZED: "AuthenticationError",
        HTTPStatus.FORBIDDEN: "PermissionDeniedError",
        HTTPStatus.NOT_FOUND: "NotFoundError",
        HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowedError",
        HTTPStatus.REQUEST_TIMEOUT: "RequestTimeoutError",
        HTTPStatus.CONFLICT: "ConflictError",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaTypeError",
        HTTPStatus.UNPROCESSABLE_ENTITY: "UnprocessableEntityError",
        HTTPStatus.TOO_MANY_REQUESTS: "RateLimitError",
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "HeaderTooLargeError",
        HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
        HTTPStatus.NOT_IMPLEMENTED: "NotImplementedError",
        HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
        HTTPStatus.GATEWAY_TIMEOUT: "GatewayTimeoutError",
    }
)
"""The `type` of an error by its status: a program may rely on it, where the message is for people."""

ERROR_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "queue_full": "The waiting line is full; nothing was computed.",
        "too_many_kept": "As many answers are being made or read as the server keeps; nothing was computed.",
        "deadline_unreachable": "The request would not have been answered before its deadline; nothing was computed.",
        "deadline_exceeded": "The deadline passed before there was anything to answer with.",
        "engine_restarting": "The engine is not there at the moment, and comes back.",
        "engine_sleeping": "The engine was sent to sleep, and comes back when it is woken up.",
        "shutting_down": "The server is about to end; another one may answer.",
        "faulty_request": "The request made the engine fail, and would again; nobody else was affected.",
    }
)
"""The `reason` of an error, where a program may want to act on one that its status does not tell apart: reason → what
it means. More may come in a later version."""


class ErrorInfo(OpenAIBaseModel):
    """What went wrong."""

    message: str
    """What was wrong, what is allowed and the way out, in a sentence."""
    type: str
    """The kind of error; `ERROR_TYPES` has them."""
    param: str | None = None
    """The field to change, as a dotted path, when one is at fault."""
    code: int
    """The HTTP status."""
    reason: str | None = None
    """Why, in one stable word where there is one; `ERROR_REASONS` has them. Left out where there is none."""

    # A return type would stand in for the fields in the JSON Schema of what is sent.
    @model_serializer(mode="wrap")
    def _without_idle_reason(self, serialize: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        fields: dict[str, Any] = serialize(self)
        if self.reason is None:
            fields.pop("reason", None)
        return fields


class ErrorResponse(OpenAIBaseModel):
    """The body of every answer that is not a success."""

    error: ErrorInfo
    """What went wrong."""
