"""Answers held to a form: the same under every schedule, one by one or not, and always of the form."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from tests.support.guided import THINK, constrained, json_grammar, ready, save_model, text_of
from tests.support.schedules import AGAIN, SCHEDULES, STARVED, Answer, Schedule, finish, roomy_config

from quire_engine.constraint import Thinking
from quire_engine.engine import Engine
from quire_engine.guidance.form import Place
from quire_engine.sequence import Rendered, Submission
from quire_protocol import GenerateRequest, SamplingParams

PROMPTS = ([5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [5, 9, 11, 3, 7, 7, 2, 40, 13], [80], [3] * 17)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "tags", "age"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
CHOICES = {"anyOf": [{"const": "a rather long one"}, {"type": "number"}, {"type": "array", "items": {"type": "null"}}]}
SCHEMAS: tuple[dict[str, Any], ...] = (PERSON, TREE, CHOICES, {"type": "object"})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    own = Engine.load(roomy_config(model=save_model(tmp_path_factory.mktemp("constrained"))))
    yield own
    own.close()


def served(
    roomy: Engine, requests: list[tuple[list[int], SamplingParams, Rendered]], schedule: Schedule, **changes: Any
) -> list[Answer]:
    """The answers under a schedule, after it was seen that what should be scarce was."""
    decisions = roomy.decisions.model_copy(update={**schedule.scarce, **changes})
    own = Engine(roomy.runner, decisions, guides=roomy.guides)
    for turn in range(schedule.repeats):
        for handle, (prompt, params, added) in enumerate(requests, start=turn * len(requests)):
            own.add(Submission(handle, GenerateRequest(token_ids=prompt, sampling_params=params), rendered=added))
        answers = finish(own)
    assert own.stats().preemptions > 0 or schedule is not STARVED
    assert own.stats().prefix_cache_hits > 0 or schedule is not AGAIN
    return [answers[key] for key in sorted(answers)]


def requests_of(**params: Any) -> list[tuple[list[int], SamplingParams, Rendered]]:
    """One for each schema, and one that is held to nothing; with longest lengths that bite."""
    asked = [
        (prompt, SamplingParams(max_tokens=36 - 4 * row, **params), constrained(json_grammar(schema)))
        for row, (prompt, schema) in enumerate(zip(PROMPTS, SCHEMAS, strict=True))
    ]
    return [*asked, ([7, 8], SamplingParams(max_tokens=12, ignore_eos=True, **params), Rendered())]


def told(answers: list[Answer]) -> list[tuple[list[int], str | None]]:
    return [(own.tokens, own.finish_reason) for own in answers]


KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 1.3, "seed": 5, "top_p": 0.9, "repetition_penalty": 1.2},
    {"temperature": 0, "logprobs": 1},
)


@pytest.mark.parametrize("kind", KINDS, ids=["greedy", "drawn", "scored"])
@pytest.mark.parametrize("schedule", SCHEDULES[1:], ids=str)
def test_the_schedule_never_changes_the_answer(engine: Engine, schedule: Schedule, kind: dict[str, Any]) -> None:
    crowd = served(engine, requests_of(**kind), SCHEDULES[0])
    assert told(served(engine, requests_of(**kind), schedule)[-len(crowd) :]) == told(crowd)


@pytest.mark.parametrize("kind", KINDS, ids=["greedy", "drawn", "scored"])
def test_the_overlapped_loop_gives_the_same_answers(engine: Engine, kind: dict[str, Any]) -> None:
    plain, ahead = (
        served(engine, requests_of(**kind), SCHEDULES[0], async_scheduling=overlapped) for overlapped in (False, True)
    )
    assert told(ahead) == told(plain)


def test_tokens_that_must_come_are_the_same_ones_drawn_or_not(engine: Engine) -> None:
    at_once = served(engine, requests_of(temperature=1, seed=3), SCHEDULES[0])
    drawn = served(engine, requests_of(temperature=1, seed=3, logprobs=0), SCHEDULES[0])
    assert told(drawn) == told(at_once)
    assert [len(own.logprobs) for own in drawn] == [len(own.tokens) for own in drawn]


def least_of(schema: dict[str, Any]) -> int:
    """Tokens of the shortest answer that is found."""
    return len(Place(ready(json_grammar(schema)).result()).shortest_way_out(0) or ())


@pytest.mark.parametrize("spare", [0, 1, 4, 30])
@pytest.mark.parametrize("schema", SCHEMAS, ids=["person", "tree", "choices", "any-object"])
def test_whatever_the_weights_and_the_length_an_answer_is_whole_and_of_its_form(
    engine: Engine, schema: dict[str, Any], spare: int
) -> None:
    most = least_of(schema) + spare
    added = constrained(json_grammar(schema))
    requests = [
        ([5, 9, 11], SamplingParams(temperature=0.5 * seed, seed=seed, n=2, max_tokens=most), added)
        for seed in range(1, 5)
    ]
    for own in served(engine, requests, SCHEDULES[0]):
        jsonschema.validate(json.loads(text_of(own.tokens)), schema)
        assert len(own.tokens) <= most
        assert own.finish_reason == "stop" or schema is CHOICES  # a number may always go on


def test_a_form_that_does_not_fit_is_refused_with_what_it_needs(engine: Engine) -> None:
    least = least_of(PERSON)
    params = SamplingParams(max_tokens=least - 1)
    (own,) = served(engine, [([5, 9], params, constrained(json_grammar(PERSON)))], SCHEDULES[0])
    assert own.finish_reason == "error"
    assert f"at least {least}" in str(own.error)


def test_choices_of_one_request_are_held_to_its_form_each(engine: Engine) -> None:
    params = SamplingParams(n=4, seed=1, max_tokens=40)
    answers = served(engine, [([5, 9], params, constrained(json_grammar(PERSON)))], SCHEDULES[0])
    texts = [text_of(own.tokens) for own in answers]
    assert len(set(texts)) > 1
    for text in texts:
        jsonschema.validate(json.loads(text), PERSON)


def test_an_answer_that_was_broken_off_is_taken_up_in_its_form(engine: Engine) -> None:
    requests = requests_of(temperature=0, logprobs=0)[:1]
    (whole,) = served(engine, requests, SCHEDULES[0])
    prompt, params, added = requests[0]
    for kept in (1, 4, len(whole.tokens) - 1):
        own = Engine(engine.runner, engine.decisions, guides=engine.guides)
        request = GenerateRequest(token_ids=prompt, sampling_params=params)
        own.add(Submission(0, request, emitted_ids={0: tuple(whole.tokens[:kept])}, rendered=added))
        rest = finish(own)[0, 0]
        jsonschema.validate(json.loads(text_of(whole.tokens[:kept] + rest.tokens)), PERSON)
        assert kept + len(rest.tokens) <= 36


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("limit", [0, 1, 6])
def test_reasoning_ends_when_its_budget_is_used_up(engine: Engine, schedule: Schedule, limit: int) -> None:
    thinking = Thinking(limit=limit, begin=(), end=(1, 2), is_open=True)
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    answers = served(engine, [(list(prompt), params, Rendered(thinking=thinking)) for prompt in PROMPTS], schedule)
    for own in answers:
        assert own.tokens[limit : limit + 2] == [1, 2]
        assert len(own.tokens) == 12


def test_a_form_begins_where_the_reasoning_was_made_to_end(engine: Engine) -> None:
    grammar = f"start: /[^<]*/ <[{THINK}]> answer\nanswer: %json {json.dumps(PERSON)}"
    added = constrained(grammar, thinking=Thinking(limit=4, begin=(), end=(THINK,), is_open=True))
    (own,) = served(engine, [([5, 9], SamplingParams(temperature=0, max_tokens=60), added)], SCHEDULES[0])
    assert THINK in own.tokens[:5]
    jsonschema.validate(json.loads(text_of(own.tokens[own.tokens.index(THINK) + 1 :])), PERSON)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"allowed_token_ids": (50, 51)}, "response_format and allowed_token_ids"),
        ({"logit_bias": dict.fromkeys(range(416), -100.0), "max_tokens": 1}, ""),
    ],
)
def test_what_contradicts_the_form_is_an_error_of_that_answer_alone(
    engine: Engine, fields: dict[str, Any], named: str
) -> None:
    held = constrained('start: "yes" | "no"')
    requests = [
        ([5, 9], SamplingParams(temperature=0, **{"max_tokens": 5, **fields}), held),
        ([5, 9], SamplingParams(temperature=0, max_tokens=5), held),
    ]
    contradicted, other = served(engine, requests, SCHEDULES[0])
    assert text_of(other.tokens) in ("yes", "no")
    if named:
        assert contradicted.finish_reason == "error"
        assert named in str(contradicted.error)
    else:
        assert text_of(contradicted.tokens) in ("yes", "no")  # a bias makes nothing impossible


def test_a_grammar_that_is_none_is_an_error_of_that_answer_alone(engine: Engine) -> None:
    params = SamplingParams(temperature=0, max_tokens=5)
    broken, other = served(
        engine,
        [([5, 9], params, constrained("start: missing")), ([5, 9], params, constrained('start: "a"'))],
        SCHEDULES[0],
    )
    assert broken.finish_reason == "error"
    assert "missing" in str(broken.error)
    assert text_of(other.tokens) == "a"
