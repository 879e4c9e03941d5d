"""Whether a request can be served at all, judged before it has a stream: what passes here never fails for its content.

It knows the request and the decisions; neither the text the tokens came from nor who else is being served.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from quire_engine.config import Decisions
from quire_engine.errors import PromptTooLong, RequestError
from quire_engine.sequence import rendered
from quire_protocol import BeamSearchParams, GenerateRequest, SamplingParams
from quire_protocol.logits_processors import name_of
from quire_protocol.sampling import CONSTRAINTS

MAX_CHOICES = 16_384
"""Choices of one request; each is a sequence of its own."""
MOST_ANSWERS = 2**16
"""Answers to one body: the choices of all its prompts."""
MAX_LENGTH_PENALTY = 32
"""With more, up or down, the score of a long answer could be larger or smaller than any number a computer has."""

MOST_COMPARED = 2**20
"""Tokens of bad words, each as long as the longest, that a sequence's end is compared with at every step."""

MOST_STOP_CHARACTERS = 2**14
"""Characters of all stop strings of a request together: text may have to be compared with all of them at one token."""

_ITS_OWN = "beams are compared by the model's own log-probabilities"
NOT_WHILE_SEARCHING: Mapping[str, str] = {
    "stop": "beams are token ids, without text until the search is over; stop_token_ids do",
    "min_tokens": "an end that may not be would take a beam's place",
    "logit_bias": _ITS_OWN,
    "allowed_token_ids": _ITS_OWN,
    "bad_words": _ITS_OWN,
    "logits_processors": _ITS_OWN,
    "extra_args": _ITS_OWN,
}
"""Sampling parameters that change which answers are allowed, and why a search cannot honour them."""


def check_request(request: GenerateRequest, decisions: Decisions, *, has_tokenizer: bool = True) -> None:
    """RequestError, with the field at fault, if the engine could not serve `request`.

    Without a tokenizer on the text side there is no text, in which a stop string could be found.
    """
    _check_built(request)
    _check_form(request, has_tokenizer=has_tokenizer)
    _check_stop(request.sampling_params.stop, has_tokenizer)
    _check_processors(request.sampling_params, decisions)
    _check_prompt(request, decisions)
    _check_tokens(request.sampling_params, decisions.vocab_size)
    _check_logprobs(request.sampling_params, decisions)
    _check_lengths(request, decisions)
    if request.beam_search is not None:
        _check_search(request, request.beam_search, decisions)
    if request.priority != 0 and decisions.scheduling_policy != "priority":
        problem = f"priority is {request.priority}, but this server serves by {decisions.scheduling_policy}."
        raise RequestError(
            f"{problem} Leave it out, or start the server with scheduling_policy=priority.", param="priority"
        )


def check_answers(prompts: int, choices: int) -> None:
    """RequestError if one body asks for more answers than the memory should hold: so many choices of each prompt."""
    if prompts * choices > MOST_ANSWERS:
        problem = f"{prompts} prompts with {choices} choices each (n) come to {prompts * choices} answers"
        raise RequestError(
            f"{problem}, and one body may ask for {MOST_ANSWERS}: send several, or ask for fewer choices.",
            param="prompt" if choices == 1 else "n",
        )


def _check_built(request: GenerateRequest) -> None:
    """Refuse what this engine does not do."""
    params = request.sampling_params
    absent = (
        ("features", request.features, "images, audio and video are not served yet"),
        ("kv_transfer_params", request.kv_transfer_params, "no KV connector is configured"),
    )
    for name, value, reason in absent:
        if value:
            raise RequestError(f"{name} cannot be honoured: {reason}. Leave it out.", param=name)
    if params.truncate_prompt_tokens is not None:
        problem = (
            "truncate_prompt_tokens was left to do, and below the text side nothing does it: send a shorter prompt."
        )
        raise RequestError(problem, param="truncate_prompt_tokens")
    if params.bad_words and not params.bad_words_token_ids:
        raise RequestError(
            "bad_words came without its token ids: it needs a tokenizer on the server.", param="bad_words"
        )


