"""Every exception that can end a request, as an answer in the one envelope; it knows statuses and types, not routes.

`{"error": {"message", "type", "param", "code"}}` is the body of every answer that is not a success, whoever refused:
the schema, the engine, the router or a middleware.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from quire_engine.errors import Overloaded, QuireError, RequestError
from quire_protocol.errors import ERROR_TYPES, ErrorInfo, ErrorResponse

logger = logging.getLogger("quire")

MOST_PROBLEMS = 5
"""Problems of one body told at once; the rest is counted."""


class ModelNotFound(RequestError):
    """The request names a model that is not served here."""


class AnswerFailed(QuireError):
    """The engine gave an answer up; the message says why."""


STATUSES: tuple[tuple[type[QuireError], HTTPStatus], ...] = (
    (ModelNotFound, HTTPStatus.NOT_FOUND),
    (RequestError, HTTPStatus.BAD_REQUEST),
    (Overloaded, HTTPStatus.TOO_MANY_REQUESTS),
    (QuireError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
"""The status of our own exceptions: the first line that fits."""

UNFORESEEN = "The server met an error of its own."

REASONS: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "There is no {path} here.",
    HTTPStatus.METHOD_NOT_ALLOWED: "{path} does not take {method}; use {allowed}.",
}
"""What the router's own refusals say."""


def envelope(message: str, status: int, param: str | None = None) -> ErrorResponse:
    """The body of an error."""
    kind = ERROR_TYPES.get(status, HTTPStatus(status).phrase)
    return ErrorResponse(error=ErrorInfo(message=message, type=kind, param=param, code=status))


def describe(error: Exception) -> ErrorResponse:
    """Any exception that a request met, as the body of an error. What nobody foresaw is logged, not told."""
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return envelope(str(error), status, getattr(error, "param", None))
    logger.error("A request failed in a way nobody foresaw.", exc_info=error)
    return envelope(UNFORESEEN, HTTPStatus.INTERNAL_SERVER_ERROR)


def describe_body(error: RequestValidationError) -> ErrorResponse:
    """What is wrong with a body: a sentence for each problem, and the path of the first."""
    found = error.errors()
    sentences = [_finished(str(each["msg"])) for each in found[:MOST_PROBLEMS]]
    if rest := len(found) - len(sentences):
        sentences.append(f"And {rest} more.")
    place = ".".join(str(step) for step in found[0]["loc"][1:])
    return envelope(" ".join(sentences), HTTPStatus.BAD_REQUEST, param=place or None)


def error_answer(error: ErrorResponse, headers: Mapping[str, str] | None = None) -> Response:
    """The envelope as an answer: its code is the status."""
    content = error.model_dump_json()
    return Response(content, error.error.code, dict(headers or {}), media_type="application/json")


def install_error_answers(app: FastAPI) -> None:
    """Answer every exception that a route raises."""
    app.add_exception_handler(QuireError, _answer_ours)
    app.add_exception_handler(RequestValidationError, _answer_body)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unforeseen)


async def _answer_ours(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": f"{error.retry_after:.0f}"} if isinstance(error, Overloaded) else None
    return error_answer(describe(error), headers)


async def _answer_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_answer(describe_body(error))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "another method")
    reason = REASONS.get(error.status_code, "{detail}")
    text = reason.format(path=request.url.path[:200], method=request.method, allowed=allowed, detail=error.detail)
    return error_answer(envelope(text, error.status_code), error.headers)


async def _answer_unforeseen(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, so that the server's own log has the traceback.
    return error_answer(envelope(UNFORESEEN, HTTPStatus.INTERNAL_SERVER_ERROR))


def _finished(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
