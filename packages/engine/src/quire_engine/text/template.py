"""From a request to the token ids and sampling parameters that the engine speaks; plain code, for any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from msgspec import structs
from pydantic import ValidationError

from quire_engine.config import Decisions
from quire_engine.errors import ConfigError, RequestError
from quire_engine.sequence import Rendered, RenderedRequest, rendered
from quire_engine.text.answers import Answers, ReadRequest
from quire_engine.text.conversation import conversation
from quire_engine.text.infill import Infill
from quire_engine.text.lengths import Answer, Lengths
from quire_engine.text.sandbox import ChatTemplate
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    BeamSearchParams,
    ChatCompletionRequest,
    CompletionRequest,
    GenerateRequest,
    SamplingParams,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
    TokenizeRequest,
)

if TYPE_CHECKING:
    from quire_engine.text.embeds import Rows

Prompt: TypeAlias = str | list[str] | list[int] | list[list[int]] | None
"""The forms in which a completion request has its prompts."""

_RESERVED = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize"}
)
"""Names that `chat_template_kwargs` may not have: fields of the request decide these."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})

MOST_COUNTED = 2**22
"""Characters of a text that is tokenized for its own sake: it takes seconds, and a gigabyte of memory."""

_CHARACTERS, _MORE = 16, 4
"""Characters for each token of the context that are tried of a longer text, and how many times as many then."""


