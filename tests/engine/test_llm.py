from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from tests.support.guided import save_model
from tests.support.letters import write_letters
from tests.support.plain_beams import plain_beam_search
from tests.support.scripted import (
    Done,
    ScriptedRunner,
    likeliest,
    load_counting,
    load_failing,
    load_scripted,
    scripted_engine,
)
from tests.support.shop import open_shop

from quire_engine import LLM, EngineConfig, SamplingParams
from quire_engine.engine import Engine
from quire_engine.errors import EngineStopped, GrammarError, PromptTooLong, RequestError
from quire_engine.runner.eager import EagerRunner
from quire_engine.scheduling.batch import Batch
from quire_protocol import BeamSearchParams, LogitsProcessorConstructor, StructuredOutputsParams

GREEDY = SamplingParams(temperature=0, max_tokens=4)


@pytest.fixture
def llm(tmp_path: Path) -> LLM:
    return LLM(load=load_counting, tokenizer=write_letters(tmp_path))


def texts(llm: LLM, *args: Any, **options: Any) -> list[str]:
    return [answer.outputs[0].text for answer in llm.generate(*args, use_tqdm=False, **options)]


def test_one_text_gives_one_answer(llm: LLM) -> None:
    (answer,) = llm.generate("a", GREEDY, use_tqdm=False)
    assert (answer.prompt, answer.prompt_token_ids) == ("a", [65])
    (output,) = answer.outputs
    assert (output.index, output.text, output.token_ids) == (0, "bcde", [66, 67, 68, 69])
    assert (output.finish_reason, output.stop_reason) == ("length", None)


def test_answers_come_in_the_order_of_the_prompts(llm: LLM) -> None:
    assert texts(llm, ["a", "x", "m"], GREEDY) == ["bcde", "yz{|", "nopq"]


def test_token_ids_are_prompts_too(llm: LLM) -> None:
    assert texts(llm, [65], GREEDY) == ["bcde"]
    assert texts(llm, [[65], [66]], GREEDY) == ["bcde", "cdef"]


def test_each_prompt_may_have_its_own_parameters(llm: LLM) -> None:
    assert texts(llm, ["a", "a"], [GREEDY, SamplingParams(max_tokens=1)]) == ["bcde", "b"]


def test_as_many_parameters_as_prompts_are_needed(llm: LLM) -> None:
    with pytest.raises(ValueError, match="shorter"):
        llm.generate(["a", "b"], [GREEDY])


def test_nothing_is_computed_if_one_prompt_cannot_be_served(llm: LLM) -> None:
    with pytest.raises(PromptTooLong):
        llm.generate(["a", "a" * 300], GREEDY)
    assert llm.engine.stats().prompt_tokens == 0


def test_choices_are_the_outputs_of_one_answer(llm: LLM) -> None:
    (answer,) = llm.generate("a", SamplingParams(n=3, max_tokens=2), use_tqdm=False)
    assert [output.index for output in answer.outputs] == [0, 1, 2]


def test_a_stop_string_ends_the_answer_and_frees_its_blocks(llm: LLM) -> None:
    (answer,) = llm.generate("a", SamplingParams(stop="ef", max_tokens=200), use_tqdm=False)
    assert (answer.outputs[0].text, answer.outputs[0].stop_reason) == ("bcd", "ef")
    assert llm.engine.stats().kv_usage == 0


def test_a_prompt_is_truncated_when_asked_for(llm: LLM) -> None:
    (answer,) = llm.generate("xyza", SamplingParams(truncate_prompt_tokens=1, max_tokens=1), use_tqdm=False)
    assert answer.prompt_token_ids == [65]


def test_bad_words_reach_the_engine_as_ids(llm: LLM) -> None:
    class Seen(ScriptedRunner):
        def run(self, batch: Batch) -> Done:
            words.extend(batch.spans[0].sequence.params.bad_words_token_ids)
            return super().run(batch)

    words: list[tuple[int, ...]] = []
    llm.engine.runner = Seen(4)
    llm.generate("a", SamplingParams(bad_words=("xyz",), max_tokens=1), use_tqdm=False)
    assert words == [(88, 89, 90)]


def test_log_probabilities_are_by_token_with_its_text(llm: LLM) -> None:
    params = SamplingParams(max_tokens=2, logprobs=0, prompt_logprobs=0)
    (answer,) = llm.generate("xa", params, use_tqdm=False)
    (output,) = answer.outputs
    assert output.logprobs is not None
    assert [list(candidates) for candidates in output.logprobs] == [[66], [67]]
    assert output.logprobs[0][66].decoded_token == "b"
    assert output.cumulative_logprob == -2.0
    assert answer.prompt_logprobs is not None
    assert answer.prompt_logprobs[0] is None
    assert answer.prompt_logprobs[1] is not None
    assert answer.prompt_logprobs[1][65].rank == 1


