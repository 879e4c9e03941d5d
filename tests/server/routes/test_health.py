"""GET /livez, GET /health, GET and POST /ping, GET /version."""

import pytest
from tests.support.served import Api, error_of, served

from quire_server import __version__


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/livez"), ("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")]
)
def test_a_live_engine_is_healthy(api: Api, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_engine_that_has_ended_is_not() -> None:
    with served() as each:
        api = each.api()
        each.run(each.engine.close())
        answer = api.get("/health")
        assert (answer.status_code, error_of(answer)["type"]) == (503, "ServiceUnavailableError")
        assert api.refusal("/v1/completions", prompt="x")["code"] == 500


def test_the_version_is_this_packages(api: Api) -> None:
    assert api.get("/version").json() == {"version": __version__}
