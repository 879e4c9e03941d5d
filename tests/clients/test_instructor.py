"""instructor: typed answers from a model that is random, by a schema and by a tool."""

from __future__ import annotations

import openai
import pytest
from tests.clients.subjects import Animal
from tests.support.processes import Server

instructor = pytest.importorskip("instructor")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("mode", ["JSON_SCHEMA", "TOOLS", "JSON"])
def test_an_answer_is_of_its_type_at_the_first_attempt(server: Server, mode: str) -> None:
    with openai.OpenAI(base_url=server.api, api_key="none", timeout=60, max_retries=0) as client:
        typed = instructor.from_openai(client, mode=instructor.Mode[mode])
        question = [{"role": "user", "content": "An animal?"}]
        if mode == "JSON":  # any object is allowed here, so the model has to know
            question[0]["content"] += ' [[{"name": "Tom", "legs": 4, "is_tame": true}]]'
        animal = typed.create(
            model="actor", messages=question, response_model=Animal, max_retries=0, max_tokens=200, temperature=0
        )
    assert isinstance(animal, Animal)