def test_without_logprobs_there_are_none(llm: LLM) -> None:
    (answer,) = llm.generate("a", GREEDY, use_tqdm=False)
    assert answer.prompt_logprobs is None
    assert answer.outputs[0].logprobs is None
    assert answer.outputs[0].cumulative_logprob is None


def test_a_conversation_is_rendered_and_answered(llm: LLM) -> None:
    (answer,) = llm.chat([{"role": "user", "content": "hi"}], GREEDY, use_tqdm=False)
    assert llm.tokenizer is not None
    assert llm.tokenizer.decode(answer.prompt_token_ids) == "user:hi;"
    assert answer.outputs[0].text == "<=>?"


def test_several_conversations_are_answered_in_order(llm: LLM) -> None:
    conversations = [[{"role": "user", "content": word}] for word in ("hi", "ho")]
    answers = llm.chat(conversations, GREEDY, use_tqdm=False)
    assert [len(answer.prompt_token_ids) for answer in answers] == [8, 8]


def test_a_chat_template_may_be_given(llm: LLM) -> None:
    message = {"role": "user", "content": "hi"}
    (answer,) = llm.chat([message], GREEDY, use_tqdm=False, chat_template="{{ messages[0].content }}!")
    assert len(answer.prompt_token_ids) == 3


def test_without_a_tokenizer_ids_go_in_and_come_out() -> None:
    llm = LLM(load=load_scripted, skip_tokenizer_init=True)
    (answer,) = llm.generate([1, 2, 3], GREEDY, use_tqdm=False)
    assert answer.outputs[0].text == ""
    assert len(answer.outputs[0].token_ids) == 4


@pytest.mark.parametrize(
    "ask", [lambda llm: llm.generate("a"), lambda llm: llm.chat([{"role": "user", "content": ""}])]
)
def test_without_a_tokenizer_text_is_refused(ask: Any) -> None:
    with pytest.raises(RequestError, match="skip_tokenizer_init"):
        ask(LLM(load=load_scripted, skip_tokenizer_init=True))


def test_the_checkpoints_defaults_are_used_when_no_parameters_are_given() -> None:
    def load(config: EngineConfig, *, progress: bool) -> Engine:
        return scripted_engine(sampling_defaults={"temperature": 0.0, "max_new_tokens": 3}, eos_token_ids=())

    llm = LLM(load=load, skip_tokenizer_init=True)
    assert llm.get_default_sampling_params() == SamplingParams(temperature=0, max_tokens=3)
    assert len(llm.generate([1], use_tqdm=False)[0].outputs[0].token_ids) == 3


def test_a_prompt_whose_step_failed_says_so_and_the_next_call_works() -> None:
    llm = LLM(load=load_failing, skip_tokenizer_init=True)
    (answer,) = llm.generate([1], SamplingParams(max_tokens=9, ignore_eos=True), use_tqdm=False)
    assert answer.outputs[0].finish_reason == "error"
    assert answer.outputs[0].error
    assert llm.generate([1], GREEDY, use_tqdm=False)[0].outputs[0].error is None


def test_an_interrupted_call_leaves_nothing_behind() -> None:
    def interrupted(config: EngineConfig, *, progress: bool) -> Engine:
        def interrupt(*_: Any) -> int:
            raise KeyboardInterrupt

        return scripted_engine(interrupt)

    llm = LLM(load=interrupted, skip_tokenizer_init=True)
    with pytest.raises(KeyboardInterrupt):
        llm.generate([[1], [2]], GREEDY, use_tqdm=False)
    assert not llm.engine.has_work


