"""How long a request may take: what its header says, within what the server allows."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from quire_engine.errors import RequestError
from quire_server.deadlines import deadline_of

ARRIVED = 1000.0


def asked(timeout: str | None) -> Request:
    headers = [] if timeout is None else [(b"x-request-timeout", timeout.encode())]
    return Request({"type": "http", "headers": headers, "state": {"arrived": ARRIVED}})


@pytest.mark.parametrize(
    ("timeout", "longest", "seconds"),
    [
        (None, None, None),
        (None, 60.0, 60.0),
        ("2.5", None, 2.5),
        ("30", 60.0, 30.0),
        ("90", 60.0, 60.0),
        ("0.001", None, 0.001),
    ],
)
def test_a_client_may_ask_for_less_than_the_server_allows(
    timeout: str | None, longest: float | None, seconds: float | None
) -> None:
    assert deadline_of(asked(timeout), longest) == (None if seconds is None else ARRIVED + seconds)


@pytest.mark.parametrize("timeout", ["", "0", "0.0", "-1", "soon", "nan", "inf", "1e3", "1_0", " 5s", "٣", "9" * 99])
def test_what_is_no_number_of_seconds_is_refused(timeout: str) -> None:
    with pytest.raises(RequestError, match=r"x-request-timeout is a number of seconds above 0") as error:
        deadline_of(
            Request({"type": "http", "headers": [(b"x-request-timeout", timeout.encode("latin-1", "replace"))]}), 9
        )
    assert error.value.param == "x-request-timeout"
