"""Log-probabilities over HTTP are transformers' own: of answers and prompts, in every number that may be asked for."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.support.served import Api, Served, served
from torch import Tensor
from transformers import AutoModelForCausalLM

COMPLETIONS, CHAT, GENERATE = "/v1/completions", "/v1/chat/completions", "/inference/v1/generate"
PROMPT = "def fold(items):\n    total = 0\n    for each in items: total = total + each\n" * 4
DRAWN: dict[str, Any] = {"temperature": 1.5, "seed": 3, "max_tokens": 8, "ignore_eos": True}
MESSAGES = [{"role": "user", "content": PROMPT}]
COUNTS = [0, 3, -1]
CLOSE = 1e-4


@pytest.fixture(scope="module")
def engine() -> Iterator[Served]:
    """One that computes prompts in chunks of 32 tokens, and reports whole vocabularies."""
    with served(max_num_batched_tokens=32, max_logprobs=-1) as each:
        yield each


@pytest.fixture(scope="module")
def api(engine: Served) -> Api:
    return engine.api()


@pytest.fixture(scope="module")
def model(engine: Served) -> Any:
    return AutoModelForCausalLM.from_pretrained(engine.engine.decisions.model_path, dtype=torch.float32).eval()


def reference(model: Any, ids: list[int]) -> Tensor:
    """[T, V]: row p has the log-probabilities of the token at position p + 1."""
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def close(found: dict[int, float], row: Tensor) -> bool:
    """Whether all of these are what the row says."""
    ids = torch.tensor(list(found))
    return bool((torch.tensor(list(found.values())) - row[ids]).abs().max() < CLOSE)


def by_id(candidates: dict[str, Any]) -> dict[int, Any]:
    return {int(name.removeprefix("token_id:")): value for name, value in candidates.items()}


def likeliest(row: Tensor, count: int) -> set[int]:
    return set(row.topk(len(row) if count == -1 else count).indices.tolist())


def check_prompt(found: list[Any], ids: list[int], expected: Tensor, count: int) -> None:
    """Entries of `prompt_logprobs`: null first, then each token and the likeliest, with ranks."""
    assert len(found) == len(ids) > 100
    assert found[0] is None
    for token, entry, row in zip(ids[1:], found[1:], expected, strict=False):
        candidates = {int(each): value["logprob"] for each, value in entry.items()}
        assert set(candidates) == likeliest(row, count) | {token}
        assert close(candidates, row)
        assert abs(entry[str(token)]["rank"] - 1 - int((row > row[token]).sum())) <= 1  # near ties may swap


@pytest.mark.parametrize("count", COUNTS)
def test_of_a_completion(api: Api, model: Any, count: int) -> None:
    body = {"prompt": PROMPT, "logprobs": count, "return_token_ids": True, "return_tokens_as_token_ids": True, **DRAWN}
    (choice,) = api.post(COMPLETIONS, **body)["choices"]
    ids, logprobs = choice["token_ids"], choice["logprobs"]
    rows = reference(model, choice["prompt_token_ids"] + ids)[-len(ids) - 1 :]
    for token, logprob, candidates, row in zip(
        ids, logprobs["token_logprobs"], logprobs["top_logprobs"], rows, strict=False
    ):
        assert logprob == pytest.approx(float(row[token]), abs=CLOSE)
        assert set(by_id(candidates)) == likeliest(row, count) | {token}
        assert close(by_id(candidates), row)


@pytest.mark.parametrize("stream", [False, True])
def test_offsets_are_those_of_the_text_however_tokens_are_named(api: Api, stream: bool) -> None:
    body = {"prompt": PROMPT, "logprobs": 0, "echo": True, "return_tokens_as_token_ids": True, **DRAWN}
    answers = api.stream(COMPLETIONS, **body) if stream else [api.post(COMPLETIONS, **body)]
    choices = [answer["choices"][0] for answer in answers]
    text = "".join(choice["text"] for choice in choices)
    names, offsets = (
        [each for choice in choices for each in choice["logprobs"][field]] for field in ("tokens", "text_offset")
    )
    ids = [int(name.removeprefix("token_id:")) for name in names]
    for (start, end), token in zip(pairwise([*offsets, len(text)]), ids, strict=True):
        shown = api.post("/detokenize", tokens=[token])["prompt"]
        assert "\ufffd" in shown or text[start:end] in (shown, "")
    assert offsets[0] == 0


@pytest.mark.parametrize("count", COUNTS)
def test_of_an_echoed_prompt(api: Api, model: Any, count: int) -> None:
    body = {"prompt": PROMPT, "logprobs": count, "echo": True, "max_tokens": 1, "temperature": 0}
    (choice,) = api.post(COMPLETIONS, **body, return_token_ids=True, return_tokens_as_token_ids=True)["choices"]
    ids = choice["prompt_token_ids"] + choice["token_ids"]
    rows = reference(model, ids)
    logprobs = choice["logprobs"]
    assert logprobs["tokens"] == [f"token_id:{token}" for token in ids]
    assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
    for token, logprob, candidates, row in zip(
        ids[1:], logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:], rows, strict=False
    ):
        assert logprob == pytest.approx(float(row[token]), abs=CLOSE)
        assert set(by_id(candidates)) == likeliest(row, count) | {token}
        assert close(by_id(candidates), row)
    check_prompt(choice["prompt_logprobs"], choice["prompt_token_ids"], rows, count)


@pytest.mark.parametrize("count", COUNTS)
def test_of_a_message_with_the_likeliest_apart_from_the_drawn_one(api: Api, model: Any, count: int) -> None:
    body = {"messages": MESSAGES, "logprobs": True, "top_logprobs": count, "return_token_ids": True, **DRAWN}
    answer = api.post(CHAT, **body, return_tokens_as_token_ids=True)
    (choice,) = answer["choices"]
    rows = reference(model, answer["prompt_token_ids"] + choice["token_ids"])[-len(choice["token_ids"]) - 1 :]
    for token, entry, row in zip(choice["token_ids"], choice["logprobs"]["content"], rows, strict=False):
        top = [(int(each["token"].removeprefix("token_id:")), each["logprob"]) for each in entry["top_logprobs"]]
        assert entry["token"] == f"token_id:{token}"
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=CLOSE)
        assert {each for each, _ in top} == likeliest(row, count)
        assert [logprob for _, logprob in top] == sorted((logprob for _, logprob in top), reverse=True)
        assert not top or close(dict(top), row)


def test_bytes_put_together_are_the_message(api: Api) -> None:
    spoken = {"chat_template_kwargs": {"enable_thinking": False}, "skip_special_tokens": False}
    (choice,) = api.post(CHAT, messages=MESSAGES, logprobs=True, **spoken, **DRAWN)["choices"]
    whole = b"".join(bytes(entry["bytes"]) for entry in choice["logprobs"]["content"])
    assert whole.decode(errors="replace").startswith(choice["message"]["content"].rstrip("\ufffd"))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_of_a_prompt_computed_in_chunks(api: Api, model: Any, path: str, count: int) -> None:
    ids = api.post("/tokenize", prompt=PROMPT)["tokens"]
    if path == GENERATE:
        params = {"prompt_logprobs": count, "max_tokens": 1}
        found = api.post(path, token_ids=ids, sampling_params=params)["prompt_logprobs"]
    elif path == COMPLETIONS:
        found = api.post(path, prompt=ids, prompt_logprobs=count, max_tokens=1)["choices"][0]["prompt_logprobs"]
    else:
        body = {"messages": MESSAGES, "prompt_logprobs": count, "max_tokens": 1, "return_token_ids": True}
        answer = api.post(path, **body)
        found, ids = answer["prompt_logprobs"], answer["prompt_token_ids"]
    check_prompt(found, ids, reference(model, ids), count)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (COMPLETIONS, {"prompt": "x", "logprobs": -1}, "logprobs"),
        (COMPLETIONS, {"prompt": "x", "logprobs": 21}, "logprobs"),
        (COMPLETIONS, {"prompt": "x", "prompt_logprobs": -1}, "prompt_logprobs"),
        (CHAT, {"messages": MESSAGES, "logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        (CHAT, {"messages": MESSAGES, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"messages": MESSAGES, "prompt_logprobs": 21}, "prompt_logprobs"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_more_than_the_server_gives_is_refused_before_a_stream_begins(
    limited: Api, path: str, body: dict[str, Any], field: str, stream: bool
) -> None:
    if field == "prompt_logprobs" and stream:
        return
    error = limited.refusal(path, **body, stream=stream)
    assert (error["code"], error["param"]) == (400, field)


@pytest.fixture(scope="module")
def limited() -> Iterator[Api]:
    with served() as each:
        yield each.api()


@pytest.mark.parametrize("mode", ["raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"])
def test_a_server_reports_what_it_was_told_to(model: Any, mode: str) -> None:
    ids = [10, 20, 30, 40]
    body = {"prompt": ids, "max_tokens": 1, "temperature": 0.5, "top_k": 4, "logit_bias": {"7": 3.0}, "seed": 1}
    with served(logprobs_mode=mode, max_logprobs=-1) as engine:
        (choice,) = engine.api().post(
            COMPLETIONS, **body, logprobs=-1, prompt_logprobs=2, return_tokens_as_token_ids=True
        )["choices"]
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    expected = logits[-1].clone()
    if mode.startswith("processed"):
        expected[7] += 3.0
        expected /= 0.5
        expected[expected < expected.topk(4).values[-1]] = float("-inf")
    is_normalized = mode.endswith("logprobs")
    if is_normalized:
        expected = expected.log_softmax(-1)
    found = by_id(choice["logprobs"]["top_logprobs"][0])
    assert len(found) == len(expected)
    assert all(
        found[token] == pytest.approx(max(value, -9999.0), abs=1e-3) for token, value in enumerate(expected.tolist())
    )
    assert (-9999.0 in found.values()) == mode.startswith("processed")
    about_prompt = logits.log_softmax(-1) if is_normalized else logits
    for entry, row in zip(choice["prompt_logprobs"][1:], about_prompt, strict=False):
        assert close({int(token): value["logprob"] for token, value in entry.items()}, row)
