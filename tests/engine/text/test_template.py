"""Requests become token ids and settled sampling parameters, or are refused with the field that is at fault."""

from __future__ import annotations

import pytest
from tests.support.tokenizer_kinds import byte_level_bpe, tokenizer_of, write_checkpoint

from quire_engine.config import Decisions
from quire_engine.errors import ConfigError, PromptTooLong, RequestError
from quire_engine.text.answers import Answers, reading_of
from quire_engine.text.formats.events import Content, Reasoning
from quire_engine.text.formats.reasoning import reasoning_format
from quire_engine.text.template import MOST_COUNTED, Renderer
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerateRequest,
    SamplingParams,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)

CONTEXT = 64
TEMPLATE = """{%- if tools %}{{ tools | tojson }}{% endif %}
{%- if documents %}{{ documents | tojson }}{% endif %}
{%- if reasoning_effort %}[{{ reasoning_effort }}]{% endif %}
{%- if colour %}({{ colour }}){% endif %}
{%- for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "default": None}}}


def decisions(**sampling_defaults: object) -> Decisions:
    return Decisions(
        model_path="",
        architecture="",
        dtype="float32",
        device="cpu",
        parameters=0,
        vocab_size=500,
        eos_token_ids=(0,),
        max_model_len=CONTEXT,
        max_num_seqs=1,
        max_num_batched_tokens=1,
        block_size=16,
        num_blocks=1,
        kv_cache_bytes=0,
        attention_backend="",
        enable_prefix_caching=True,
        scheduling_policy="fcfs",
        max_logprobs=20,
        sampling_defaults=sampling_defaults,
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("checkpoint")
    return Tokenizer.load(write_checkpoint(folder, byte_level_bpe(), eos_token="<|end|>", chat_template=TEMPLATE))


@pytest.fixture(scope="module")
def renderer(tokenizer) -> Renderer:
    return Renderer(tokenizer, decisions())


def chat(content: object = "hi", **fields: object) -> ChatCompletionRequest:
    return ChatCompletionRequest(**{"messages": [{"role": "user", "content": content}], **fields})


def prompt(renderer: Renderer, tokenizer: Tokenizer, **fields: object) -> str:
    """The text of a conversation's prompt; /tokenize has no limit on its length."""
    request = TokenizeChatRequest(**{"messages": [{"role": "user", "content": "hi"}], **fields})
    return tokenizer.decode(renderer.tokenize(request), skip_special_tokens=False)


def refusal(render, request) -> RequestError:
    with pytest.raises(RequestError) as error:
        render(request)
    return error.value


def test_a_conversation_becomes_the_ids_of_its_prompt(renderer, tokenizer):
    request = chat(request_id="me", model="m", cache_salt="s", priority=3, stream=True)
    generate = renderer.render_chat(request)
    assert tokenizer.decode(generate.token_ids, False) == "<|user|>hi<|end|><|assistant|>"
    told = (generate.request_id, generate.model, generate.cache_salt, generate.priority, generate.stream)
    assert told == ("me", "m", "s", 3, True)


def test_parts_are_text_for_a_template_of_strings(renderer, tokenizer):
    generate = renderer.render_chat(chat([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]))
    assert tokenizer.decode(generate.token_ids, False) == "<|user|>a\nb<|end|><|assistant|>"


def test_tools_reach_the_template_without_what_nobody_said(renderer, tokenizer):
    shown = '[{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "default": null}}}]'
    assert prompt(renderer, tokenizer, tools=[TOOL]).startswith(shown)
    assert prompt(renderer, tokenizer, tools=[]).startswith("<|user|>")


def test_documents_effort_and_further_variables_reach_the_template(renderer, tokenizer):
    request = chat(
        documents=[{"text": "d"}], reasoning_effort="low", chat_template_kwargs={"colour": "red"}, max_tokens=1
    )
    text = tokenizer.decode(renderer.render_chat(request).token_ids, False)
    assert text.startswith('[{"text": "d"}][low](red)<|user|>')


