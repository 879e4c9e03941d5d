"""The OpenAPI document says what every route takes and gives."""

from typing import Any

import pytest
from tests.support.served import Api, Served


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    content: dict[str, Any] = api.get("/openapi.json").json()
    return content


BODIES = {
    "/v1/chat/completions": ("ChatCompletionRequest", "ChatCompletionResponse"),
    "/v1/completions": ("CompletionRequest", "CompletionResponse"),
    "/inference/v1/generate": ("GenerateRequest", "GenerateResponse"),
    "/detokenize": ("DetokenizeRequest", "DetokenizeResponse"),
}


@pytest.mark.parametrize("path", BODIES)
def test_a_routes_schemas_are_the_protocols(document: dict[str, Any], path: str) -> None:
    route = document["paths"][path]["post"]
    taken = route["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    given = route["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert (taken.split("/")[-1], given.split("/")[-1]) == BODIES[path]
    assert {"400", "401", "404", "413"} <= route["responses"].keys()
    assert "422" not in route["responses"]


def test_fields_have_their_descriptions(document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    assert all(field.get("description") for field in fields.values())
    assert "messages" in document["components"]["schemas"]["ChatCompletionRequest"]["required"]


def test_every_route_says_in_a_sentence_what_it_does(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        assert all(route["description"].endswith(".") for route in path.values())


def test_the_document_can_be_left_out(engine: Served) -> None:
    api = engine.api(disable_fastapi_docs=True)
    assert {api.get(path).status_code for path in ("/openapi.json", "/docs", "/redoc")} == {404}
