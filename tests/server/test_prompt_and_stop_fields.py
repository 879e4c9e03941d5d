"""Fields that shape the prompt, the end and the text of an answer, on a checkpoint in which each can be seen.

Every character is a token there, the tokenizer puts a token before each text, and the template reads everything.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.served import Api, Served, served
from tools.fields import checkpoint

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
TEXT: dict[str, Any] = {"prompt": "Once upon", "return_token_ids": True}
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Once upon"}], "return_token_ids": True}
BOTH = pytest.mark.parametrize(("path", "body"), [(COMPLETIONS, TEXT), (CHAT, HELLO)], ids=["text", "chat"])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(model=str(checkpoint.save(tmp_path_factory.mktemp("seen"))), max_model_len=256) as each:
        yield each


@pytest.fixture(scope="module")
def api(engine: Served) -> Api:
    return engine.api(trust_request_chat_template=True)


def one(api: Api, path: str, **body: Any) -> dict[str, Any]:
    """The only choice, with its text and the prompt's ids under the same names for both routes."""
    answer = api.post(path, **{"temperature": 0, "max_tokens": 12, "ignore_eos": True} | body)
    (choice,) = answer["choices"]
    ids = answer["prompt_token_ids"] if path == CHAT else choice["prompt_token_ids"]
    text = choice["message"]["content"] if path == CHAT else choice["text"]
    return {**choice, "text": text, "prompt_token_ids": ids, "warnings": answer.get("warnings")}


def ids_of(api: Api, text: str) -> list[int]:
    found: list[int] = api.post("/tokenize", prompt=text, add_special_tokens=False)["tokens"]
    return found


def prompt_of(api: Api, **body: Any) -> str:
    """The text that a conversation becomes."""
    found: str = api.post("/detokenize", tokens=one(api, CHAT, **HELLO, **body)["prompt_token_ids"])["prompt"]
    return found


# --- the prompt -------------------------------------------------------------------------------------------------------


@BOTH
def test_truncate_prompt_tokens_keeps_the_end(api: Api, path: str, body: dict[str, Any]) -> None:
    whole, cut = one(api, path, **body), one(api, path, **body, truncate_prompt_tokens=4)
    assert cut["prompt_token_ids"] == whole["prompt_token_ids"][-4:]
    assert cut["text"] == one(api, COMPLETIONS, **{**TEXT, "prompt": cut["prompt_token_ids"]})["text"]


@BOTH
def test_minus_one_keeps_what_leaves_room_for_the_answer(api: Api, path: str, body: dict[str, Any]) -> None:
    key, long = (
        ("prompt", "ab" * 200) if path == COMPLETIONS else ("messages", [{"role": "user", "content": "ab" * 200}])
    )
    kept = one(api, path, **{**body, key: long}, truncate_prompt_tokens=-1, max_tokens=6)
    assert len(kept["prompt_token_ids"]) == 250
    assert len(kept["token_ids"]) == 6
    assert api.refusal(path, **{**body, key: long})["code"] == 400


@BOTH
def test_add_special_tokens_puts_the_tokenizers_own_before_a_text(api: Api, path: str, body: dict[str, Any]) -> None:
    (begin,) = ids_of(api, checkpoint.BEGIN)
    bare = one(api, path, **body, add_special_tokens=False)["prompt_token_ids"]
    assert one(api, path, **body, add_special_tokens=True)["prompt_token_ids"] == [begin, *bare]
    by_default = one(api, path, **body)["prompt_token_ids"]
    assert by_default == ([begin, *bare] if path == COMPLETIONS else bare)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"documents": [{"text": "A fact."}]}, "A fact."),
        ({"reasoning_effort": "low"}, "effort low"),
        ({"chat_template_kwargs": {"mood": "sombre"}}, "mood sombre"),
        ({"chat_template": "only {{ messages[0].content }}"}, "only Once upon"),
        ({"tools": [{"type": "function", "function": {"name": "look"}}], "tool_choice": "none"}, '"name": "look"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_template_reads_is_in_the_prompt(api: Api, body: dict[str, Any], shown: str) -> None:
    assert shown in prompt_of(api, **body)
    assert shown not in prompt_of(api)


def test_the_generation_prompt_can_be_left_out(api: Api) -> None:
    assert prompt_of(api) == prompt_of(api, add_generation_prompt=False) + "<|im_start|>assistant "


def test_a_final_message_stays_open_when_it_is_continued(api: Api) -> None:
    assert prompt_of(api, continue_final_message=True) == "<|im_start|>user Once upon"


def test_names_and_tool_messages_reach_the_template(api: Api) -> None:
    template = (
        "{% for m in messages %}[{{ m.role }}|{{ m.name }}|{{ m.tool_call_id }}|{{ m.content }}"
        "|{% for call in m.tool_calls or [] %}{{ call.function.name }} {{ call.function.arguments.x }}{% endfor %}]"
        "{% endfor %}"
    )
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 7}'}}
    messages = [
        {"role": "user", "name": "ann", "content": "where?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "here"}]},
    ]
    ids = api.post(CHAT, messages=messages, chat_template=template, return_token_ids=True, max_tokens=1)
    shown = api.post("/detokenize", tokens=ids["prompt_token_ids"])["prompt"]
    assert shown == "[user|ann||where?|][assistant||||look 7][tool||c1|here|]"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"documents": [{"text": "d"}]}, "documents"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"mood": "sombre"}}, "chat_template_kwargs.mood"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
    ],
)
def test_what_the_template_does_not_read_is_reported(engine: Served, body: dict[str, Any], name: str) -> None:
    deaf = engine.api(chat_template="{% for message in messages %}{{ message.content }}{% endfor %}")
    reported = f"{name} had no effect: the chat template does not read it."
    assert one(deaf, CHAT, **HELLO, **body)["warnings"] == [reported]
    assert one(deaf, CHAT, **HELLO)["warnings"] is None
    strict = deaf.request("POST", CHAT, json={**HELLO, **body}, headers={"Prefer": "handling=strict"})
    assert (strict.status_code, strict.json()["error"]["param"]) == (400, name)