def test_variables_may_have_any_other_name(renderer, tokenizer):
    assert prompt(renderer, tokenizer, chat_template_kwargs={"self": 1, "context": 2, "colour": "red"})[:5] == "(red)"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "chat_template", "tokenize"])
def test_variables_cannot_take_the_place_of_fields(renderer, name):
    error = refusal(renderer.render_chat, chat(chat_template_kwargs={name: 1}))
    assert error.param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize("given", [{}, {"add_generation_prompt": False}])
def test_a_final_message_that_is_continued_begins_no_new_one(renderer, tokenizer, given):
    assert prompt(renderer, tokenizer, continue_final_message=True, **given) == "<|user|>hi"
    ids = renderer.render_chat(chat(continue_final_message=True, **given)).token_ids
    assert tokenizer.decode(ids, False) == "<|user|>hi"


def test_a_prompt_that_was_cut_is_read_as_it_was_before(tokenizer):
    answers = Answers(tokenizer, None, reasoning_format("think_tags"))
    reasoning = chat("<think>" + "so " * 8, continue_final_message=True, truncate_prompt_tokens=3, max_tokens=1)
    generate = Renderer(tokenizer, decisions(), answers=answers).render_chat(reasoning)
    assert "<think>" not in tokenizer.decode(generate.token_ids, skip_special_tokens=False)
    parser = reading_of(generate).parser()
    assert parser is not None
    assert [*parser.push("far</think>Yes"), *parser.finish()] == [Reasoning("far"), Content("Yes")]


