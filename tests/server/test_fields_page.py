"""docs/reference/fields.md says what is true today."""

from __future__ import annotations

import pytest
from tests.server.test_refusals import BODIES
from tests.support.served import Api
from tools.fields.conditions import CONDITIONS, Condition
from tools.fields.page import PAGE, page

BROKEN = [(request, condition) for condition in CONDITIONS for request in condition.requests]


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m tools.fields --docs"


@pytest.mark.parametrize(
    ("request_name", "condition"), BROKEN, ids=[f"{request}.{each.field}: {each.says}" for request, each in BROKEN]
)
def test_a_broken_condition_is_a_400_that_names_the_field(
    request: pytest.FixtureRequest, request_name: str, condition: Condition
) -> None:
    path, body = BODIES[request_name]
    api: Api = request.getfixturevalue("without_markers" if condition.field == "suffix" else "api")
    error = api.refusal(path, **{**body, **condition.refused})
    assert error["code"] == 400
    assert condition.field in f"{error['param']} {error['message']}"