def _check_form(request: GenerateRequest, *, has_tokenizer: bool) -> None:
    """What an answer's form needs, and what does not go with it."""
    added = rendered(request)
    wanted = request.sampling_params.structured_outputs
    if wanted is not None and added.constraint is None:
        problem = "came without its grammar, which the text side writes for a tokenizer: ask a server that has one"
        if not wanted.constraints:
            problem = f"names no form: give one of {', '.join(CONSTRAINTS)}"
        raise RequestError(f"structured_outputs {problem}, or leave it out.", param="structured_outputs")
    asked = "thinking_token_budget" if added.constraint is None else added.constraint.param
    if added.constraint is None and added.thinking is None:
        return
    if not has_tokenizer:
        raise RequestError(f"{asked} needs a tokenizer, and this server has none: leave it out.", param=asked)
    if request.beam_search is not None:
        raise RequestError(f"{asked} does not go with beam search: {_ITS_OWN}. Leave one of them out.", param=asked)


def _check_stop(strings: Collection[str], has_tokenizer: bool) -> None:
    if strings and not has_tokenizer:
        raise RequestError("stop needs a tokenizer, and this server has none: use stop_token_ids.", param="stop")
    if (characters := sum(map(len, strings))) > MOST_STOP_CHARACTERS:
        problem = f"stop has {characters} characters in {len(strings)} strings, and may have {MOST_STOP_CHARACTERS}."
        raise RequestError(f"{problem} Name fewer or shorter ones.", param="stop")


def _check_processors(params: SamplingParams, decisions: Decisions) -> None:
    for name in map(name_of, params.logits_processors or ()):
        if name not in decisions.allowed_processors:
            allowed = ", ".join(decisions.allowed_processors) or "none (logits_processor_pattern allows some)"
            problem = f'logits_processors has "{name}", but this server allows {allowed}.'
            raise RequestError(problem, param="logits_processors")


def _check_prompt(request: GenerateRequest, decisions: Decisions) -> None:
    prompt = request.token_ids
    if not prompt:
        raise RequestError("The prompt is empty: it needs at least one token.", param="prompt")
    _check_vocabulary("prompt", prompt, decisions.vocab_size)
    if len(prompt) >= decisions.max_model_len:
        raise PromptTooLong(
            f"The prompt has {len(prompt)} tokens. The context holds {decisions.max_model_len}, prompt and at least "
            "one token of output together: shorten the prompt, set truncate_prompt_tokens, or raise max_model_len.",
            param="prompt",
        )
    if len(prompt) >= decisions.kv_cache_tokens:
        raise PromptTooLong(
            f"The prompt has {len(prompt)} tokens. The KV cache holds {decisions.kv_cache_tokens}, prompt and at least "
            "one token of output together: shorten the prompt, or raise kv_cache_memory_bytes.",
            param="prompt",
        )


def _check_tokens(params: SamplingParams, vocabulary: int) -> None:
    _check_vocabulary("stop_token_ids", params.stop_token_ids, vocabulary)
    _check_vocabulary("logit_bias", params.logit_bias or (), vocabulary)
    _check_vocabulary("allowed_token_ids", params.allowed_token_ids or (), vocabulary)
    for word in params.bad_words_token_ids:
        _check_vocabulary("bad_words_token_ids", word, vocabulary)
    words, longest = len(params.bad_words_token_ids), max(map(len, params.bad_words_token_ids), default=0)
    if words * longest > MOST_COMPARED:
        field = "bad_words" if params.bad_words else "bad_words_token_ids"
        problem = f"{field} come to {words} sequences of up to {longest} tokens, each compared at every step"
        raise RequestError(f"{problem}: at most {MOST_COMPARED} tokens. Name fewer or shorter ones.", param=field)