def test_fields_that_the_template_does_not_read_are_named(tokenizer, renderer):
    everything = chat(
        documents=[{"text": "d"}],
        reasoning_effort="low",
        chat_template_kwargs={"colour": "red", "mood": "good"},
        tools=[TOOL],
        tool_choice="none",
        add_generation_prompt=False,
    )
    assert renderer.unread(everything) == ["chat_template_kwargs.mood"]
    plain = Renderer(tokenizer, decisions(), chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    assert plain.unread(everything) == [
        *("tools", "documents", "reasoning_effort", "add_generation_prompt"),
        *("chat_template_kwargs.colour", "chat_template_kwargs.mood"),
    ]
    assert plain.unread(chat()) == plain.unread(chat(continue_final_message=True)) == []
    assert renderer.unread(chat(chat_template="own", documents=[{"text": "d"}])) == []


def test_tools_that_may_not_be_called_are_shown_unless_the_server_hides_them(renderer, tokenizer):
    roomy = decisions().model_copy(update={"max_model_len": 512})
    for hides, choice, is_shown in ((False, "none", True), (True, "none", False), (True, "auto", True)):
        asking = Renderer(tokenizer, roomy, hides_idle_tools=hides)
        ids = asking.render_chat(chat(tools=[TOOL], tool_choice=choice)).token_ids
        assert ('"look"' in tokenizer.decode(ids, False)) == is_shown


def test_a_variable_cannot_contradict_the_field_of_its_name(renderer, tokenizer):
    effort = {"chat_template_kwargs": {"reasoning_effort": "high"}}
    assert refusal(renderer.render_chat, chat(reasoning_effort="low", **effort)).param.endswith(".reasoning_effort")
    assert prompt(renderer, tokenizer, **effort).startswith("[high]")


def test_templates_of_requests_are_refused_unless_trusted(renderer, tokenizer):
    own = chat(chat_template="<|user|>own")
    assert refusal(renderer.render_chat, own).param == "chat_template"
    trusting = Renderer(tokenizer, decisions(), trust_request_chat_template=True)
    assert tokenizer.decode(trusting.render_chat(own).token_ids, False) == "<|user|>own"
    assert refusal(trusting.render_chat, chat(chat_template="{% if %}")).param == "chat_template"


def test_the_servers_template_stands_before_the_checkpoints(tokenizer):
    renderer = Renderer(tokenizer, decisions(), chat_template="<|assistant|>server")
    assert tokenizer.decode(renderer.render_chat(chat()).token_ids, False) == "<|assistant|>server"
    with pytest.raises(ConfigError, match="--chat-template"):
        Renderer(tokenizer, decisions(), chat_template="{% if %}")


def test_a_model_without_a_template_has_no_conversations():
    bare = Renderer(tokenizer_of("byte-level"), decisions())
    error = refusal(bare.render_chat, chat())
    assert error.param == "messages"
    assert "/v1/completions" in str(error)


def test_special_tokens_are_added_to_texts_and_not_to_conversations():
    fallback = tokenizer_of("byte-fallback")
    renderer = Renderer(fallback, decisions(), chat_template="{{ messages[0].content }}")
    start = fallback.encode("")[0]
    assert renderer.render_chat(chat()).token_ids[0] != start
    assert renderer.render_chat(chat(add_special_tokens=True)).token_ids[0] == start
    assert renderer.render_completion(CompletionRequest(prompt="hi"))[0].token_ids[0] == start
    assert renderer.tokenize(TokenizeCompletionRequest(prompt="hi", add_special_tokens=False))[0] != start


@pytest.mark.parametrize(
    ("given", "expected"),
    [("ab", [[..., "ab"]]), (["a", "b"], [[..., "a"], [..., "b"]]), ([5, 6], [[5, 6]]), ([[5], [6, 7]], [[5], [6, 7]])],
)
def test_every_form_of_prompt_gives_one_request_per_prompt(renderer, tokenizer, given, expected):
    requests = renderer.render_completion(CompletionRequest(prompt=given, request_id="me"))
    wanted = [tokenizer.encode(one[1]) if one[0] is ... else one for one in expected]
    assert [request.token_ids for request in requests] == wanted
    assert len({request.request_id for request in requests}) == len(requests)
    assert requests[0].request_id == "me"


@pytest.mark.parametrize("field", ["prompt", "messages"])
def test_half_of_a_surrogate_pair_is_refused(renderer, field):
    if field == "prompt":
        error = refusal(renderer.render_completion, CompletionRequest.model_construct(prompt="a\ud83d"))
    else:
        broken = chat()
        broken.messages[0]["content"] = "a\ud83d"
        error = refusal(renderer.render_chat, broken)
    assert error.param == field
    assert "U+D83D" in str(error)


def lengths(renderer: Renderer, **fields: object) -> int | None:
    [generate] = renderer.render_completion(CompletionRequest(prompt=[7] * 10, **fields))
    return generate.sampling_params.max_tokens


def test_an_answer_is_as_long_as_asked_or_as_the_context_allows(renderer):
    assert lengths(renderer) == 16
    assert lengths(renderer, max_tokens=5) == 5
    assert lengths(renderer, max_tokens=None) == CONTEXT - 10
    assert lengths(renderer, max_tokens=CONTEXT - 10) == CONTEXT - 10
    generate = renderer.render_chat(chat())
    assert generate.sampling_params.max_tokens == CONTEXT - len(generate.token_ids)
    assert renderer.render_chat(chat(max_tokens=3)).sampling_params.max_tokens == 3
    assert renderer.render_chat(chat(max_tokens=3, max_completion_tokens=5)).sampling_params.max_tokens == 5


def test_the_checkpoints_own_limit_shortens_answers(tokenizer):
    short = Renderer(tokenizer, decisions(max_new_tokens=4))
    assert lengths(short) == 4
    assert lengths(short, max_tokens=3) == 3


def test_the_default_length_gives_way_and_an_asked_one_is_refused(renderer):
    [generate] = renderer.render_completion(CompletionRequest(prompt=[7] * (CONTEXT - 2)))
    assert generate.sampling_params.max_tokens == 2
    error = refusal(renderer.render_completion, CompletionRequest(prompt=[7] * 10, max_tokens=CONTEXT - 9))
    assert error.param == "max_tokens"
    assert str(CONTEXT - 10) in str(error)
    assert refusal(renderer.render_chat, chat(max_completion_tokens=CONTEXT)).param == "max_completion_tokens"


def test_a_prompt_that_leaves_no_room_is_too_long(renderer):
    for length in (CONTEXT, CONTEXT + 5):
        error = refusal(renderer.render_completion, CompletionRequest(prompt=[7] * length))
        assert isinstance(error, PromptTooLong)
        assert error.param == "prompt"
        assert str(length) in str(error)
    assert refusal(renderer.render_chat, chat("word " * 100)).param == "messages"


LONG = "".join(f"{number} words, and so on; " for number in range(5000))


def test_of_a_prompt_that_is_far_too_long_no_more_is_tokenized_than_shows_that(renderer):
    for render, request, field in (
        (renderer.render_completion, CompletionRequest(prompt=LONG), "prompt"),
        (renderer.render_completion, CompletionRequest(prompt=["a", LONG]), "prompt"),
        (renderer.render_chat, chat(LONG), "messages"),
    ):
        error = refusal(render, request)
        assert isinstance(error, PromptTooLong)
        assert error.param is not None
        assert error.param.startswith(field)
        assert f"more than {2 * CONTEXT} tokens" in str(error)


def test_a_prompt_of_many_characters_and_few_tokens_is_no_longer_than_that(tmp_path):
    backend, word = byte_level_bpe(), f"<|{'x' * 100}|>"
    backend.add_special_tokens([word])
    tokenizer = Tokenizer.load(write_checkpoint(tmp_path, backend, eos_token="<|end|>"))
    text = word * (CONTEXT - 1)
    [generate] = Renderer(tokenizer, decisions()).render_completion(CompletionRequest(prompt=text))
    assert generate.token_ids == tokenizer.encode(text)
    assert len(generate.token_ids) == CONTEXT - 1


@pytest.mark.parametrize("keep", [1, 20, -1])
def test_the_end_of_a_long_prompt_is_that_of_the_whole(renderer, tokenizer, keep):
    [generate] = renderer.render_completion(CompletionRequest(prompt=LONG, truncate_prompt_tokens=keep, max_tokens=4))
    length = CONTEXT - 4 if keep == -1 else keep
    assert generate.token_ids == tokenizer.encode(LONG)[-length:]
    ids = renderer.render_chat(chat(LONG, truncate_prompt_tokens=keep, max_tokens=4)).token_ids
    assert ids == renderer.tokenize(TokenizeChatRequest(messages=[{"role": "user", "content": LONG}]))[-length:]


def test_a_text_is_tokenized_for_its_own_sake_up_to_a_size(renderer):
    error = refusal(renderer.tokenize, TokenizeCompletionRequest(prompt="a" * (MOST_COUNTED + 1)))
    assert (error.param, str(MOST_COUNTED) in str(error)) == ("prompt", True)
    with_messages = TokenizeChatRequest(messages=[{"role": "user", "content": "a" * MOST_COUNTED}])
    assert refusal(renderer.tokenize, with_messages).param == "messages"


def test_an_echo_without_an_answer_draws_one_token_and_otherwise_none_is_refused(renderer):
    assert lengths(renderer, echo=True, max_tokens=0) == 1
    assert refusal(renderer.render_completion, CompletionRequest(prompt="a", max_tokens=0)).param == "max_tokens"


def kept(renderer: Renderer, keep: int, **fields: object) -> list[int]:
    numbers = list(range(3, 3 + CONTEXT + 10))
    request = CompletionRequest(prompt=numbers, truncate_prompt_tokens=keep, **fields)
    [generate] = renderer.render_completion(request)
    assert generate.sampling_params.truncate_prompt_tokens is None
    assert numbers[-len(generate.token_ids) :] == generate.token_ids
    return generate.token_ids


def test_a_prompt_can_be_cut_to_its_end(renderer):
    assert len(kept(renderer, 7)) == 7
    assert len(kept(renderer, -1)) == CONTEXT - 16
    assert len(kept(renderer, -1, max_tokens=None)) == CONTEXT - 1
    whole_context = CompletionRequest(prompt="ab", truncate_prompt_tokens=-1, max_tokens=CONTEXT)
    assert refusal(renderer.render_completion, whole_context).param == "max_tokens"
    [whole] = renderer.render_completion(CompletionRequest(prompt=[5, 6], truncate_prompt_tokens=7))
    assert whole.token_ids == [5, 6]


@pytest.mark.parametrize("keep", [0, CONTEXT + 1])
def test_a_prompt_cannot_be_cut_to_nothing_or_to_more_than_the_context(renderer, keep):
    request = CompletionRequest(prompt="ab", truncate_prompt_tokens=keep)
    assert refusal(renderer.render_completion, request).param == "truncate_prompt_tokens"


def test_what_a_request_leaves_open_the_checkpoint_settles(tokenizer):
    renderer = Renderer(tokenizer, decisions(temperature=0.25, top_k=7, max_new_tokens=9))
    params = renderer.render_chat(chat(top_k=3)).sampling_params
    assert (params.temperature, params.top_k, params.top_p, params.max_tokens) == (0.25, 3, 1.0, 9)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"stop": [""]}, "stop.0"),
        ({"min_tokens": 10, "max_tokens": 5}, "min_tokens"),
        ({"logits_processors": ["os.system"]}, "logits_processors"),
    ],
)
def test_values_out_of_bounds_name_their_field(renderer, fields, param):
    assert refusal(renderer.render_chat, chat(**fields)).param == param


