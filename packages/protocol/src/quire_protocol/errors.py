"""What a client gets instead of an answer: one envelope for every refusal and failure, and its stable types."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from quire_protocol.base import OpenAIBaseModel

ERROR_TYPES: Mapping[int, str] = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: "BadRequestError",
        HTTPStatus.UNAUTHORIZED: "AuthenticationError",
        HTTPStatus.FORBIDDEN: "PermissionDeniedError",
        HTTPStatus.NOT_FOUND: "NotFoundError",
        HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowedError",
        HTTPStatus.CONFLICT: "ConflictError",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaTypeError",
        HTTPStatus.UNPROCESSABLE_ENTITY: "UnprocessableEntityError",
        HTTPStatus.TOO_MANY_REQUESTS: "RateLimitError",
        HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
        HTTPStatus.NOT_IMPLEMENTED: "NotImplementedError",
        HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
    }
)
"""The `type` of an error by its status: a program may rely on it, where the message is for people."""


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


class ErrorResponse(OpenAIBaseModel):
    """The body of every answer that is not a success."""

    error: ErrorInfo
    """What went wrong."""
