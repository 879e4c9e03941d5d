"""Every exception that can end a request, as an answer in the one envelope; it knows statuses and types, not routes.

`{"error": {"message", "type", "param", "code"}}` is the body of every answer that is not a success, whoever refused:
the schema, the engine, the router or a middleware. Beside them stands a `reason` where programs may want to tell apart
what has one status.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from quire_engine.errors import DeadlineUnreachable, EngineStopped, Overloaded, QuireError, RequestError
from quire_protocol.errors import ERROR_TYPES, ErrorInfo, ErrorResponse
from quire_server.accounts import account_of_this_request, note_failure, note_reason
from quire_server.kept import NoPlace

logger = logging.getLogger("quire")

MOST_PROBLEMS = 5
"""Problems of one body told at once; the rest is counted."""


class ModelNotFound(RequestError):
    """The request names a model that is not served here."""


class RequestNotFound(RequestError):
    """No such request is being answered."""


class AnswerFailed(QuireError):
    """The engine gave an answer up; the message says why."""


class DeadlineExceeded(QuireError):
    """The deadline passed before there was anything to answer with."""


class ShuttingDown(QuireError):
    """The server is about to end. `retry_after` is in seconds: when another one may be there."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Told(NamedTuple):
    """How an exception is told."""

    status: HTTPStatus
    reason: str | None = None
    """The word of `ERROR_REASONS` that says why, if one does."""
    is_final: bool = False
    """Whether asking the same once more is pointless, although the status looks as if it were not."""


TOLD: tuple[tuple[type[QuireError], Told], ...] = (
    (ModelNotFound, Told(HTTPStatus.NOT_FOUND)),
    (RequestNotFound, Told(HTTPStatus.NOT_FOUND)),
    (RequestError, Told(HTTPStatus.BAD_REQUEST)),
    (DeadlineUnreachable, Told(HTTPStatus.TOO_MANY_REQUESTS, "deadline_unreachable")),
    (NoPlace, Told(HTTPStatus.TOO_MANY_REQUESTS, "too_many_kept")),
    (Overloaded, Told(HTTPStatus.TOO_MANY_REQUESTS, "queue_full")),
    (DeadlineExceeded, Told(HTTPStatus.GATEWAY_TIMEOUT, "deadline_exceeded", is_final=True)),
    (ShuttingDown, Told(HTTPStatus.SERVICE_UNAVAILABLE, "shutting_down")),
    (AnswerFailed, Told(HTTPStatus.INTERNAL_SERVER_ERROR, "faulty_request", is_final=True)),
    (EngineStopped, Told(HTTPStatus.SERVICE_UNAVAILABLE)),
    (QuireError, Told(HTTPStatus.INTERNAL_SERVER_ERROR)),
)
"""How our own exceptions are told: the first line that fits."""

UNFORESEEN = "The server met an error of its own."

ROUTER_WORDS: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "There is no {path} here.",
    HTTPStatus.METHOD_NOT_ALLOWED: "{path} does not take {method}; use {allowed}.",
}
"""What the router's own refusals say."""


def envelope(message: str, status: int, param: str | None = None, reason: str | None = None) -> ErrorResponse:
    """The body of an error."""
    kind = ERROR_TYPES.get(status, HTTPStatus(status).phrase)
    return ErrorResponse(error=ErrorInfo(message=message, type=kind, param=param, code=status, reason=reason))


def describe(error: Exception) -> ErrorResponse:
    """Any exception that a request met, as the body of an error. What nobody foresaw is logged, not told."""
    if isinstance(error, QuireError):
        told = _told(error)
        note_reason(told.reason)
        if told.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            note_failure()
        return envelope(str(error), told.status, getattr(error, "param", None), told.reason)
    logger.error("A request failed in a way nobody foresaw.", exc_info=error)
    note_failure()
    return envelope(UNFORESEEN, HTTPStatus.INTERNAL_SERVER_ERROR)


def headers_of(error: Exception) -> dict[str, str]:
    """What an answer with this error says to those who would ask again: when to, or not to.

    `x-should-retry` is what the openai client goes by, before it looks at the status.
    """
    headers = {}
    if isinstance(error, Overloaded | ShuttingDown):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, ShuttingDown):
        headers["Connection"] = "close"  # the next connection may lead to a server that stays
    if isinstance(error, QuireError) and _told(error).is_final:
        headers["x-should-retry"] = "false"
    return headers


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


class Unforeseen:
    """Answers what nobody foresaw inside of the middlewares that give each answer its headers, and raises it again.

    So this answer too can be found by its id, and read by a web page; and the server's own log has the traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self.app(scope, receive, send)
        except Exception:
            account = account_of_this_request()
            if account is not None and not account.status:  # an answer that has begun can only break off
                await _unforeseen()(scope, receive, send)
            raise


def install_error_answers(app: FastAPI) -> None:
    """Answer every exception that a route raises."""
    app.add_exception_handler(QuireError, _answer_ours)
    app.add_exception_handler(RequestValidationError, _answer_body)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unforeseen)


async def _answer_ours(request: Request, error: Exception) -> Response:
    return error_answer(describe(error), headers_of(error))


async def _answer_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_answer(describe_body(error))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "another method")
    words = ROUTER_WORDS.get(error.status_code, "{detail}")
    text = words.format(path=request.scope["path"][:200], method=request.method, allowed=allowed, detail=error.detail)
    return error_answer(envelope(text, error.status_code), error.headers)


async def _answer_unforeseen(request: Request, error: Exception) -> Response:
    # Only what is met outside of Unforeseen comes here. Starlette raises it again, too.
    return _unforeseen()


def _unforeseen() -> Response:
    return error_answer(envelope(UNFORESEEN, HTTPStatus.INTERNAL_SERVER_ERROR))


def _told(error: QuireError) -> Told:
    return next(told for kind, told in TOLD if isinstance(error, kind))


def _finished(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