# --- the end ----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_stop_token_ends_the_answer_and_is_no_text(api: Api, path: str, body: dict[str, Any]) -> None:
    plain = one(api, path, **body)
    stop = plain["token_ids"][5]
    first = plain["token_ids"].index(stop)
    ended = one(api, path, **body, stop_token_ids=[stop])
    assert (ended["finish_reason"], ended["stop_reason"]) == ("stop", stop)
    assert ended["token_ids"] == plain["token_ids"][: first + 1]
    assert ended["text"] == plain["text"][:first]
    shown = one(api, path, **body, stop_token_ids=[stop], include_stop_str_in_output=True)
    assert shown["text"] == plain["text"][: first + 1]


@BOTH
def test_a_stop_string_is_shown_only_when_asked_for(api: Api, path: str, body: dict[str, Any]) -> None:
    plain = one(api, path, **body)["text"]
    stop = plain[4:6]
    hidden, shown = (one(api, path, **body, stop=stop, include_stop_str_in_output=wanted) for wanted in (False, True))
    assert hidden["stop_reason"] == shown["stop_reason"] == stop
    assert shown["text"] == hidden["text"] + stop == plain[: plain.index(stop) + 2]


@BOTH
def test_no_stop_ends_an_answer_before_min_tokens(api: Api, path: str, body: dict[str, Any]) -> None:
    plain = one(api, path, **body)
    stop = plain["token_ids"][2]
    early = one(api, path, **body, stop_token_ids=[stop])
    late = one(api, path, **body, stop_token_ids=[stop], min_tokens=9)
    assert len(early["token_ids"]) <= 3
    assert len(late["token_ids"]) >= 9
    assert stop not in late["token_ids"][:9]
    assert len(one(api, path, **body, stop=plain["text"][2], min_tokens=9)["token_ids"]) >= 9


@BOTH
def test_ignore_eos_goes_on_after_the_end(api: Api, path: str, body: dict[str, Any]) -> None:
    (eos,) = ids_of(api, checkpoint.CLOSE)
    only_the_end = {**body, "logit_bias": {str(eos): 100}}
    ended = one(api, path, **only_the_end, ignore_eos=False)
    assert (ended["token_ids"], ended["finish_reason"], ended["stop_reason"]) == ([eos], "stop", None)
    assert one(api, path, **only_the_end)["token_ids"] == [eos] * 12


# --- the text ---------------------------------------------------------------------------------------------------------


@BOTH
def test_special_tokens_are_text_only_when_asked_for(api: Api, path: str, body: dict[str, Any]) -> None:
    (special,) = ids_of(api, checkpoint.OPEN)
    drawn = {**body, "logit_bias": {str(special): 100}, "max_tokens": 2}
    assert one(api, path, **drawn)["text"] == ""
    assert one(api, path, **drawn, skip_special_tokens=False)["text"] == 2 * checkpoint.OPEN


SPACING = """
from transformers import PreTrainedTokenizer


class Spacing(PreTrainedTokenizer):
    vocab_size = 128

    def __init__(self, **kwargs):
        super().__init__(eos_token="!", **kwargs)

    def get_vocab(self):
        return {chr(code): code for code in range(128)}

    def _tokenize(self, text):
        return list(text)

    def _convert_token_to_id(self, token):
        return ord(token)

    def _convert_id_to_token(self, index):
        return chr(index)

    def _decode(self, token_ids, skip_special_tokens=False, spaces_between_special_tokens=False, **kwargs):
        shown = [chr(code) for code in token_ids if not (skip_special_tokens and chr(code) == "!")]
        return (" " if spaces_between_special_tokens else "").join(shown)
"""


def test_spaces_between_special_tokens_are_the_tokenizers_where_it_knows_them(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SPACING)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    config = {"tokenizer_class": "Spacing", "auto_map": {"AutoTokenizer": ["own.Spacing", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with served(tokenizer=str(tmp_path), trust_remote_code=True) as engine:
        api = engine.api()
        body = {"prompt": "ab", "logit_bias": {"33": 100}, "max_tokens": 3, "skip_special_tokens": False}
        assert one(api, COMPLETIONS, **body)["text"] == " ! ! !"
        close = one(api, COMPLETIONS, **body, spaces_between_special_tokens=False)
        assert (close["text"], close["warnings"]) == ("!!!", None)
