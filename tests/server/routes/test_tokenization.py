"""POST /tokenize and /detokenize, GET /tokenizer_info."""

import threading

import pytest
from tests.support.served import Api, Served

from quire_engine.text.tokenizer import Tokenizer

CONVERSATION = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi"}]


def test_a_text_goes_to_ids_and_back(api: Api) -> None:
    answer = api.post("/tokenize", prompt="Once upon a 🦆", return_token_strs=True)
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 2048)
    assert len(answer["token_strs"]) == answer["count"]
    assert api.post("/detokenize", tokens=answer["tokens"]) == {"prompt": "Once upon a 🦆"}


def test_names_are_given_only_when_asked_for(api: Api) -> None:
    assert api.post("/tokenize", prompt="x")["token_strs"] is None


def test_names_hold_up_nobodys_stream(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    named, seen = Tokenizer.token_text, set()

    def token_text(tokenizer: Tokenizer, token: int) -> str:
        seen.add(threading.current_thread())
        return named(tokenizer, token)

    monkeypatch.setattr(Tokenizer, "token_text", token_text)
    api.post("/tokenize", prompt="Once upon a time", return_token_strs=True)
    assert seen
    assert threading.current_thread() not in seen  # where the event loop runs


def test_a_conversation_becomes_the_prompt_that_chat_would_use(api: Api) -> None:
    tokens = api.post("/tokenize", messages=CONVERSATION)["tokens"]
    body = {"messages": CONVERSATION, "max_tokens": 1, "return_token_ids": True}
    assert api.post("/v1/chat/completions", **body)["prompt_token_ids"] == tokens
    assert len(api.post("/tokenize", messages=CONVERSATION, add_generation_prompt=False)["tokens"]) < len(tokens)


def test_nothing_is_the_text_of_no_ids(api: Api) -> None:
    assert api.post("/detokenize", tokens=[]) == {"prompt": ""}


@pytest.mark.parametrize("token", [-1, 10**6])
def test_an_id_that_is_no_token_is_refused(api: Api, token: int) -> None:
    assert api.refusal("/detokenize", tokens=[5, token])["code"] == 400


def test_the_tokenizers_configuration_is_published_on_request_only(engine: Served, api: Api) -> None:
    assert api.get("/tokenizer_info").status_code == 404
    answer = engine.api(enable_tokenizer_info_endpoint=True).get("/tokenizer_info").json()
    assert answer["tokenizer_class"]
    assert "messages" in answer["chat_template"]