def test_bad_words_are_ids_with_and_without_a_space_before(renderer, tokenizer):
    params = renderer.render_chat(chat(bad_words=["the", " dog", "𝄞"])).sampling_params
    forms = {tokenizer.decode(ids) for ids in params.bad_words_token_ids}
    assert {"the", " the", "dog", " dog", "𝄞"} <= forms
    assert len(set(params.bad_words_token_ids)) == len(params.bad_words_token_ids)
    assert params.bad_words == ("the", " dog", "𝄞")


def test_a_form_that_ends_in_another_form_is_not_listed(renderer, tokenizer):
    snowman = chat(bad_words=["☃", "the ☃"])  # in no vocabulary here, so a space before it is a token of its own
    bare, *others = renderer.render_chat(snowman).sampling_params.bad_words_token_ids
    assert tokenizer.decode(bare) == "☃"
    assert others == []


def test_very_many_bad_words_take_no_longer_each_than_few(renderer):
    words = [f"{number:x}" for number in range(4096)]
    assert renderer.render_chat(chat(bad_words=words)).sampling_params.bad_words_token_ids  # within the test's time


def test_a_prompt_of_ids_is_truncated_and_its_bad_words_become_ids(renderer, tokenizer):
    params = SamplingParams(truncate_prompt_tokens=2, bad_words=("the",))
    ready = renderer.render_tokens(GenerateRequest(token_ids=[1, 2, 3], sampling_params=params))
    assert ready.token_ids == [2, 3]
    assert ready.sampling_params.truncate_prompt_tokens is None
    assert {tokenizer.decode(ids) for ids in ready.sampling_params.bad_words_token_ids} == {"the", " the"}
    assert renderer.render_tokens(ready) == ready