def _check_vocabulary(field: str, token_ids: Collection[int], vocabulary: int) -> None:
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) < vocabulary):
        strangers = [token for token in token_ids if not 0 <= token < vocabulary]
        named = ", ".join(map(str, strangers[:5])) + (", …" if len(strangers) > 5 else "")
        problem = f"{field} has token ids that are not in the vocabulary: {named}."
        raise RequestError(f"{problem} They go from 0 to {vocabulary - 1}.", param=field)


def _check_logprobs(params: SamplingParams, decisions: Decisions) -> None:
    limit = decisions.max_logprobs
    for field, asked in (("logprobs", params.logprobs), ("prompt_logprobs", params.prompt_logprobs)):
        if asked is None or limit == -1:
            continue
        count, words = (decisions.vocab_size, "the whole vocabulary") if asked == -1 else (asked, str(asked))
        if count > limit:
            problem = f"{field} asks for {words}, but this server gives at most {limit} per token."
            raise RequestError(f"{problem} Ask for fewer, or start the server with a higher max_logprobs.", param=field)


def _check_lengths(request: GenerateRequest, decisions: Decisions) -> None:
    params = request.sampling_params
    if params.n > MAX_CHOICES:
        raise RequestError(f"n is {params.n}, but a request may have at most {MAX_CHOICES} choices.", param="n")
    room = min(decisions.max_model_len, decisions.kv_cache_tokens) - len(request.token_ids)
    if params.min_tokens > room:
        problem = f"min_tokens is {params.min_tokens}, but after this prompt the context has room for {room}."
        raise RequestError(f"{problem} Lower it, or shorten the prompt.", param="min_tokens")


def _check_search(request: GenerateRequest, search: BeamSearchParams, decisions: Decisions) -> None:
    """What a beam search needs, and what does not go with one."""
    params = request.sampling_params
    for name, value in (
        ("n", search.beam_width),
        ("max_tokens", search.max_tokens),
        ("ignore_eos", search.ignore_eos),
        ("include_stop_str_in_output", search.include_stop_str_in_output),
    ):
        if getattr(params, name) != value:
            problem = (
                f"sampling_params.{name} is {getattr(params, name)}, but beam_search says {value}: make them equal."
            )
            raise RequestError(problem, param=name)
    for name, limit, whose in (
        ("max_num_seqs", decisions.max_num_seqs, "sequences run at the same time"),
        ("vocab_size", decisions.vocab_size, "tokens are in the vocabulary"),
    ):
        if search.beam_width > limit:
            problem = (
                f"n is {search.beam_width}, but a search can have at most {limit} beams: so many {whose} ({name})."
            )
            raise RequestError(f"{problem} Ask for fewer.", param="n")
    if abs(search.length_penalty) > MAX_LENGTH_PENALTY:
        problem = (
            f"length_penalty is {search.length_penalty}; it goes from -{MAX_LENGTH_PENALTY} to {MAX_LENGTH_PENALTY}."
        )
        raise RequestError(problem, param="length_penalty")
    if request.stream:
        problem = "stream does not go with beam search: until it is over, any answer may still change."
        raise RequestError(f"{problem} Leave stream out.", param="stream")
    if not decisions.logprobs_mode.endswith("logprobs"):
        problem = f"Beam search compares log-probabilities, and this server reports {decisions.logprobs_mode}."
        raise RequestError(f"{problem} It needs another logprobs_mode.", param="use_beam_search")
    if decisions.applied_processors:
        named = ", ".join(decisions.applied_processors)
        problem = (
            f"This server applies logits processors to every request ({named}), and beam search would pass them by."
        )
        raise RequestError(f"{problem} Leave it out.", param="use_beam_search")
    for name, reason in NOT_WHILE_SEARCHING.items():
        if getattr(params, name):
            raise RequestError(f"{name} does not go with beam search: {reason}. Leave one of them out.", param=name)