class Renderer:
    """Applies chat template, tokenizer and the checkpoint's sampling defaults to requests."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        decisions: Decisions,
        *,
        chat_template: str | None = None,
        trust_request_chat_template: bool = False,
        hides_idle_tools: bool = False,
        answers: Answers | None = None,
    ) -> None:
        """`hides_idle_tools` keeps tools from the template where the request lets none be called.

        `answers` says what answers may be; without it they may be anything.
        """
        self._tokenizer = tokenizer
        self._defaults = decisions.sampling_defaults
        self._lengths = Lengths(decisions.max_model_len, decisions.sampling_defaults.get("max_new_tokens"))
        self._chat_template = chat_template
        self._trusts_requests = trust_request_chat_template
        self._hides_idle_tools = hides_idle_tools
        self._answers = answers
        self._processor_pattern = decisions.logits_processor_pattern
        self._vocab_size = decisions.vocab_size
        self._infill = Infill.of(tokenizer)
        self._dtype = decisions.dtype
        self._embeds_width = decisions.embeds_width
        # An ordinary letter: the text after embeddings goes on, it does not begin.
        self._placeholder = min(tokenizer.encode("a", add_special_tokens=False)[-1:] or [0])
        if (source := chat_template or tokenizer.chat_template) is not None:
            try:
                ChatTemplate.of(source)  # compiled now: a broken template is a reason not to start
            except RequestError as error:
                raise ConfigError(f"{error} Another one can be given with --chat-template.") from error

    def render_chat(self, request: ChatCompletionRequest) -> GenerateRequest:
        """The conversation as one prompt; how its answers are read is told by `reading_of`.

        RequestError names the field at fault.
        """
        variables = {} if request.reasoning_effort is None else {"reasoning_effort": request.reasoning_effort}
        prompt = self._apply_template(request, request.documents, variables)
        answer = Answer("max_tokens", request.max_tokens)
        if request.max_completion_tokens is not None:
            answer = Answer("max_completion_tokens", request.max_completion_tokens)
        ids = self._encode_prompt(prompt, request.add_special_tokens, "messages", request.truncate_prompt_tokens)
        generate = self._generate(request, ids, answer, field="messages", request_id=request.request_id)
        return (
            generate if self._answers is None else ReadRequest.made(generate, *self._answers.planned(request, prompt))
        )

    def render_completion(self, request: CompletionRequest) -> list[GenerateRequest]:
        """One for each prompt, in order. RequestError names the field at fault."""
        if request.use_beam_search and request.echo and request.logprobs is not None:
            raise RequestError(
                "echo with logprobs does not go with beam search, whose answers are known only as wholes: leave echo "
                "out, and ask for prompt_logprobs instead.",
                param="echo",
            )
        answer = Answer("max_tokens", request.max_tokens, is_default="max_tokens" not in request.model_fields_set)
        names = chain([request.request_id], (f"{request.request_id}-{place}" for place in count(1)))
        embedded = [self._generate_embedded(request, rows, answer, next(names)) for rows in self._embeds(request)]
        prompts = embedded + [
            self._generate(request, ids, answer, field="prompt", request_id=next(names))
            for ids in self._prompts(request)
        ]
        if self._answers is None:
            return prompts
        added = self._answers.rendered(request)
        return [with_added(prompt, structs.replace(added, embeds=rendered(prompt).embeds)) for prompt in prompts]

    def render_tokens(self, request: GenerateRequest) -> GenerateRequest:
        """A prompt that comes as token ids: truncated, and with bad words as ids. RequestError names the field."""
        params = request.sampling_params
        answer = Answer("max_tokens", params.max_tokens)
        ids = self._lengths.truncated(request.token_ids, params.truncate_prompt_tokens, answer)
        words = tuple(dict.fromkeys((*params.bad_words_token_ids, *self._bad_words(params.bad_words))))
        ready = replace(params, truncate_prompt_tokens=None, bad_words_token_ids=words)
        generate = request.model_copy(update={"token_ids": ids, "sampling_params": ready})
        return generate if self._answers is None else with_added(generate, self._answers.rendered_params(params))

    def unread(self, request: ChatCompletionRequest | TokenizeChatRequest) -> list[str]:
        """The fields that say something which the chat template does not read, so that they change nothing.

        Who brings a template knows what it reads.
        """
        if request.chat_template is not None:
            return []
        template = ChatTemplate.of(self._template_source(None, has_tools=bool(request.tools)))
        asked: dict[str, object] = {"tools": request.tools}
        if isinstance(request, ChatCompletionRequest):
            asked |= {"documents": request.documents, "reasoning_effort": request.reasoning_effort}
        said = {name: name for name, value in asked.items() if value}
        if not (request.add_generation_prompt or request.continue_final_message):
            said["add_generation_prompt"] = "add_generation_prompt"
        said |= {f"chat_template_kwargs.{name}": name for name in request.chat_template_kwargs or ()}
        return [field for field, variable in said.items() if variable not in template.variables]

    def tokenize(self, request: TokenizeRequest) -> list[int]:
        """The ids of a text, or of the prompt that a conversation becomes."""
        if isinstance(request, TokenizeCompletionRequest):
            text, field = request.prompt, "prompt"
        else:
            text, field = self._apply_template(request), "messages"
        if len(text) > MOST_COUNTED:
            problem = f"{field} has {len(text)} characters, and at most {MOST_COUNTED} are tokenized at a time"
            raise RequestError(f"{problem}: send it in parts.", param=field)
        return self._encode(text, request.add_special_tokens, field)

    def _apply_template(
        self,
        request: ChatCompletionRequest | TokenizeChatRequest,
        documents: Sequence[Mapping[str, str]] | None = None,
        variables: Mapping[str, Any] = _NOTHING,
    ) -> str:
        """The prompt, as text."""
        extra = request.chat_template_kwargs or {}
        if taken := sorted(_RESERVED.union(variables).intersection(extra)):
            raise RequestError(
                f"chat_template_kwargs cannot set {taken[0]}: the request's own fields decide it.",
                param=f"chat_template_kwargs.{taken[0]}",
            )
        tools = self._shown_tools(request)
        source = self._template_source(request.chat_template, has_tools=tools is not None)
        template = ChatTemplate.of(source)
        return self._tokenizer.apply_chat_template(
            conversation(request.messages, wants_parts=template.iterates_content, takes_strings=template.takes_strings),
            tools=tools,
            documents=documents,
            chat_template=source,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            **{**variables, **extra},
        )

    def _shown_tools(self, request: ChatCompletionRequest | TokenizeChatRequest) -> list[dict[str, Any]] | None:
        """The tools that the template shows to the model."""
        is_idle = isinstance(request, ChatCompletionRequest) and request.tool_choice == "none"
        if not request.tools or (is_idle and self._hides_idle_tools):
            return None
        # A description nobody gave must not reach the prompt as "null".
        return [tool.model_dump(exclude_none=True) for tool in request.tools]

    def _template_source(self, requested: str | None, *, has_tools: bool) -> str:
        """The template to use: the request's own if that is allowed, else the server's, else the checkpoint's."""
        if requested is not None:
            if self._trusts_requests:
                return requested
            raise RequestError(
                "This server takes no chat_template from requests, because templates are programs; "
                "--trust-request-chat-template allows it.",
                param="chat_template",
            )
        return self._chat_template or self._tokenizer.template_for(has_tools)

    def _embeds(self, request: CompletionRequest) -> list[Rows]:
        """The rows of each prompt that comes as embeddings."""
        given = request.prompt_embeds
        if not given:
            return []
        if self._embeds_width is None:
            raise RequestError(
                "prompt_embeds are switched off: --enable-prompt-embeds lets this server take them.",
                param="prompt_embeds",
            )
        for field, is_asked in (
            ("echo", request.echo),
            ("prompt_logprobs", request.prompt_logprobs is not None),
            ("suffix", request.suffix),
        ):
            if is_asked:
                problem = f"{field} needs a prompt of tokens, and prompt_embeds has none: leave one of them out."
                raise RequestError(problem, param=field)
        from quire_engine.text.embeds import read_rows  # numpy comes with it, which nobody else needs here

        named = (
            [(f"prompt_embeds.{place}", one) for place, one in enumerate(given)]
            if isinstance(given, list)
            else [("prompt_embeds", given)]
        )
        return [read_rows(one, width=self._embeds_width, dtype=self._dtype, field=name) for name, one in named]

    def _prompts(self, request: CompletionRequest) -> list[list[int]]:
        """The token ids of each prompt that does not come as embeddings."""
        if request.prompt_embeds and not request.prompt:
            return []
        if request.suffix:
            return self._around_gaps(request)
        return self._encoded(request.prompt, request.add_special_tokens, request.truncate_prompt_tokens)

    def _encoded(self, prompt: Prompt, add_special_tokens: bool, keep: int | None = None) -> list[list[int]]:
        """The token ids of each prompt: one or several, each as text or as ids; all of which the last are kept."""
        if not prompt:
            raise RequestError("prompt is empty: give a text, token ids, or a list of either.", param="prompt")
        is_one = isinstance(prompt, str) or isinstance(prompt[0], int)
        prompts = cast("list[str | list[int]]", [prompt] if is_one else prompt)
        return [
            self._encode_prompt(one, add_special_tokens, "prompt" if is_one else f"prompt.{place}", keep)
            if isinstance(one, str)
            else one
            for place, one in enumerate(prompts)
        ]

    def _around_gaps(self, request: CompletionRequest) -> list[list[int]]:
        """Each prompt and the suffix, as the model was trained to see what stands before and after a gap."""
        assert request.suffix is not None, "the caller has seen it"
        self._check_suffix(request)
        if self._infill is None:
            raise RequestError(
                "suffix cannot be honoured: this model's tokenizer has no markers for filling in the middle. Leave it "
                "out, or write into prompt what the model knows.",
                param="suffix",
            )
        self._encode_prompt(request.suffix, False, "suffix", None)  # refuses what is no text, or too much
        prefixes = self._encoded(request.prompt, add_special_tokens=False)
        special = request.add_special_tokens
        return [self._infill.prompt(prefix, request.suffix, add_special_tokens=special) for prefix in prefixes]

    def _check_suffix(self, request: CompletionRequest) -> None:
        """Refuse what does not go together with a suffix."""
        if request.truncate_prompt_tokens is not None:
            raise RequestError(
                "truncate_prompt_tokens would cut off the marker in front of the prompt: leave it or suffix out.",
                param="truncate_prompt_tokens",
            )
        if request.echo and request.logprobs is not None:
            raise RequestError(
                "logprobs of an echoed prompt cannot be told beside its text when there is a suffix: leave echo out, "
                "or ask for prompt_logprobs.",
                param="logprobs",
            )

    def _encode_prompt(self, text: str, add_special_tokens: bool, field: str, keep: int | None) -> list[int]:
        """The ids of a prompt of which the last `keep` are kept, None for all. PromptTooLong if those are far too many.

        A megabyte takes seconds, and two hundred megabytes of memory. So of a long text a part is tried first: the end
        of one that is to be cut, which is all that matters; else the beginning, which never is fewer tokens for what
        follows, but for those at the cut.
        """
        size = _CHARACTERS * self._lengths.context
        while size < len(text):
            ids = self._encode(text[:size] if keep is None else text[-size:], add_special_tokens, field)
            if len(ids) > self._lengths.far_too_many:
                if keep is None:
                    raise self._lengths.too_long(f"more than {self._lengths.far_too_many}", field)
                return ids
            size *= _MORE
        return self._encode(text, add_special_tokens, field)

    def _encode(self, text: str, add_special_tokens: bool, field: str) -> list[int]:
        try:
            return self._tokenizer.encode(text, add_special_tokens)
        except UnicodeEncodeError as error:
            raise RequestError(
                f"{field} holds half of a surrogate pair (U+{ord(text[error.start]):04X}), which is no character: "
                "send valid Unicode.",
                param=field,
            ) from error

    def _generate(
        self,
        request: ChatCompletionRequest | CompletionRequest,
        ids: list[int],
        answer: Answer,
        *,
        field: str,
        request_id: str,
    ) -> GenerateRequest:
        """The request for one prompt."""
        ids = self._lengths.truncated(ids, request.truncate_prompt_tokens, answer)
        length = self._lengths.of_answer(answer, len(ids), field)
        params = self._sampling_params(request, length)
        return GenerateRequest(
            request_id=request_id,
            token_ids=ids,
            sampling_params=params,
            beam_search=self._beam_search(request, params) if request.use_beam_search else None,
            model=request.model,
            stream=request.stream,
            stream_options=request.stream_options,
            cache_salt=request.cache_salt,
            priority=request.priority,
            kv_transfer_params=request.kv_transfer_params,
        )

    def _generate_embedded(
        self, request: CompletionRequest, rows: Rows, answer: Answer, request_id: str
    ) -> RenderedRequest:
        """The request for one prompt of embeddings."""
        tokens = [self._placeholder] * len(rows)
        generate = self._generate(request, tokens, answer, field="prompt_embeds", request_id=request_id)
        kept = rows[-len(generate.token_ids) :]
        return RenderedRequest.of(generate, Rendered(embeds=kept.astype("<f4").tobytes()))

    def _beam_search(
        self, request: ChatCompletionRequest | CompletionRequest, params: SamplingParams
    ) -> BeamSearchParams:
        assert params.max_tokens is not None, "the length of an answer is settled by now"
        try:
            return request.to_beam_search_params(params.max_tokens, self._defaults)
        except ValidationError as error:
            raise _located(error) from error

    def _sampling_params(self, request: ChatCompletionRequest | CompletionRequest, length: int) -> SamplingParams:
        try:
            params = request.to_sampling_params(length, self._processor_pattern, self._defaults)
            # Truncation is done by now, and the engine reads bad words as ids.
            return replace(
                params,
                truncate_prompt_tokens=None,
                bad_words_token_ids=self._bad_words(params.bad_words),
                stop_token_ids=params.stop_token_ids + self._ends_of_middle(request),
            )
        except ValidationError as error:
            raise _located(error) from error

    def _ends_of_middle(self, request: ChatCompletionRequest | CompletionRequest) -> tuple[int, ...]:
        """The tokens by which a model says that a gap is filled."""
        if self._infill is None or request.ignore_eos or isinstance(request, ChatCompletionRequest):
            return ()
        return tuple(token for token in self._infill.ends if token < self._vocab_size) if request.suffix else ()

    def _bad_words(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The ids of each word, at the beginning of a text and after a space."""
        forms: dict[tuple[int, ...], None] = {}
        lengths: set[int] = set()
        for place, word in enumerate(words):
            bare = word.lstrip()
            for text in (bare, f" {bare}"):
                ids = tuple(self._encode(text, False, f"bad_words.{place}"))
                # An answer with the longer form has the shorter one too, so that is enough.
                if ids and not any(ids[-length:] in forms for length in lengths):
                    forms[ids] = None
                    lengths.add(len(ids))
        return tuple(forms)


def with_added(request: GenerateRequest, rendered: Rendered) -> GenerateRequest:
    """The request with what the text side adds to it, if that is anything."""
    return RenderedRequest.of(request, rendered) if rendered != Rendered() else request


def _located(error: ValidationError) -> RequestError:
    """The first problem, at its field."""
    first = error.errors()[0]
    return RequestError(first["msg"], param=".".join(map(str, first["loc"])) or None)
