"""Prompts in, answers out, offline: the engine runs in the caller's own thread. It knows no server."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, TypeAlias, cast

from tqdm import tqdm

from quire_engine.admission import check_request
from quire_engine.config import EngineConfig, as_settled
from quire_engine.engine import Engine, EngineFactory
from quire_engine.errors import EngineStopped, RequestError
from quire_engine.sequence import Emission, FinishReason, Submission, TokenLogprobs
from quire_engine.text.answers import Answers
from quire_engine.text.grammar.compile import Grammars
from quire_engine.text.load import load_tokenizer
from quire_engine.text.output import Output, OutputProcessor
from quire_engine.text.template import Renderer
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import BeamSearchParams, ChatCompletionRequest, GenerateRequest, Logprob, SamplingParams

Prompt: TypeAlias = str | Seq[int]
"""A text, or token ids."""

Message: TypeAlias = Mapping[str, Any]
"""One message of a conversation, as the OpenAI API has it."""

Candidates: TypeAlias = dict[int, Logprob]
"""By token id: the likeliest tokens of one position, best first, and the one that is there."""


@dataclass(frozen=True)
class CompletionOutput:
    """One answer to one prompt."""

    index: int
    """The choice, from 0 to n - 1."""
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    """Of the whole answer, when logprobs were asked for."""
    logprobs: list[Candidates] | None
    """One for each token, when asked for."""
    finish_reason: FinishReason | None
    stop_reason: int | str | None
    """The stop string or stop token that ended it; None for an end-of-sequence token."""
    error: str | None = None
    """What went wrong, when `finish_reason` is "error"."""


@dataclass(frozen=True)
class RequestOutput:
    """All answers to one prompt."""

    request_id: str
    prompt: str | None
    """The prompt's text; None if it came as token ids."""
    prompt_token_ids: list[int]
    prompt_logprobs: list[Candidates | None] | None
    """One for each token of the prompt, when asked for; None at the first."""
    outputs: list[CompletionOutput]
    num_cached_tokens: int
    """Prompt tokens taken from the prefix cache."""
    finished: bool = True


