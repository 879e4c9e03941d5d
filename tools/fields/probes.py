"""How each field of a generating request shows that it takes effect: one probe a field, as a table.

A probe sends a plain body and the same body with one field changed, and says what the difference between the answers
must be. It is written so that nothing is seen if a server drops the field. It knows the API, no server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from tools.fields.extension import FORCE

Body: TypeAlias = Mapping[str, Any]

LENGTH = 16
"""Tokens of an answer, unless a probe says otherwise."""

PROMPT = "The sun had set and all was "
PROMPTS = [f"{word}, said the old man; " for word in ("Rain", "Wind", "Snow", "Hail", "Fog", "Ice", "Sun", "Mud")]
"""Eight, so that what changes an answer now and then changes one of them."""
LONG = "Once upon a time there was a mill by a river, and in the mill there lived a miller and his cat. " * 8
"""Several blocks of any prefix cache."""

ROUTES: Mapping[str, str] = MappingProxyType(
    {
        "CompletionRequest": "/v1/completions",
        "ChatCompletionRequest": "/v1/chat/completions",
        "GenerateRequest": "/inference/v1/generate",
    }
)
"""Where each request is sent."""

ALWAYS: Mapping[str, Body] = MappingProxyType(
    {
        "CompletionRequest": {
            "prompt": PROMPT,
            "max_tokens": LENGTH,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        },
        "ChatCompletionRequest": {
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": LENGTH,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        },
        "GenerateRequest": {
            "token_ids": list(range(40, 60)),
            "sampling_params": {"max_tokens": LENGTH, "temperature": 0, "ignore_eos": True},
        },
    }
)
"""What every body of a request has, unless a probe says otherwise; None in a probe takes an entry out."""


@dataclass(frozen=True)
class Answer:
    """What came back for one body."""

    status: int
    headers: Mapping[str, str]
    text: str
    overtook: int = 0
    """Requests of a crowd sent before it that were still being answered when it was complete."""

    @property
    def events(self) -> list[Any]:
        """The data of server-sent events; empty for an answer at once."""
        data = (line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data: "))
        return [json.loads(each) for each in data if each != "[DONE]"]

    @property
    def json(self) -> Any:
        """The whole answer."""
        return json.loads(self.text)

    @property
    def choices(self) -> list[Any]:
        """Its choices."""
        found: list[Any] = self.json["choices"]
        return found

    @property
    def texts(self) -> list[str]:
        """The text of each choice, in either API's place."""
        return [each["text"] if "text" in each else each["message"]["content"] or "" for each in self.choices]

    @property
    def ids(self) -> list[list[int]]:
        """The token ids of each choice."""
        return [each["token_ids"] for each in self.choices]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, as billed."""
        return int(self.json["usage"]["prompt_tokens"])

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the prefix cache, streamed or not."""
        usage = self.events[-1]["usage"] if self.events else self.json["usage"]
        return int((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)


Seen: TypeAlias = Callable[[Answer, Answer], bool]
"""Whether the second answer shows what the field does, beside the first, plain one."""


@dataclass(frozen=True)
class Probe:
    """How one field is shown to take effect."""

    request: str
    field: str
    value: Any
    """A value that is not the field's default."""
    effect: str
    """What is seen, in words."""
    seen: Seen
    plain: Body = field(default_factory=dict)
    """What both bodies have, beside what every body of this request has."""
    beside: Body = field(default_factory=dict)
    """What the changed body has beside the field, because the field needs it."""
    crowd: int = 0
    """Requests that are sent before either body, and take long."""
    warm: bool = False
    """Send the plain body once before, so that its prompt is cached."""
    twice: bool = False
    """Send the changed body twice, and compare these two."""
    steered: bool = False
    """Needs a server that applies the extension to every request."""

    @property
    def plain_body(self) -> dict[str, Any]:
        """The body without the field, or with what it needs at least."""
        return _set({**ALWAYS[self.request], **self.plain})

    @property
    def changed_body(self) -> dict[str, Any]:
        """The body with the field."""
        return _set({**self.plain_body, **self.beside, self.field: self.value})

    @property
    def dropped_body(self) -> dict[str, Any]:
        """What a server that drops the field makes of the changed body."""
        return _set({**self.plain_body, **self.beside, self.field: self.plain_body.get(self.field)})


def _set(body: Body) -> dict[str, Any]:
    """A body without the entries that were taken out."""
    return {name: value for name, value in body.items() if value is not None}


@dataclass(frozen=True)
class Facts:
    """What the probes must know of the model that is served."""

    model: str
    text: str
    """The plain completion."""
    ids: list[int]
    chat_text: str
    chat_ids: list[int]
    eos: int
    """The token that ends an answer."""
    special: int
    """Another special token."""
    rare: list[int]
    """Ordinary tokens that are in neither answer."""
    embeds: str = ""
    """A prompt as embeddings, in base64."""


# What a probe looks for. ----------------------------------------------------------------------------------------------


def other_tokens(plain: Answer, changed: Answer) -> bool:
    """The answer is another one."""
    return plain.ids != changed.ids


def longer(plain: Answer, changed: Answer) -> bool:
    """Every choice has more tokens."""
    return all(len(more) > len(less) for less, more in zip(plain.ids, changed.ids, strict=True))


def other_prompt(plain: Answer, changed: Answer) -> bool:
    """The prompt came to another number of tokens."""
    return plain.prompt_tokens != changed.prompt_tokens


def repeatable(first: Answer, second: Answer) -> bool:
    """Two answers to one body are the same."""
    return first.ids == second.ids


def of_length(length: int) -> Seen:
    """The answer has so many tokens."""
    return lambda plain, changed: [len(ids) for ids in changed.ids] == [length] != [len(ids) for ids in plain.ids]


def of_tokens(allowed: list[int]) -> Seen:
    """The answer consists of these tokens alone."""
    return lambda plain, changed: {token for ids in changed.ids for token in ids} <= set(allowed)


def ends_with(reason: int | str) -> Seen:
    """The answer ended, earlier, for this reason."""
    return lambda plain, changed: (
        changed.choices[0]["stop_reason"] == reason and changed.choices[0]["finish_reason"] == "stop"
    )


def matches(pattern: str) -> Seen:
    """The text has this form, and had not before."""
    form = re.compile(pattern, re.DOTALL)
    return lambda plain, changed: bool(form.fullmatch(changed.texts[0])) and not form.fullmatch(plain.texts[0])


def usage_event(plain: Answer, changed: Answer) -> bool:
    """The stream ends with an event that has the usage and no choices."""
    return not plain.events[-1].get("usage") and bool(changed.events[-1].get("usage"))


def streamed(plain: Answer, changed: Answer) -> bool:
    """The answer comes as events."""
    return changed.headers["content-type"].startswith("text/event-stream") and len(changed.events) > 2


def not_cached(plain: Answer, changed: Answer) -> bool:
    """The plain prompt came from the cache, the changed one did not."""
    return plain.cached_tokens > 0 == changed.cached_tokens


def served_earlier(plain: Answer, changed: Answer) -> bool:
    """It was answered before those that had come earlier."""
    return changed.overtook > plain.overtook + 3


def prompt_scores(answer: Answer) -> Any:
    """The prompt's log-probabilities, in any API's place."""
    whole = answer.json
    return whole.get("prompt_logprobs") or whole["choices"][0].get("prompt_logprobs")


# The table. -----------------------------------------------------------------------------------------------------------

SAMPLED: Body = {"temperature": None, "seed": 7}
"""Draws, repeatable."""
STREAMED: Body = {"stream": True}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
BARE_TOOL = {"type": "function", "function": {"name": "f"}}
"""It takes no arguments, so calls are short."""
USER = {"role": "user", "content": PROMPT}
BEGUN = {"role": "assistant", "content": "It was dark"}


def probes(facts: Facts) -> tuple[Probe, ...]:
    """Every probe, for the model that is served."""
    return (*completion_probes(facts), *chat_probes(facts), *generate_probes(facts))


def completion_probes(facts: Facts) -> list[Probe]:
    """Of CompletionRequest."""

    def probe(field: str, value: Any, effect: str, seen: Seen, **more: Any) -> Probe:
        return Probe("CompletionRequest", field, value, effect, seen, **more)

    several: Body = {"prompt": PROMPTS, "max_tokens": 48}
    return [
        probe("prompt", "Another ", "another prompt is continued", other_prompt),
        probe("echo", True, "begins with the prompt", begins(PROMPT), plain={"return_token_ids": None}),
        probe("logprobs", 2, "log-probabilities", lambda p, c: bool(c.choices[0]["logprobs"])),
        probe("max_tokens", 5, "5 tokens", of_length(5)),
        probe("n", 2, "2 choices", lambda p, c: len(c.choices) == 2, plain=SAMPLED),
        probe("suffix", "the end.", "another prompt: the gap's", other_prompt),
        probe("prompt_embeds", facts.embeds, "a choice for each prompt", lambda p, c: len(c.choices) > len(p.choices)),
        probe("add_special_tokens", False, "the tokenizer's first token is left out", other_prompt),
        probe("vllm_xargs", {"probe": facts.rare[0]}, "the token it names", of_tokens(facts.rare[:1]), steered=True),
        *shared_probes("CompletionRequest", facts.text, facts.ids, facts, several),
    ]


def chat_probes(facts: Facts) -> list[Probe]:
    """Of ChatCompletionRequest."""

    def probe(field: str, value: Any, effect: str, seen: Seen, **more: Any) -> Probe:
        return Probe("ChatCompletionRequest", field, value, effect, seen, **more)

    several: Body = {"max_tokens": 192}
    open_end: Body = {"messages": [USER, BEGUN], "add_generation_prompt": False}
    reasoning: Body = {"chat_template_kwargs": {"think": True}}
    eager: Body = {  # to call, again and again
        **several,
        "tools": [BARE_TOOL],
        "tool_choice": "required",
        "thinking_token_budget": 4,
        "logit_bias": {str(facts.eos): -100},
    }
    word = facts.chat_text[2:4]
    return [
        probe("messages", [{"role": "user", "content": "Hello"}], "another prompt", other_prompt),
        probe("logprobs", True, "log-probabilities", lambda p, c: bool(c.choices[0]["logprobs"])),
        probe(
            "top_logprobs",
            3,
            "3 candidates at each token",
            lambda p, c: len(c.choices[0]["logprobs"]["content"][0]["top_logprobs"]) == 3,
            plain={"logprobs": True},
        ),
        probe("max_tokens", 5, "5 tokens", of_length(5)),
        probe("max_completion_tokens", 5, "5 tokens", of_length(5)),
        probe("n", 2, "2 choices", lambda p, c: len(c.choices) == 2, plain=SAMPLED),
        probe("bad_words", [word], f"no {word!r} in it", lambda p, c: word in p.texts[0] and word not in c.texts[0]),
        probe(
            "tools",
            [TOOL],
            "the tool is in the prompt",
            other_prompt,
            beside={"tool_choice": "none"},
        ),
        probe(
            "tool_choice",
            {"type": "function", "function": {"name": "f"}},
            "the tool is called",
            lambda p, c: bool(c.choices[0]["message"]["tool_calls"]),
            plain={**several, "tools": [TOOL], "tool_choice": "none"},
        ),
        probe(
            "parallel_tool_calls",
            False,
            "one call at most",
            lambda p, c: len(p.choices[0]["message"]["tool_calls"]) > 1 == len(c.choices[0]["message"]["tool_calls"]),
            plain=eager,
        ),
        probe("reasoning_effort", "low", "the template writes it", other_prompt),
        probe("include_reasoning", False, "no reasoning", lambda p, c: reasoned(p) > 0 == reasoned(c), plain=reasoning),
        probe(
            "thinking_token_budget",
            4,
            "4 tokens of reasoning at most",
            lambda p, c: reasoned(p) > 4 >= reasoned(c) > 0,
            plain=reasoning,
        ),
        probe("echo", True, "begins with the last message", begins(BEGUN["content"]), plain=open_end),
        probe("documents", [{"title": "T", "text": "A document."}], "the template writes it", other_prompt),
        probe("chat_template", "{{ messages[0].content }}", "another prompt", other_prompt),
        probe("chat_template_kwargs", {"mood": "sombre"}, "the template writes it", other_prompt),
        probe("mm_processor_kwargs", {"num_crops": 4}, "another prompt", other_prompt),
        probe("add_generation_prompt", False, "the prompt ends earlier", other_prompt),
        probe(
            "continue_final_message", True, "the last message stays open in the prompt", other_prompt, plain=open_end
        ),
        probe("add_special_tokens", True, "the tokenizer's first token is there", other_prompt),
        probe("vllm_xargs", {"probe": facts.rare[0]}, "the token it names", of_tokens(facts.rare[:1]), steered=True),
        *shared_probes("ChatCompletionRequest", facts.chat_text, facts.chat_ids, facts, several),
    ]


def reasoned(answer: Answer) -> int:
    """Characters of reasoning in the first choice."""
    return len(answer.choices[0]["message"]["reasoning"] or "")


def begins(text: str) -> Seen:
    """The answer begins with this text."""
    return lambda plain, changed: changed.texts[0].startswith(text) and not plain.texts[0].startswith(text)


def shared_probes(request: str, text: str, ids: list[int], facts: Facts, several: Body) -> list[Probe]:
    """Of both; `text` and `ids` are the plain answer's, `several` asks for much text."""

    def probe(field: str, value: Any, effect: str, seen: Seen, **more: Any) -> Probe:
        return Probe(request, field, value, effect, seen, **more)

    def biased(token: int) -> Body:
        return {"logit_bias": {str(token): 100}}

    is_chat = request == "ChatCompletionRequest"
    long: Body = {"messages": [{"role": "user", "content": LONG}]} if is_chat else {"prompt": LONG}
    scored: Body = {"logprobs": True} if is_chat else {"logprobs": 1}
    ended: Body = {**biased(facts.eos), "ignore_eos": None}
    return [
        probe("model", "nobody-serves-this", "another model", other_tokens),
        probe("frequency_penalty", 2.0, "another answer", other_tokens, plain=several),
        probe("presence_penalty", 2.0, "another answer", other_tokens, plain=several),
        probe("repetition_penalty", 1.9, "another answer", other_tokens, plain=several),
        probe("logit_bias", {str(facts.rare[0]): 100}, "the favoured token alone", of_tokens(facts.rare[:1])),
        probe("response_format", {"type": "json_object"}, "an object", matches(r"\s*\{.*"), plain={"max_tokens": 32}),
        probe(
            "structured_outputs", {"regex": "[xyz]{3}"}, "such a text", matches("[xyz]{3}"), plain={"ignore_eos": None}
        ),
        probe("seed", 7, "the same answer twice", repeatable, plain={"temperature": None}, twice=True),
        probe("stop", text[3:6], "ends at the string", ends_with(text[3:6])),
        probe("stop_token_ids", [ids[3]], "ends at the token", ends_with(ids[3])),
        probe(
            "include_stop_str_in_output",
            True,
            "the stop string stays",
            lambda p, c: c.texts[0] == p.texts[0] + text[3:6],
            plain={"stop": text[3:6]},
        ),
        probe("ignore_eos", True, "goes on", longer, plain=ended),
        probe("min_tokens", 4, "goes on", longer, plain=ended),
        probe("stream", True, "events", streamed),
        probe("stream_options", {"include_usage": True}, "an event with the usage", usage_event, plain=STREAMED),
        probe("temperature", 0.0, "another answer", other_tokens, plain=SAMPLED),
        probe("top_p", 0.01, "another answer", other_tokens, plain=SAMPLED),
        probe("top_k", 1, "another answer", other_tokens, plain=SAMPLED),
        probe("min_p", 1.0, "another answer", other_tokens, plain=SAMPLED),
        probe("allowed_token_ids", facts.rare, "these tokens alone", of_tokens(facts.rare)),
        probe("user", "somebody", "in the answer's header", lambda p, c: "somebody" in c.headers.values()),
        probe(
            "use_beam_search",
            True,
            "the two likeliest answers",
            lambda p, c: len({*map(tuple, c.ids)}) == 2,
            beside={"n": 2},
        ),
        probe(
            "length_penalty",
            8.0,
            "other beams win",
            other_tokens,
            plain={"use_beam_search": True, "n": 4, "ignore_eos": None, **several, "max_tokens": 24},
        ),
        probe("skip_special_tokens", False, "a special token is written out", longer_text, plain=biased(facts.special)),
        probe(
            "spaces_between_special_tokens",
            False,
            "other text",
            lambda p, c: p.texts != c.texts,
            plain={**biased(facts.special), "skip_special_tokens": False},
        ),
        probe("truncate_prompt_tokens", 3, "3 tokens of the prompt", lambda p, c: c.prompt_tokens == 3),
        probe("prompt_logprobs", 2, "the prompt's log-probabilities", lambda p, c: bool(prompt_scores(c))),
        probe("priority", -1, "served before a crowd", served_earlier, crowd=12),
        probe("request_id", "probe-7", "the answer's id", lambda p, c: "probe-7" in c.json["id"]),
        probe(
            "logits_processors",
            [{"qualname": FORCE, "args": facts.rare[:1]}],
            "the token it is told",
            of_tokens(facts.rare[:1]),
        ),
        probe(
            "return_tokens_as_token_ids",
            True,
            "tokens by id",
            lambda p, c: "token_id:" in json.dumps(c.choices[0]["logprobs"]),
            plain=scored,
        ),
        probe(
            "return_token_ids",
            True,
            "token ids",
            lambda p, c: bool(c.choices[0].get("token_ids")),
            plain={"return_token_ids": None},
        ),
        probe("cache_salt", "pepper", "nothing from the cache", not_cached, plain=long, warm=True),
        probe("kv_transfer_params", {"do_remote_decode": True}, "a connector's answer", transferred),
    ]


def longer_text(plain: Answer, changed: Answer) -> bool:
    """The same tokens make more text."""
    return plain.ids == changed.ids and len(changed.texts[0]) > len(plain.texts[0])


def transferred(plain: Answer, changed: Answer) -> bool:
    """A connector answered."""
    return bool(changed.json.get("kv_transfer_params"))


def generate_probes(facts: Facts) -> list[Probe]:
    """Of GenerateRequest."""

    def probe(field: str, value: Any, effect: str, seen: Seen, **more: Any) -> Probe:
        return Probe("GenerateRequest", field, value, effect, seen, **more)

    always = ALWAYS["GenerateRequest"]["sampling_params"]
    told: Body = {**STREAMED, "stream_options": {"include_usage": True}}
    return [
        probe("request_id", "probe-8", "the answer's id", lambda p, c: "probe-8" in c.json["request_id"]),
        probe("token_ids", facts.rare, "another answer", other_tokens),
        probe("features", "AAAA", "another answer", other_tokens),
        probe("sampling_params", {**always, "max_tokens": 5}, "5 tokens", of_length(5)),
        probe(
            "beam_search",
            {"beam_width": 2, "max_tokens": LENGTH, "ignore_eos": True},
            "the two likeliest answers",
            lambda p, c: len({*map(tuple, c.ids)}) == 2,
            plain={"sampling_params": {**always, "n": 2}},
        ),
        probe("model", "nobody-serves-this", "another model", other_tokens),
        probe("stream", True, "events", streamed),
        probe("stream_options", {"include_usage": True}, "an event with the usage", usage_event, plain=STREAMED),
        probe(
            "cache_salt",
            "pepper",
            "nothing from the cache",
            not_cached,
            plain={"token_ids": [*range(40, 90)] * 10, **told},
            warm=True,
        ),
        probe("priority", -1, "served before a crowd", served_earlier, crowd=12),
        probe("kv_transfer_params", {"do_remote_decode": True}, "a connector's answer", transferred),
    ]
