"""How a JSON body becomes a value: strictly, and with its faults told; it knows nothing of the schemas."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from quire_server.accounts import CLIENT_CLOSED_REQUEST

DEEPEST = 200
"""Levels of lists and objects within each other, the outermost included, that the parser reads."""
TOO_DEEP = f"The body's lists and objects are more than {DEEPEST} levels deep, the most this server reads."


class JsonRequest(Request):
    """A request whose body is parsed by pydantic's parser: bounded in depth, and closed to lone surrogates."""

    async def json(self) -> Any:
        """The body as a value. HTTPException 400 says where it is not JSON."""
        body = await self.body()
        try:
            return from_json(body)
        except ValueError as error:
            reason = TOO_DEEP if "recursion limit" in str(error) else f"The body is not JSON: {error}."
            raise HTTPException(HTTPStatus.BAD_REQUEST, reason) from error


class JsonRoute(APIRoute):
    """A route whose body, where it has one, is JSON and says so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, given a JsonRequest."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_json(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
                told = f"not {kind}" if kind else "and the request names none"
                reason = f"The body's Content-Type must be application/json, {told}."
                raise HTTPException(HTTPStatus.BAD_REQUEST, reason)
            json_request = JsonRequest(request.scope, request.receive)
            try:
                is_empty = not await json_request.body()
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            if is_empty:
                raise HTTPException(HTTPStatus.BAD_REQUEST, "The body is empty: send the request as JSON.")
            return await handle(json_request)

        return handle_json
