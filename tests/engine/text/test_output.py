"""One request's text state: deliveries put together are the answer, however the engine groups its tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.tokenizer_kinds import tokenizer_of

from quire_engine.sequence import Emission, Rendered, RenderedRequest, TokenLogprobs
from quire_engine.text.output import Output, OutputProcessor
from quire_protocol import GenerateRequest, SamplingParams

TOKENIZER = tokenizer_of("byte-level")
PROMPT = TOKENIZER.encode("def main(argv):")
END = TOKENIZER.eos_token_id


def processor(**params: object) -> OutputProcessor:
    return OutputProcessor(GenerateRequest(token_ids=PROMPT, sampling_params=SamplingParams(**params)), TOKENIZER)


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text))


def logprobs(token_ids: tuple[int, ...]) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(token_id, -1.0, 1) for token_id in token_ids)


def deliveries(processor: OutputProcessor, groups: list[tuple[int, ...]], reason: str = "length") -> list[Output]:
    """What comes of an answer in these groups of tokens, until it has finished."""
    outputs = []
    for place, group in enumerate(groups):
        finish_reason = reason if place == len(groups) - 1 else None
        output = processor.process(Emission(1, 0, group, logprobs(group), finish_reason=finish_reason))
        if output is not None:
            outputs.append(output)
    return outputs


def whole(outputs: list[Output]) -> tuple[str, tuple[int, ...], str | None, int | str | None]:
    text = "".join(output.text for output in outputs)
    token_ids = sum((output.token_ids for output in outputs), ())
    assert [output.finish_reason for output in outputs[:-1]] == [None] * (len(outputs) - 1)
    return text, token_ids, outputs[-1].finish_reason, outputs[-1].stop_reason


@given(data=st.data())
def test_any_grouping_of_the_tokens_gives_the_same_answer(data):
    text = data.draw(st.text(alphabet="ab \n日𝄞", min_size=1, max_size=20))
    params = {
        "stop": data.draw(st.lists(st.text(alphabet="ab \n日", min_size=1, max_size=3), max_size=3)),
        "min_tokens": data.draw(st.integers(0, 5)),
        "include_stop_str_in_output": data.draw(st.booleans()),
        "skip_special_tokens": data.draw(st.booleans()),
    }
    reason = data.draw(st.sampled_from(["length", "stop"]))
    tokens = (*ids(text), END)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens) - 1))) if len(tokens) > 1 else ())
    groups = [tokens[start:end] for start, end in zip([0, *cuts], [*cuts, len(tokens)], strict=True)]
    one_by_one = deliveries(processor(**params), [(token,) for token in tokens], reason)
    assert whole(deliveries(processor(**params), groups, reason)) == whole(one_by_one)
    assert whole(deliveries(processor(**params), [tokens], reason)) == whole(one_by_one)


def test_a_stop_string_ends_the_answer_and_the_tokens_with_it():
    tokens = ids("x = 1\n\ny = 2")
    [output] = deliveries(processor(stop="\n\n"), [tokens])
    assert (output.text, output.finish_reason, output.stop_reason) == ("x = 1", "stop", "\n\n")
    assert TOKENIZER.decode(output.token_ids) == "x = 1\n\n"
    assert len(output.logprobs) == len(output.token_ids)


def test_emissions_after_a_stop_string_are_dropped():
    text = processor(stop="b")
    first = text.process(Emission(1, 0, ids("ab")))
    assert first is not None
    assert first.finish_reason == "stop"
    assert text.process(Emission(1, 0, ids("c"))) is None
    assert text.process(Emission(1, 0, (), finish_reason="abort")) is None


def test_a_stop_string_counts_only_after_min_tokens():
    first, second = ids("b"), ids("b")
    outputs = deliveries(processor(stop="b", min_tokens=1), [first, second, ids("c")])
    assert whole(outputs) == ("b", first + second, "stop", "b")


def test_the_stop_tokens_text_is_dropped_unless_asked_for():
    tokens = (*ids("done"), *ids("!"))
    emission = Emission(1, 0, tokens, finish_reason="stop", stop_reason=tokens[-1])
    hidden, shown = processor().process(emission), processor(include_stop_str_in_output=True).process(emission)
    assert hidden is not None
    assert shown is not None
    assert (hidden.text, hidden.token_ids, hidden.stop_reason) == ("done", tokens, tokens[-1])
    assert (shown.text, shown.token_ids) == ("done!", tokens)


def test_an_end_token_is_not_text_even_where_special_tokens_are():
    output = processor(skip_special_tokens=False).process(Emission(1, 0, (*ids("bye"), END), finish_reason="stop"))
    assert output is not None
    assert (output.text, output.stop_reason) == ("bye", None)


def test_what_may_become_a_stop_string_is_given_when_the_answer_ends_otherwise():
    outputs = deliveries(processor(stop="\n\nUser:"), [ids("bye\n\n"), (END,)], "stop")
    assert [output.text for output in outputs] == ["bye", "\n\n"]


def test_an_answer_cut_inside_a_character_ends_before_it():
    outputs = deliveries(processor(), [ids("a𝄞")[:2], ids("a𝄞")[2:3]])
    assert [output.text for output in outputs] == ["a", ""]
    assert sum((output.token_ids for output in outputs), ()) == tuple(ids("a𝄞")[:3])


def test_every_choice_has_its_own_text():
    text = processor(n=2)
    first, second = ids("𝄞")[:2], ids("𝄞")[2:]
    for index in (0, 1):
        output = text.process(Emission(1, index, first))
        assert output is not None
        assert (output.index, output.text) == (index, "")
    for index in (1, 0):
        output = text.process(Emission(1, index, second))
        assert output is not None
        assert (output.index, output.text) == (index, "𝄞")


def test_prompt_logprobs_come_whole_with_the_first_delivery_of_the_first_choice():
    text = processor(prompt_logprobs=1, n=2)
    chunks = logprobs((5, 6)), logprobs((7,))
    assert text.process(Emission(1, 0, (), prompt_logprobs=chunks[0])) is None
    other = text.process(Emission(1, 1, ids("a")))
    assert other is not None
    assert other.prompt_logprobs is None
    first = text.process(Emission(1, 0, ids("a"), prompt_logprobs=chunks[1]))
    assert first is not None
    assert first.prompt_logprobs == (None, *chunks[0], *chunks[1])
    second = text.process(Emission(1, 0, ids("b")))
    assert second is not None
    assert second.prompt_logprobs is None


def test_errors_and_cached_tokens_pass_through():
    output = processor().process(Emission(1, 0, (), finish_reason="error", cached_tokens=16, error="logits are NaN"))
    assert output is not None
    assert (output.finish_reason, output.error, output.cached_tokens, output.text) == (
        "error",
        "logits are NaN",
        16,
        "",
    )


def test_without_a_tokenizer_or_detokenization_there_are_ids_and_no_text():
    request = GenerateRequest(token_ids=PROMPT, sampling_params=SamplingParams(stop="a"))
    quiet = GenerateRequest(token_ids=PROMPT, sampling_params=SamplingParams(detokenize=False))
    for text in (OutputProcessor(request, None), OutputProcessor(quiet, TOKENIZER)):
        [output] = deliveries(text, [ids("abc")])
        assert (output.text, output.token_ids, output.finish_reason) == ("", ids("abc"), "length")


@given(data=st.data())
def test_pieces_are_what_each_token_releases_however_they_are_delivered(data):
    tokens = (*ids(data.draw(st.text(alphabet="ab \n日𝄞", min_size=1, max_size=20))), END)
    params = {"stop": data.draw(st.lists(st.text(alphabet="ab \n日", min_size=2, max_size=3), max_size=2))}
    reason = data.draw(st.sampled_from(["length", "stop"]))
    alone = deliveries(processor(**params), [(token,) for token in tokens], reason)
    together = deliveries(processor(**params), [tokens], reason)
    expected = [piece for output in alone for piece in output.pieces]
    assert [piece for output in together for piece in output.pieces] == expected
    cut = data.draw(st.integers(0, len(alone) - 1))
    parts = [Output.joined(part) for part in (alone[:cut], alone[cut:]) if part]
    assert [piece for output in parts for piece in output.pieces] == expected
    assert whole(parts) == whole(together)


def test_special_tokens_that_somebody_reads_stay_in_the_text():
    request = GenerateRequest(token_ids=PROMPT, sampling_params=SamplingParams())
    tokens = [(*ids("a"), END, *ids("b"))]
    [plain] = deliveries(OutputProcessor(request, TOKENIZER), tokens)
    assert plain.text == "ab"
    read = RenderedRequest.of(request, Rendered(shown_ids=frozenset({END})))
    [output] = deliveries(OutputProcessor(read, TOKENIZER), tokens)
    assert output.text == f"a{TOKENIZER.token_text(END)}b"


def test_the_last_token_of_an_answer_that_no_token_ended_is_text():
    for is_complete, text in ((True, "ab"), (False, "a")):
        emission = Emission(1, 0, (*ids("a"), *ids("b")), finish_reason="stop", is_complete=is_complete)
        output = processor().process(emission)
        assert output is not None
        assert (output.text, output.finish_reason) == (text, "stop")