class LLM:
    """A model that answers prompts, one call after another. Owns its engine; not thread-safe."""

    def __init__(
        self, model: str | None = None, *, progress: bool = True, load: EngineFactory = Engine.load, **config: Any
    ) -> None:
        """Load `model`, a local folder or a Hub id; the embedded default when absent.

        `config` are fields of EngineConfig; `progress` shows a bar while weights are loaded. ConfigError if the model
        cannot be served.
        """
        self.config = EngineConfig(model=model, **config)
        self.engine = load(self.config, progress=progress)
        self._load = load
        self._is_sleeping = False
        self.tokenizer = load_tokenizer(self.config)
        self._decisions = decisions = self.engine.decisions
        tokenizer = self.tokenizer
        self._renderer = (
            None
            if tokenizer is None
            else Renderer(
                tokenizer,
                decisions,
                trust_request_chat_template=True,
                answers=Answers(tokenizer, None, None, grammars=Grammars.within(tokenizer, decisions)),
            )
        )
        self._handles = count()

    def generate(
        self,
        prompts: Prompt | Seq[Prompt],
        sampling_params: SamplingParams | Seq[SamplingParams] | None = None,
        use_tqdm: bool = True,
    ) -> list[RequestOutput]:
        """Continue each prompt; the results are in the prompts' order.

        `sampling_params` are for all prompts or one for each; the model's own defaults when absent. Their
        `structured_outputs` are the form of the answers. RequestError if a prompt cannot be served, before any is
        computed.
        """
        several = _one_or_more(prompts)
        return self._answer([self._encoded(prompt) for prompt in several], sampling_params, use_tqdm)

    def chat(
        self,
        messages: Seq[Message] | Seq[Seq[Message]],
        sampling_params: SamplingParams | Seq[SamplingParams] | None = None,
        use_tqdm: bool = True,
        **template: Any,
    ) -> list[RequestOutput]:
        """Answer a conversation, or each of several.

        `template` are the fields of ChatCompletionRequest that shape the prompt: `tools`, `documents`,
        `chat_template`, `chat_template_kwargs`, `add_generation_prompt`, `continue_final_message`.
        """
        if self._renderer is None:
            raise RequestError("messages need a tokenizer: leave skip_tokenizer_init out.", param="messages")
        several = [messages] if messages and isinstance(messages[0], Mapping) else messages
        requests = [ChatCompletionRequest.model_validate({"messages": each, **template}) for each in several]
        prompts = [(None, self._renderer.render_chat(request).token_ids) for request in requests]
        return self._answer(prompts, sampling_params, use_tqdm)

    def beam_search(
        self, prompts: Prompt | Seq[Prompt], params: BeamSearchParams, use_tqdm: bool = True
    ) -> list[RequestOutput]:
        """Search for the likeliest continuations of each prompt: as many outputs as beams, best first.

        RequestError if a prompt cannot be served, before any is computed.
        """
        sampling_params = SamplingParams(
            n=params.beam_width,
            max_tokens=params.max_tokens,
            ignore_eos=params.ignore_eos,
            include_stop_str_in_output=params.include_stop_str_in_output,
            logprobs=0,
        )
        several = _one_or_more(prompts)
        return self._answer([self._encoded(prompt) for prompt in several], sampling_params, use_tqdm, params)

    def get_default_sampling_params(self) -> SamplingParams:
        """What is used when no sampling parameters are given: the checkpoint's own defaults."""
        defaults = dict(self._decisions.sampling_defaults)
        if "max_new_tokens" in defaults:
            defaults["max_tokens"] = defaults.pop("max_new_tokens")
        return SamplingParams(**defaults)

    def reset_prefix_cache(self) -> bool:
        """Let no later prompt find what was computed for earlier ones; True, as that is always done."""
        if not self._is_sleeping:  # else there is nothing to find
            self.engine.reset_prefix_cache()
        return True

    def sleep(self) -> None:
        """Give the memory of weights and cache back, until wake_up()."""
        if not self._is_sleeping:
            self._is_sleeping = True
            self.engine.close()
            del self.engine

    def wake_up(self) -> None:
        """Load the model again."""
        if self._is_sleeping:
            self.engine = self._load(as_settled(self.config, self._decisions), progress=False)
            self._is_sleeping = False

    def close(self) -> None:
        """Give the device back, as sleep() does."""
        self.sleep()

    def _encoded(self, prompt: Prompt) -> tuple[str | None, list[int]]:
        """The prompt's text, if it has one, and its ids."""
        if not isinstance(prompt, str):
            return None, list(prompt)
        if self.tokenizer is None:
            raise RequestError(
                "A text needs a tokenizer: give token ids, or leave skip_tokenizer_init out.", param="prompt"
            )
        return prompt, self.tokenizer.encode(prompt)

    def _answer(
        self,
        prompts: Seq[tuple[str | None, list[int]]],
        sampling_params: SamplingParams | Seq[SamplingParams] | None,
        use_tqdm: bool,
        beam_search: BeamSearchParams | None = None,
    ) -> list[RequestOutput]:
        """Check all, then compute all. EngineStopped while asleep."""
        if self._is_sleeping:
            raise EngineStopped("The engine sleeps: call wake_up() first.")
        params = sampling_params or self.get_default_sampling_params()
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else params
        questions = [
            _Question(text, self._request(ids, one, beam_search), self.tokenizer)
            for (text, ids), one in zip(prompts, each, strict=True)
        ]
        for question in questions:
            check_request(question.request, self._decisions, has_tokenizer=self.tokenizer is not None)
        self._warn_of_extra_args(questions)
        self._compute(questions, use_tqdm)
        return [question.answered() for question in questions]

    def _warn_of_extra_args(self, questions: Iterable[_Question]) -> None:
        """Say which extra arguments go without effect, as no extension takes them."""
        given = {name for each in questions for name in each.request.sampling_params.extra_args or ()}
        for name in sorted(given.difference(self._decisions.xargs)):
            warnings.warn(f"extra_args.{name} is taken by no extension here: it has no effect.", stacklevel=4)

    def _request(self, ids: list[int], params: SamplingParams, beam_search: BeamSearchParams | None) -> GenerateRequest:
        request = GenerateRequest(token_ids=ids, sampling_params=params, beam_search=beam_search)
        return request if self._renderer is None else self._renderer.render_tokens(request)

    def _compute(self, questions: Iterable[_Question], use_tqdm: bool) -> None:
        """Step the engine until every question has its answers. Interrupted, it forgets them."""
        pending = {next(self._handles): question for question in questions}
        try:
            for handle, question in pending.items():
                self.engine.add(Submission.of(handle, question.request))
            with tqdm(total=len(pending), desc="Prompts", unit="prompt", disable=not use_tqdm) as bar:
                while pending:
                    for emission in self.engine.step():
                        self._hear(emission, pending[emission.handle])
                        if not pending[emission.handle].unfinished:
                            del pending[emission.handle]
                            bar.update()
        finally:
            for handle in pending:
                self.engine.abort(handle)

    def _hear(self, emission: Emission, question: _Question) -> None:
        """Give a question its part; end the choice in the engine too, if a stop string ended it."""
        output = question.take(emission)
        if output is not None and isinstance(output.stop_reason, str):
            self.engine.abort(emission.handle, emission.index)