def test_progress_is_shown_unless_unwanted(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.generate(["a", "b"], GREEDY, use_tqdm=False)
    assert capsys.readouterr().err == ""
    llm.generate(["a", "b"], GREEDY)
    assert "2/2" in capsys.readouterr().err


def test_a_search_gives_its_beams_best_first(llm: LLM) -> None:
    (answer,) = llm.beam_search("a", BeamSearchParams(beam_width=3, max_tokens=4, ignore_eos=True), use_tqdm=False)
    found = plain_beam_search(likeliest, [65], width=3, max_tokens=4, ignored=(0,))
    assert [tuple(output.token_ids) for output in answer.outputs] == [each.tokens for each in found]
    assert [output.cumulative_logprob for output in answer.outputs] == pytest.approx([each.logprob for each in found])
    assert all(output.text for output in answer.outputs)


def test_a_search_that_is_too_wide_is_refused(llm: LLM) -> None:
    with pytest.raises(RequestError, match="at most 16 beams"):
        llm.beam_search("a", BeamSearchParams(beam_width=17, max_tokens=4))


@pytest.fixture(scope="module")
def formed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    llm = LLM(save_model(tmp_path_factory.mktemp("formed")), progress=False, device="cpu", max_model_len=128)
    yield llm
    llm.close()


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        (StructuredOutputsParams(regex="[a-f]{3}-[0-9]{2}"), "[a-f]{3}-[0-9]{2}"),
        (StructuredOutputsParams(choice=["yes", "no"]), "yes|no"),
        (StructuredOutputsParams(json={"type": "array", "items": {"type": "boolean"}, "maxItems": 2}), r"\[.*\]"),
    ],
    ids=["regex", "choice", "json"],
)
def test_answers_have_the_form_that_is_asked_for(formed: LLM, form: StructuredOutputsParams, pattern: str) -> None:
    params = SamplingParams(temperature=1.5, seed=2, n=3, max_tokens=30, structured_outputs=form)
    for output in formed.generate("Well", params, use_tqdm=False)[0].outputs:
        assert re.fullmatch(pattern, output.text)
        assert output.finish_reason == "stop"


def test_a_form_that_cannot_be_held_is_refused_before_anything_is_computed(formed: LLM) -> None:
    params = SamplingParams(structured_outputs=StructuredOutputsParams(regex="a("))
    with pytest.raises(GrammarError) as caught:
        formed.generate("Well", params, use_tqdm=False)
    assert caught.value.param == "structured_outputs"


def test_extra_arguments_that_no_extension_takes_are_warned_of(llm: LLM) -> None:
    with pytest.warns(UserWarning, match="extra_args.mood is taken by no extension"):
        llm.generate("a", SamplingParams(max_tokens=1, extra_args={"mood": 1}), use_tqdm=False)


def test_logits_processors_of_an_installed_package_work_offline(tmp_path: Path) -> None:
    with open_shop(tmp_path):
        llm = LLM(progress=False, logits_processors=("shop.steer",), logits_processor_pattern="shop", max_model_len=64)
        for asked in (
            {"extra_args": {"forced": 7}},
            {"logits_processors": [LogitsProcessorConstructor(qualname="shop.Force", args=[7])]},
        ):
            (answer,) = llm.generate([[5, 6]], SamplingParams(temperature=0, max_tokens=2, **asked), use_tqdm=False)
            assert answer.outputs[0].token_ids == [7, 7]
        with pytest.raises(RequestError, match="allows"):
            llm.generate([[5]], SamplingParams(logits_processors=["os.system"]), use_tqdm=False)
        llm.close()


def test_asleep_it_answers_nothing_and_awake_again_the_same(llm: LLM) -> None:
    llm.sleep()
    llm.sleep()
    with pytest.raises(EngineStopped, match="wake_up"):
        llm.generate("a", GREEDY, use_tqdm=False)
    llm.wake_up()
    assert texts(llm, "a", GREEDY) == ["bcde"]


def test_sleep_closes_the_engine_once(llm: LLM) -> None:
    runner = llm.engine.runner
    assert isinstance(runner, ScriptedRunner)
    llm.sleep()
    assert runner.is_closed
    runner.is_closed = False
    llm.close()
    assert not runner.is_closed


def test_after_a_reset_no_prompt_finds_what_was_computed_before(llm: LLM) -> None:
    prompt = [5] * 20
    found = [llm.generate([prompt], GREEDY, use_tqdm=False)[0].num_cached_tokens for _ in range(2)]
    assert llm.reset_prefix_cache()
    assert [*found, llm.generate([prompt], GREEDY, use_tqdm=False)[0].num_cached_tokens] == [0, 16, 0]


@pytest.mark.parametrize("native", [True, False])
def test_asleep_nothing_of_weights_and_cache_is_kept(tmp_path: Path, native: bool) -> None:
    llm = LLM(save_model(tmp_path), progress=False, device="cpu", max_model_len=128, native=native)
    runner = llm.engine.runner
    assert isinstance(runner, EagerRunner)
    before = texts(llm, "a", GREEDY)
    held = [ref(runner.cache.keys[0]), ref(runner._forward)]
    del runner
    llm.sleep()
    assert [each() for each in held] == [None, None]
    assert llm.reset_prefix_cache()
    assert llm.get_default_sampling_params() is not None
    llm.wake_up()
    assert texts(llm, "a", GREEDY) == before
    llm.close()


def test_asleep_there_is_no_engine(llm: LLM) -> None:
    engine = ref(llm.engine)
    llm.sleep()
    assert engine() is None
