"""GET /v1/models and /v1/models/{id}, and the names that requests may give."""

import pytest
from tests.support.served import Api, Served, error_of


def test_the_list_is_the_same_at_every_call(api: Api) -> None:
    first, second = (api.get("/v1/models").json() for _ in range(2))
    (card,) = first["data"]
    assert first == second
    assert (first["object"], card["object"], card["id"], card["max_model_len"]) == ("list", "model", "tiny", 2048)


def test_each_name_has_a_card_of_its_own(engine: Served) -> None:
    api = engine.api(served_model_name=("one", "org/two"))
    assert [card["id"] for card in api.get("/v1/models").json()["data"]] == ["one", "org/two"]
    assert api.get("/v1/models/org/two").json()["id"] == "org/two"


def test_a_name_that_is_not_served_has_none(api: Api) -> None:
    answer = api.get("/v1/models/other")
    assert (answer.status_code, error_of(answer)["param"]) == (404, "model")


@pytest.mark.parametrize("name", [None, "", "one", "org/two"])
def test_any_of_the_names_is_taken_and_the_first_is_given(engine: Served, name: str | None) -> None:
    api = engine.api(served_model_name=("one", "org/two"))
    assert api.post("/v1/completions", model=name, prompt="x", max_tokens=1)["model"] == "one"