class _Question:
    """One prompt, and what was answered so far."""

    def __init__(self, text: str | None, request: GenerateRequest, tokenizer: Tokenizer | None) -> None:
        self.text = text
        self.request = request
        self.unfinished = set(range(request.sampling_params.n))
        self._tokenizer = tokenizer
        self._processor = OutputProcessor(request, tokenizer)
        self._outputs: dict[int, list[Output]] = {index: [] for index in self.unfinished}

    def take(self, emission: Emission) -> Output | None:
        """The output that this emission gives, which is kept."""
        output = self._processor.process(emission)
        if output is not None:
            self._outputs[output.index].append(output)
            if output.finish_reason is not None:
                self.unfinished.discard(output.index)
        return output

    def answered(self) -> RequestOutput:
        """The answers."""
        first = self._outputs[0][0]
        scores = first.prompt_logprobs
        return RequestOutput(
            request_id=self.request.request_id,
            prompt=self.text,
            prompt_token_ids=self.request.token_ids,
            prompt_logprobs=None
            if scores is None
            else [None if score is None else self._candidates(score) for score in scores],
            outputs=[self._completion(outputs) for outputs in self._outputs.values()],
            num_cached_tokens=first.cached_tokens,
        )

    def _completion(self, outputs: Seq[Output]) -> CompletionOutput:
        last = outputs[-1]
        scores = tuple(chain.from_iterable(output.logprobs for output in outputs))
        is_scored = self.request.sampling_params.logprobs is not None
        return CompletionOutput(
            index=last.index,
            text="".join(output.text for output in outputs),
            token_ids=[*chain.from_iterable(output.token_ids for output in outputs)],
            cumulative_logprob=sum(score.logprob for score in scores) if is_scored else None,
            logprobs=[self._candidates(score) for score in scores] if is_scored else None,
            finish_reason=last.finish_reason,
            stop_reason=last.stop_reason,
            error=last.error,
        )

    def _candidates(self, score: TokenLogprobs) -> Candidates:
        ranked = zip(score.top_ids, score.top_logprobs, count(1))
        candidates = {token: self._logprob(token, logprob, rank) for token, logprob, rank in ranked}
        return candidates | {score.token_id: self._logprob(score.token_id, score.logprob, score.rank)}

    def _logprob(self, token: int, logprob: float, rank: int) -> Logprob:
        text = None if self._tokenizer is None else self._tokenizer.token_text(token)
        return Logprob(logprob=logprob, rank=rank, decoded_token=text)


def _one_or_more(prompts: Prompt | Seq[Prompt]) -> Seq[Prompt]:
    """One prompt stands for a list of one."""
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [cast(Prompt, prompts)]
    return cast("Seq[Prompt]", prompts)
