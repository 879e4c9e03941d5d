"""POST /v1/completions with a suffix, on a model whose tokenizer has markers for filling in the middle."""

from collections.abc import Iterator

import pytest
from tests.support.served import Api, served
from tests.support.tokenizer_kinds import byte_level_bpe, write_checkpoint

PATH = "/v1/completions"
GREEDY = {"temperature": 0, "max_tokens": 6, "ignore_eos": True}


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    backend = byte_level_bpe()
    backend.add_special_tokens(["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    folder = write_checkpoint(tmp_path_factory.mktemp("coder"), backend, eos_token="<|end|>")
    with served(tokenizer=str(folder)) as each:
        yield each.api()


def test_a_suffix_is_what_the_models_own_markers_say(coder: Api) -> None:
    written = coder.post(PATH, prompt="<fim_prefix>def f(<fim_suffix>): pass<fim_middle>", **GREEDY)
    filled = coder.post(PATH, prompt="def f(", suffix="): pass", **GREEDY)
    assert filled["choices"] == written["choices"]
    assert filled["usage"] == written["usage"]
    assert filled["choices"] != coder.post(PATH, prompt="def f(", **GREEDY)["choices"]


@pytest.mark.parametrize("as_ids", [False, True])
def test_echo_puts_the_prompt_alone_before_the_middle(coder: Api, as_ids: bool) -> None:
    middle = coder.post(PATH, prompt="def f(", suffix="): pass", **GREEDY)["choices"][0]["text"]
    prompt = coder.post("/tokenize", prompt="def f(")["tokens"] if as_ids else "def f("
    (choice,) = coder.post(PATH, prompt=prompt, suffix="): pass", echo=True, **GREEDY)["choices"]
    assert choice["text"] == "def f(" + middle


def test_a_model_without_markers_refuses_it(without_markers: Api) -> None:
    error = without_markers.refusal(PATH, prompt="a", suffix="b", stream=True)
    assert (error["code"], error["param"]) == (400, "suffix")
