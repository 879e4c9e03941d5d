"""What an answer may be: the grammar of a whole answer and its parser, for requests and formats of all kinds."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from typing import Any

import jsonschema
import pytest
from tests.engine.text.formats.chunking import calls_of, read
from tests.engine.text.formats.constrained import OFFERED, random_answer
from tests.support.grammars import takes, vocabulary
from tests.support.tokenizer_kinds import tokenizer_of

from quire_engine.errors import GrammarError, RequestError
from quire_engine.text.answers import Answers
from quire_engine.text.formats.base import Parser, ReasoningFormat, ToolFormat
from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, CallEnded, Content, Reasoning, joined
from quire_engine.text.formats.reasoning import REASONING_FORMATS, reasoning_format
from quire_engine.text.formats.tools import TOOL_FORMATS, tool_format
from quire_protocol import ChatCompletionRequest, CompletionRequest

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city"],
    "additionalProperties": False,
}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
AS_PERSON = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


def tool(name: str, parameters: dict[str, Any] | None = WEATHER, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


def chat(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": "Hi"}], **fields})


def answers(tools: str | None = "hermes", reasoning: str | None = None, **options: Any) -> Answers:
    calls: ToolFormat | None = tool_format(tools) if tools else None
    thinks: ReasoningFormat | None = reasoning_format(reasoning) if reasoning else None
    return Answers(vocabulary().tokenizer, calls, thinks, **options)


def grammar(request: ChatCompletionRequest | CompletionRequest, made: Answers, prompt: str = "") -> str:
    constraint = made.rendered(request, prompt).constraint
    assert constraint is not None
    return constraint.grammar


def parser_of(made: Answers, request: ChatCompletionRequest | CompletionRequest, prompt: str = "") -> Parser | None:
    _, reading = made.planned(request, prompt)
    return reading.parser()


def call(name: str, arguments: object) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def test_an_answer_that_may_be_anything_has_no_grammar():
    assert answers().rendered(chat()).constraint is None
    assert answers().rendered(chat(response_format={"type": "text"})).constraint is None
    assert answers(strictness=False).rendered(chat(tools=[tool("weather")])).constraint is None
    assert answers().rendered(chat(tools=[tool("weather")], tool_choice="none")).constraint is None


def test_a_schema_holds_for_the_whole_answer():
    made = grammar(chat(response_format=AS_PERSON), answers())
    assert takes(made, '{"name": "Ada"}')
    assert not takes(made, 'Here you are: {"name": "Ada"}')
    assert not takes(made, "{}")


def test_completions_have_forms_too():
    request = CompletionRequest(prompt="x", structured_outputs={"choice": ["yes", "no"]})
    constraint = answers().rendered(request).constraint
    assert constraint is not None
    assert constraint.param == "structured_outputs"
    assert takes(constraint.grammar, "no")
    assert not takes(constraint.grammar, "maybe")


def test_the_form_begins_behind_the_reasoning():
    made = grammar(chat(response_format=AS_PERSON), answers(reasoning="think_tags"))
    assert takes(made, '<think>\nHm, {"x"}.\n</think>\n\n{"name": "Ada"}')
    assert takes(made, '{"name": "Ada"}')
    assert not takes(made, '<think>\nHm.\n</think>\n\n{"x": "Ada"}')


TAGS = {"structures": [{"begin": "<f>", "schema": {"type": "integer"}, "end": "</f>"}], "triggers": ["<f"]}


@pytest.mark.parametrize("reasoning", ["think_tags", "granite", "mistral", "seed_oss"])
@pytest.mark.parametrize(
    ("asked", "valid", "invalid"),
    [
        ({"grammar": 'start: N ("+" N)*\nN: /[0-9]+/\n%ignore / {1,2}/'}, "1 + 2", "1 +"),
        ({"regex": "[a-z]+ing"}, "sing", "sin"),
        ({"choice": ["yes", "no"]}, "no", "n"),
        ({"structural_tag": json.dumps(TAGS)}, "x <f>3</f> y", "x <f>y</f>"),
    ],
    ids=["grammar", "regex", "choice", "structural tag"],
)
def test_every_form_may_follow_reasoning(reasoning, asked, valid, invalid):
    made = grammar(chat(structured_outputs=asked), answers(None, reasoning))
    marks = reasoning_format(reasoning)
    before = f"{marks.begin}Hm, 1 + x{marks.end}"
    assert takes(made, valid)
    assert takes(made, before + valid)
    assert not takes(made, invalid)
    assert not takes(made, before + invalid)


def test_reasoning_that_the_prompt_began_has_to_end():
    made = grammar(chat(response_format=AS_PERSON), answers(reasoning="think_tags"), "…<think>\n")
    assert takes(made, 'Hm.</think>{"name": "Ada"}')
    assert not takes(made, '{"name": "Ada"}')


def test_a_required_call_is_all_of_the_answer():
    made = grammar(chat(tools=[tool("weather"), tool("tide")], tool_choice="required"), answers())
    assert takes(made, call("tide", {"city": "Kiel", "days": 3}))
    assert takes(made, call("tide", {"city": "Kiel"}) + "\n" + call("weather", {"city": "Kiel"}))
    assert not takes(made, call("tide", {"city": "Kiel", "days": 9}))
    assert not takes(made, call("other", {"city": "Kiel"}))
    assert not takes(made, "Hello")


def test_a_required_call_goes_before_a_form():
    unknown = {"type": "json_schema", "json_schema": {"name": "odd", "schema": {"not": {}}}}
    constraint = (
        answers().rendered(chat(tools=[tool("tide")], tool_choice="required", response_format=unknown)).constraint
    )
    assert constraint is not None
    assert constraint.param == "tools"
    assert takes(constraint.grammar, call("tide", {"city": "Kiel"}))


def test_a_named_call_is_that_one_and_no_second():
    choice = {"type": "function", "function": {"name": "tide"}}
    made = grammar(chat(tools=[tool("weather"), tool("tide")], tool_choice=choice), answers())
    assert takes(made, call("tide", {"city": "Kiel"}))
    assert not takes(made, call("weather", {"city": "Kiel"}))
    assert not takes(made, call("tide", {"city": "Kiel"}) + "\n" + call("tide", {"city": "Kiel"}))


def test_without_parallel_calls_there_is_one():
    request = chat(tools=[tool("tide")], tool_choice="required", parallel_tool_calls=False)
    assert not takes(
        grammar(request, answers()), call("tide", {"city": "Kiel"}) + "\n" + call("tide", {"city": "Kiel"})
    )


def test_a_call_that_begins_follows_its_schema():
    made = grammar(chat(tools=[tool("tide")]), answers())
    good = call("tide", {"city": "Kiel"})
    assert takes(made, "Hello <b>there</b>")
    assert takes(made, f"I shall look. {good}")
    assert takes(made, f"{good}\n{good}")
    assert not takes(made, f"I shall look. {call('tide', {'town': 'Kiel'})}")
    assert not takes(made, "I shall look. <tool_call>")


def test_a_tool_without_parameters_takes_none():
    made = grammar(chat(tools=[tool("now", None)], tool_choice="required"), answers())
    assert takes(made, call("now", {}))
    assert not takes(made, call("now", {"zone": "CET"}))


def test_a_form_and_tools_make_an_answer_of_either():
    made = grammar(chat(tools=[tool("tide")], response_format=AS_PERSON), answers())
    assert takes(made, '{"name": "Ada"}')
    assert takes(made, call("tide", {"city": "Kiel"}))
    assert not takes(made, "Hello")


def test_a_mark_of_calls_in_a_form_is_text():
    request = chat(tools=[tool("tide")], response_format=AS_PERSON)
    form = '{"name": "who writes <tool_call>"}'
    parser = parser_of(answers(), request)
    assert parser is not None
    assert read(parser, [form]) == [Content(form)]


def test_calls_without_an_opening_are_told_from_text_by_how_they_begin():
    made = grammar(chat(tools=[tool("tide")]), answers("llama3_json"))
    assert takes(made, "Hello, { }")
    assert takes(made, '{"name": "tide", "parameters": {"city": "Kiel"}}')
    assert not takes(made, '{"name": "tide", "parameters": {"town": "Kiel"}}')
    assert not takes(made, '\n {"a": 1}')


@pytest.mark.parametrize("calls", TOOL_FORMATS, ids=lambda each: each.name)
def test_calls_among_free_text_follow_their_schemas_however_they_begin(calls):
    request = chat(tools=[{"type": "function", "function": asdict(each)} for each in OFFERED])
    made = Answers(vocabulary().tokenizer, calls, reasoning_format("harmony") if calls.name == "harmony" else None)
    free = grammar(request, made)
    schemas = {each.name: each.parameters for each in OFFERED}
    found = []
    for seed in range(20):
        text = random_answer(free, random.Random(seed), calls.marks, ends=0.03)
        parser = parser_of(made, request)
        assert parser is not None
        events = read(parser, [text])
        assert not any(isinstance(event, CallBroken) for event in events), f"{text!r} gives {events}"
        found += calls_of(events)
    for name, arguments in found:
        jsonschema.validate(arguments, schemas[name])
    assert found or calls.opening() is None  # by chance alone, hardly any answer begins as these calls do


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("reasoning", [None, *REASONING_FORMATS], ids=lambda each: getattr(each, "name", "none"))
@pytest.mark.parametrize("calls", TOOL_FORMATS, ids=lambda each: each.name)
def test_every_format_makes_a_grammar_with_every_other(calls, reasoning, choice):
    made = Answers(vocabulary().tokenizer, calls, reasoning)
    assert made.rendered(chat(tools=[tool("tide"), tool("now", None)], tool_choice=choice)).constraint is not None


def test_a_schema_that_cannot_be_enforced_is_refused_where_calls_have_to_follow_it():
    odd = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    for fields in ({"tool_choice": "required"}, {"tools": [tool("odd", odd, strict=True)]}):
        with pytest.raises(GrammarError, match="/properties/a/uniqueItems") as refused:
            answers().rendered(chat(**{"tools": [tool("odd", odd)], **fields}))
        assert refused.value.param == "tools.0.function.parameters"


@pytest.mark.parametrize(
    "odd", [{"not": {"type": "string"}}, {"oneOf": [{"type": "integer"}, {"type": "number"}]}], ids=["early", "late"]
)
def test_a_schema_that_cannot_be_enforced_leaves_a_free_call_with_any_arguments(odd):
    made = grammar(chat(tools=[tool("odd", {"type": "object", "properties": {"a": odd}})]), answers())
    assert takes(made, call("odd", {"a": 1}))
    assert not takes(made, call("odd", "text"))


@pytest.mark.parametrize("name", ["glm47", "minimax", "pythonic", "qwen3_xml"])
def test_what_a_format_cannot_hold_leaves_a_free_call_and_is_refused_where_it_has_to_follow(name):
    either = {"type": "object", "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    made = answers(name)
    assert made.rendered(chat(tools=[tool("f", either)])).constraint is not None
    with pytest.raises(GrammarError, match="/anyOf, in the parameters of f"):
        made.rendered(chat(tools=[tool("f", either)], tool_choice="required"))


def test_arguments_are_an_object():
    with pytest.raises(GrammarError, match="of an object") as refused:
        answers().rendered(chat(tools=[tool("odd", {"type": "string"})], tool_choice="required"))
    assert refused.value.param == "tools.0.function.parameters"


def test_calls_that_nobody_could_read_are_refused():
    with pytest.raises(RequestError, match="--tool-call-parser"):
        answers(None).rendered(chat(tools=[tool("tide")], tool_choice="required"))
    assert answers(None).rendered(chat(tools=[tool("tide")])).constraint is None


def test_calls_that_are_insisted_on_have_a_generic_form_where_the_model_has_none_of_its_own():
    made = answers(None, generic=tool_format("json_calls"))
    required = chat(tools=[tool("tide")], tool_choice="required")
    assert takes(grammar(required, made), '[{"name": "tide", "arguments": {"city": "Kiel"}}]')
    parser = parser_of(made, required)
    assert parser is not None
    events = joined([*parser.push('[{"name": "tide", "arguments": {"city": "Kiel"}}]'), *parser.finish()])
    assert events == [CallBegan(0, "tide"), CallArguments(0, '{"city": "Kiel"}'), CallEnded(0)]
    assert made.rendered(chat(tools=[tool("tide")])).constraint is None
    assert parser_of(made, chat(tools=[tool("tide")])) is None


def test_a_thinking_budget_of_the_request_goes_before_the_servers():
    made = answers(reasoning="think_tags", thinking_budget=100)
    end = tuple(vocabulary().tokens("</think>"))
    thinking = made.rendered(chat(), "<think>\n").thinking
    assert thinking is not None
    assert (thinking.limit, thinking.end, thinking.is_open) == (100, end, True)
    assert made.rendered(chat(thinking_token_budget=5)).thinking.limit == 5
    assert made.rendered(chat(thinking_token_budget=-1)).thinking is None
    assert answers(reasoning="think_tags").rendered(chat()).thinking is None


def test_beam_searches_have_a_thinking_budget_only_where_they_ask_for_one():
    made = answers(reasoning="think_tags", thinking_budget=100)
    assert made.rendered(chat(use_beam_search=True)).thinking is None
    assert made.rendered(chat(use_beam_search=True, thinking_token_budget=5)).thinking.limit == 5


def test_a_thinking_budget_needs_a_format_of_reasoning():
    with pytest.raises(RequestError, match="--reasoning-parser"):
        answers().rendered(chat(thinking_token_budget=5))


def of_words(**options: Any) -> Answers:
    """Answers of a model whose tokens add to a text what depends on those beside them."""
    return Answers(tokenizer_of("word-piece"), tool_format("hermes"), None, **options)


def test_calls_that_only_the_server_holds_to_schemas_are_free_where_no_grammar_can_be_followed():
    request = chat(tools=[tool("tide")])
    assert of_words().rendered(request).constraint is None
    events = read(parser_of(of_words(), request), [call("tide", {"city": "Kiel"})])
    assert [name for name, _ in calls_of(events)] == ["tide"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"response_format": AS_PERSON}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"tools": [tool("tide")], "tool_choice": "required"}, "tools"),
        ({"tools": [tool("tide", strict=True)]}, "tools"),
    ],
)
def test_what_is_asked_for_and_cannot_be_followed_is_refused_before_the_engine_sees_it(asked, param):
    with pytest.raises(RequestError, match="depends on the tokens beside it") as refused:
        of_words().rendered(chat(**asked))
    assert refused.value.param == param


@pytest.mark.parametrize(
    "parameters",
    [
        {**WEATHER, "type": ["object", "null"]},
        {"anyOf": [WEATHER, {"type": "string"}]},
        {"$ref": "#/$defs/any", "$defs": {"any": {"anyOf": [WEATHER, {"type": "array"}]}}},
    ],
)
def test_arguments_are_an_object_whatever_else_their_schema_allows(parameters):
    made = grammar(chat(tools=[tool("tide", parameters)], tool_choice="required"), answers())
    assert takes(made, call("tide", {"city": "Kiel"}))
    for other in ("Kiel", [], None):
        assert not takes(made, call("tide", other))


@pytest.mark.parametrize("reasoning", ["think_tags", "mistral"])
@pytest.mark.parametrize("thought", ["", "Hm."])
@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"regex": "\\n- .*"}, "\n- a"),
        ({"choice": ["\n", "x"]}, "\n"),
        ({"grammar": 'start: "\\n\\n" "a"'}, "\n\na"),
    ],
)
def test_newlines_that_a_form_begins_with_are_told(reasoning, thought, form, text):
    made, request = answers(reasoning=reasoning), chat(structured_outputs=form)
    marks = reasoning_format(reasoning)
    whole = f"{marks.begin}{thought}{marks.end}{text}" if thought else text
    assert takes(grammar(request, made), whole)
    told = read(parser_of(made, request), [whole])
    assert told == [*([Reasoning(thought)] if thought else []), Content(text)]


def test_newlines_behind_reasoning_are_no_part_of_a_form_that_cannot_begin_with_one():
    made, request = answers(reasoning="think_tags"), chat(response_format=AS_PERSON)
    whole = '<think>\nHm.\n</think>\n\n{"name": "Ada"}'
    assert takes(grammar(request, made), whole)
    assert read(parser_of(made, request), [whole]) == [Reasoning("Hm."), Content('{"name": "Ada"}')]


def test_marks_of_harmony_within_a_form_are_text():
    made = answers("harmony", "harmony")
    request = chat(response_format=AS_PERSON)
    text = '{"name": "<|end|> and <|start|>assistant<|channel|>final"}'
    whole = f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{text}"
    assert takes(grammar(request, made), f"<|channel|>final<|message|>{text}", as_pieces=True)
    assert read(parser_of(made, request), [whole]) == [Reasoning("Hm."), Content(text)]


def test_a_thinking_budget_needs_marks_that_are_the_same_tokens_everywhere():
    made = Answers(tokenizer_of("unigram"), None, reasoning_format("granite"), thinking_budget=100)
    assert made.rendered(chat()).thinking is None
    with pytest.raises(RequestError, match="'Here is my response:' ends is not seen") as refused:
        made.rendered(chat(thinking_token_budget=5))
    assert refused.value.param == "thinking_token_budget"


def test_what_models_may_leave_out_of_a_mark_is_no_part_of_it_for_a_budget():
    thinking = answers(reasoning="gemma4", thinking_budget=9).rendered(chat()).thinking
    assert thinking is not None
    assert thinking.begin == tuple(vocabulary().tokens("<|channel>"))


def test_special_tokens_that_are_marks_are_shown_to_the_parser():
    mark = vocabulary().tokens("[TOOL_CALLS]")
    assert answers("mistral").rendered(chat(tools=[tool("tide")])).shown_ids == frozenset(mark)
    assert answers("mistral").rendered(chat()).shown_ids == frozenset()


def test_closing_can_be_switched_off():
    request = chat(response_format=AS_PERSON)
    assert answers().rendered(request).constraint.closes
    assert not answers(closing=False).rendered(request).constraint.closes


def test_the_parser_reads_reasoning_and_then_calls():
    request = chat(tools=[tool("tide")])
    parser = parser_of(answers(reasoning="think_tags"), request, "")
    text = f"<think>Hm.</think>Right. {call('tide', {'city': 'Kiel'})}"
    events = joined([*parser.push(text), *parser.finish()])
    assert Reasoning("Hm.") in events
    assert Content("Right. ") in events or Content("Right.") in events
    assert events[-3:] == [CallBegan(0, "tide"), CallArguments(0, '{"city": "Kiel"}'), CallEnded(0)]


def test_calls_of_an_answer_that_is_to_have_none_are_text_without_marks():
    parser = parser_of(answers("harmony", "harmony"), chat(tools=[tool("tide")], tool_choice="none"))
    assert parser is not None
    text = "<|channel|>commentary to=functions.tide <|constrain|>json<|message|>{}<|call|>"
    assert read(parser, [text]) == [Content("{}")]


def test_where_there_is_nothing_to_tell_apart_there_is_no_parser():
    assert parser_of(answers(), chat()) is None
    assert parser_of(answers(), chat(tools=[tool("tide")], tool_choice="none")) is None
    assert parser_of(answers(reasoning="think_tags"), CompletionRequest(prompt="x")) is None


BEGUN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Here is the list:"}]


@pytest.mark.parametrize("text", ["\n\n1. foo", "<think> is a mark", "</think>"])
def test_an_answer_that_goes_on_with_the_last_message_is_text_from_its_first_character_on(text):
    made = answers(reasoning="think_tags")
    prompt = "<|im_start|>assistant\nHere is the list:"
    goes_on = chat(messages=BEGUN, continue_final_message=True, add_generation_prompt=False)
    assert parser_of(made, goes_on, prompt) is None
    with_tools = goes_on.model_copy(update={"tools": chat(tools=[tool("tide")]).tools, "tool_choice": "auto"})
    parser = parser_of(made, with_tools, prompt)
    assert parser is not None
    assert read(parser, [text]) == [Content(text)]


def test_a_form_that_goes_on_with_the_last_message_has_no_reasoning_before_it():
    asked = {"structured_outputs": {"regex": "[0-9]+"}, "thinking_token_budget": 5}
    goes_on = chat(messages=BEGUN, continue_final_message=True, add_generation_prompt=False, **asked)
    made = grammar(goes_on, answers(reasoning="think_tags"), "<|im_start|>assistant\nHere is the list:")
    assert takes(made, "12")
    assert not takes(made, "<think>Hm.</think>12")


@pytest.mark.parametrize(("begun", "prompt"), [("<think>So", "<|im_start|>assistant\n<think>So"), ("", "assistant\n")])
def test_a_last_message_without_an_answer_in_it_goes_on_with_its_reasoning(begun, prompt):
    messages = [*BEGUN[:1], {"role": "assistant", "content": begun}]
    goes_on = chat(messages=messages, continue_final_message=True, add_generation_prompt=False)
    parser = parser_of(answers(reasoning="think_tags"), goes_on, prompt)
    assert parser is not None
    assert read(parser, ["<think>", " it is.</think>Yes"])[-1] == Content("Yes")


def test_the_parsers_of_an_answer_are_made_without_looking_at_the_tools_again():
    request = chat(tools=[tool("tide")], response_format=AS_PERSON)
    _, reading = answers(reasoning="think_tags").planned(request)
    request.tools.clear()  # what was planned stays
    parser = reading.parser()
    assert parser is not None
    assert parser is not reading.parser()
    assert read(parser, [call("tide", {"city": "Kiel"})])[0] == CallBegan(0, "tide")


def test_arguments_as_text_are_read_by_their_types_also_where_the_schema_cannot_be_enforced():
    odd = {"type": "object", "properties": {"a": {"type": "integer"}}, "anyOf": [{"required": ["a"]}]}
    parser = parser_of(answers("qwen3_xml"), chat(tools=[tool("f", odd)]))
    assert parser is not None
    text = "<tool_call>\n<function=f>\n<parameter=a>\n3\n</parameter>\n</function>\n</tool_call>"
    assert calls_of(read(parser, [text])) == [("f", {"a": 3})]
