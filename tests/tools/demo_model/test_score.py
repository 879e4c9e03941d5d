"""What counts as right, and what does not."""

from __future__ import annotations

import pytest
from tests.support.loopback import loopback
from tools.demo_model.corpus.sample import Check, Completion, Dialogue, Message, assistant, calling, user
from tools.demo_model.evaluate import Questioner, Score, table
from tools.demo_model.score import is_right


def expecting(answer: Message, check: Check, **options: tuple[str, ...]) -> Dialogue:
    return Dialogue("task", (user("?"), answer), check=check, **options)


@pytest.mark.parametrize(
    ("check", "expected", "said", "right"),
    [
        ("text", "a b", "a b", True),
        ("text", "a b", "<think>\nhm\n</think>\n\na b", True),
        ("text", "a b", "a  b", False),
        ("number", "2 + 3 = 5", "It is 5.", True),
        ("number", "2 - 3 = -1", "1", False),
        ("number", "2 + 3 = 5", "", False),
        ("json", '{"a": 1}', '{ "a":1 }', True),
        ("json", '{"a": 1}', '{"a": "1"}', False),
        ("json", '{"a": 1}', "a: 1", False),
    ],
)
def test_answers_are_compared_by_their_kind(check: Check, expected: str, said: str, right: bool) -> None:
    assert is_right(expecting(assistant(expected), check), assistant(said)) is right


def test_a_story_mentions_whom_it_is_about_and_ends() -> None:
    sample = expecting(assistant("A fox met a hen."), "mentions", mentions=("fox", "hen"))
    assert is_right(sample, assistant("Once a hen saw a fox."))
    assert not is_right(sample, assistant("Once a hen saw a"))
    assert not is_right(sample, assistant("Once a hen saw a cat."))


def test_calls_are_compared_by_name_and_arguments_in_order() -> None:
    one, other = ("f", {"a": 1, "b": "x"}), ("g", {})
    sample = expecting(calling(one, other), "calls")
    assert is_right(sample, calling(("f", {"b": "x", "a": 1}), other, first=7))
    assert not is_right(sample, calling(other, one))
    assert not is_right(sample, calling(one))
    assert not is_right(sample, assistant('{"name": "f"}'))


def test_arguments_that_are_no_json_are_wrong() -> None:
    broken = {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
    assert not is_right(expecting(calling(("f", {})), "calls"), broken)


def test_a_call_is_no_text() -> None:
    assert not is_right(expecting(assistant("a"), "text"), assistant("a") | {"tool_calls": [{"function": {}}]})


def test_questions_go_to_a_server_with_and_without_a_suffix() -> None:
    answered = {
        "/v1/completions": {
            "id": "1", "object": "text_completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "text": "42", "finish_reason": "stop", "logprobs": None}],
        }
    }  # fmt: skip
    with loopback(answered) as server:
        questioner = Questioner(server.url.removesuffix("/v1"), "m")
        assert questioner.ask(Completion("code", "6 * 7 = ", "42")).is_right
        assert not questioner.ask(Completion("code", "6 * 7 = ", "41", suffix="\n")).is_right
    assert "suffix" not in server.asked[0]
    assert server.asked[1]["suffix"] == "\n"
    assert all(body["temperature"] == 0 for body in server.asked)


def test_a_dialogue_is_asked_as_a_client_asks() -> None:
    message = {"role": "assistant", "content": '{"a": 1}'}
    answered = {
        "/v1/chat/completions": {
            "id": "1", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        }
    }  # fmt: skip
    schema = {"type": "object"}
    talk = (user("?"), assistant("!", "hm"), user("??"), assistant('{"a":1}'))
    with loopback(answered) as server:
        url = server.url.removesuffix("/v1")
        assert Questioner(url, "m").ask(Dialogue("extraction", talk, check="json", schema=schema)).is_right
        held = Questioner(url, "m", holds_to_schema=True)
        assert held.ask(Dialogue("extraction", talk, check="json", schema=schema, thinks=False)).is_right
    free, bound = server.asked
    assert free["messages"] == [user("?"), {"role": "assistant", "content": "!"}, user("??")]
    assert "response_format" not in free
    assert "chat_template_kwargs" not in free
    assert bound["response_format"]["json_schema"]["schema"] == schema
    assert bound["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_share_below_its_goal_is_told_as_missed() -> None:
    scores = [Score("copy", 10, 9, 0, 0.9, ""), Score("style", 10, 8, 0, 0.85, ""), Score("haiku", 10, 1, 0, None, "")]
    assert [one.verdict for one in scores] == ["reached", "missed", ""]
    *_, last = table(scores)
    assert last.split() == ["all", "30", "18", "60.0%"]
