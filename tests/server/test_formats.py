"""The formats of reasoning and of tool calls: named, seen in the chat template, or none."""

from pathlib import Path

import pytest
from tests.support.letters import letters
from tests.support.scripted import scripted_decisions
from tests.support.tokenizer_kinds import write_checkpoint

from quire_engine.errors import ConfigError
from quire_engine.text.tokenizer import Tokenizer
from quire_server.flags import validated
from quire_server.formats import answers_of, described
from quire_server.settings import ServerSettings

QWEN = "{% if tools %}<tool_call></tool_call>{% endif %}{{ messages[0].content.split('</think>')[-1] }}"
PLAIN = "{{ messages[0].content }}"
DECISIONS = scripted_decisions()


def settings(**fields: object) -> ServerSettings:
    return ServerSettings(api_key=(), **fields)


def tokenizer(folder: Path, template: str | None) -> Tokenizer:
    given = {} if template is None else {"chat_template": template}
    return Tokenizer.load(write_checkpoint(folder, letters(), eos_token="<|end|>", **given))


def names(asked: ServerSettings, model: Tokenizer) -> tuple[str | None, str | None]:
    picked = answers_of(model, asked, DECISIONS)
    return picked.tools and picked.tools.name, picked.reasoning and picked.reasoning.name


def test_the_chat_template_shows_them(tmp_path: Path) -> None:
    assert names(settings(), tokenizer(tmp_path, QWEN)) == ("hermes", "think_tags")


@pytest.mark.parametrize("template", [PLAIN, None])
def test_a_template_that_shows_none_and_no_template_leave_them_unknown(tmp_path: Path, template: str | None) -> None:
    model = tokenizer(tmp_path, template)
    assert names(settings(), model) == (None, None)
    told = dict(described(answers_of(model, settings(), DECISIONS), settings()))
    assert "--tool-call-parser names one" in told["tools"]
    assert "--reasoning-parser names one" in told["thinking"]


def test_the_server_s_own_template_counts(tmp_path: Path) -> None:
    assert names(settings(chat_template=QWEN), tokenizer(tmp_path, PLAIN)) == ("hermes", "think_tags")


def test_a_name_or_another_name_of_it_is_taken_whatever_the_template_shows(tmp_path: Path) -> None:
    asked = settings(tool_call_parser="hermes", reasoning_parser="deepseek_r1")
    model = tokenizer(tmp_path, PLAIN)
    assert names(asked, model) == ("hermes", "think_tags")
    assert (
        dict(described(answers_of(model, asked, DECISIONS), asked))["tools"]
        == "as hermes does, which --tool-call-parser names"
    )


def test_of_the_versions_that_share_a_name_the_template_shows_which(tmp_path: Path) -> None:
    asked = settings(tool_call_parser="mistral")
    template = "{% if tools %}[TOOL_CALLS]{{ name }}[ARGS]{% endif %}{{ messages[0].content }}"
    assert names(asked, tokenizer(tmp_path / "new", template))[0] == "mistral_args"
    assert names(asked, tokenizer(tmp_path / "old", template.replace("[ARGS]", "")))[0] == "mistral"


def test_none_reads_none(tmp_path: Path) -> None:
    asked = settings(tool_call_parser="none", reasoning_parser="none")
    model = tokenizer(tmp_path, QWEN)
    assert names(asked, model) == (None, None)
    assert (
        dict(described(answers_of(model, asked, DECISIONS), asked))["tools"]
        == "not told apart, as --tool-call-parser says"
    )


@pytest.mark.parametrize("flag", ["--tool-call-parser", "--reasoning-parser"])
def test_a_name_that_none_goes_by_is_refused_with_those_there_are(flag: str) -> None:
    with pytest.raises(ConfigError) as refused:
        validated(ServerSettings, {flag.removeprefix("--").replace("-", "_"): "nonsense"})
    assert str(refused.value).startswith(f"{flag} is nonsense, which is not known: choose one of ")
