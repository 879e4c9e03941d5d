"""What an HTTP request came to, as those hear who tell of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from quire_engine.errors import EngineStopped, RequestError
from quire_server.accounts import CLIENT_CLOSED_REQUEST, Account, Accounts
from quire_server.errors import describe


def account_of(app: Any) -> Account:
    """The account of one request that this application answers."""
    told: list[Account] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(Accounts(app, [told.append])(scope, receive, send))
    (account,) = told
    return account


def test_a_request_whose_client_left_before_its_answer_has_a_status_that_says_so() -> None:
    async def gone(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    assert account_of(gone).status == CLIENT_CLOSED_REQUEST


@pytest.mark.parametrize(
    ("error", "has_failed"), [(EngineStopped("gone"), True), (KeyError("?"), True), (RequestError("no"), False)]
)
def test_an_error_of_the_servers_within_a_stream_is_known(error: Exception, has_failed: bool) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        describe(error)

    account = account_of(broken)
    assert (account.status, account.has_failed) == (200, has_failed)
