"""What the OpenAPI document says of answers that FastAPI cannot see in a handler's types."""

from __future__ import annotations

from typing import Any

from quire_protocol import ErrorResponse

REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The request cannot be served; `param` names the field."},
    401: {"model": ErrorResponse, "description": "The API key is missing or unknown."},
    404: {"model": ErrorResponse, "description": "The model is not served here."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    429: {"model": ErrorResponse, "description": "The waiting line is full; `Retry-After` says when to try again."},
    "4XX": {"model": ErrorResponse, "description": "Any other refusal has the same body."},
    500: {"model": ErrorResponse, "description": "The server met an error of its own."},
}
"""The answers of any route that generates, beside its own."""

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; with `stream`, as server-sent events.", "content": {"text/event-stream": {}}},
    **REFUSED,
}
"""The same, for a route whose answer may be a stream."""