# --- beam search


def test_a_search_has_the_length_and_the_ends_of_its_request(renderer: Renderer) -> None:
    fields = {"use_beam_search": True, "n": 3, "length_penalty": 0.5, "ignore_eos": True, "max_tokens": 7}
    requests = [
        *renderer.render_completion(CompletionRequest(prompt="a", **fields)),
        renderer.render_chat(chat(**fields)),
    ]
    for request in requests:
        search = request.beam_search
        assert search is not None
        assert (search.beam_width, search.max_tokens, search.length_penalty, search.ignore_eos) == (3, 7, 0.5, True)
        assert (request.sampling_params.n, request.sampling_params.max_tokens) == (3, 7)


def test_without_one_nothing_is_searched(renderer: Renderer) -> None:
    assert renderer.render_chat(chat()).beam_search is None


def test_an_echo_of_a_search_has_no_logprobs(renderer: Renderer) -> None:
    request = CompletionRequest(prompt="a", use_beam_search=True, echo=True, logprobs=1)
    assert refusal(renderer.render_completion, request).param == "echo"


def test_a_length_penalty_is_a_number(renderer: Renderer) -> None:
    request = CompletionRequest(prompt="a", use_beam_search=True, length_penalty=float("nan"))
    assert refusal(renderer.render_completion, request).param == "length_penalty"
