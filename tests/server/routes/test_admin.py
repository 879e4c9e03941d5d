"""POST /reset_prefix_cache, POST /sleep, POST /wake_up, GET /is_sleeping: only for whoever has an admin key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.served import Api, error_of, served

BOSS = {"Authorization": "Bearer boss"}
ROUTES = [("POST", "/reset_prefix_cache"), ("POST", "/sleep"), ("POST", "/wake_up"), ("GET", "/is_sleeping")]
ASK = {"prompt": "Once upon a time there was a little duck who swam in the pond", "max_tokens": 3, "temperature": 0}


@pytest.fixture(scope="module")
def admin() -> Iterator[Api]:
    with served("process") as each:
        yield each.api(admin_key=("boss",), enable_prompt_tokens_details=True)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_else_may(admin: Api, method: str, path: str) -> None:
    assert error_of(admin.request(method, path))["code"] == 401


def test_a_reset_prefix_cache_has_nothing(admin: Api) -> None:
    def cached() -> int:
        details = admin.post("/v1/completions", **ASK)["usage"]["prompt_tokens_details"]
        return int(details["cached_tokens"])

    cached()
    assert cached() > 0
    answer = admin.request("POST", "/reset_prefix_cache", headers=BOSS)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert cached() == 0


def test_an_engine_that_sleeps_is_healthy_but_not_ready_and_answers_after_it_woke_up(admin: Api) -> None:
    expected = admin.post("/v1/completions", **ASK)["choices"]
    assert admin.request("POST", "/sleep", headers=BOSS).json() == {"status": "sleeping", "level": 1}
    assert admin.request("GET", "/is_sleeping", headers=BOSS).json() == {"is_sleeping": True}
    refused = admin.get("/readyz")
    assert (refused.status_code, error_of(refused)["reason"]) == (503, "engine_sleeping")
    assert admin.get("/health").status_code == 200
    assert admin.request("POST", "/wake_up", headers=BOSS).json() == {"status": "awake"}
    assert admin.request("GET", "/is_sleeping", headers=BOSS).json() == {"is_sleeping": False}
    assert admin.get("/readyz").status_code == 200
    assert admin.post("/v1/completions", **ASK)["choices"] == expected


@pytest.mark.parametrize("query", ["sleep?level=0", "sleep?level=3", "sleep?mode=abort", "wake_up?tags=weights"])
def test_what_cannot_be_done_in_parts_is_refused(admin: Api, query: str) -> None:
    answer = admin.request("POST", f"/{query}", headers=BOSS)
    assert error_of(answer)["code"] == 400
    assert admin.request("GET", "/is_sleeping", headers=BOSS).json() == {"is_sleeping": False}
