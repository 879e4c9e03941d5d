"""The command line is the settings models, with their words."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError
from quire_server.cli import build_parser, main
from quire_server.flags import NOT_BUILT, NOTHING_TO_ASK, flag, read_flags, validated
from quire_server.settings import ServerSettings

MODELS = (EngineConfig, ServerSettings)


def parsed(*words: str) -> Namespace:
    return build_parser().parse_args(["serve", *words])


def asked(*words: str) -> tuple[EngineConfig, ServerSettings]:
    values = read_flags(parsed(*words), *MODELS)
    return validated(EngineConfig, values), validated(ServerSettings, values)


def refusal(*words: str) -> str:
    with pytest.raises(ConfigError) as error:
        asked(*words)
    return str(error.value)


def test_no_flags_ask_for_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUIRE_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert asked() == (EngineConfig(), ServerSettings())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_has_a_flag_with_its_docstring_as_help(model: type) -> None:
    actions = {action.dest: action for action in parsed().parser._actions}
    for name, field in model.model_fields.items():
        assert flag(name) in actions[name].option_strings
        assert field.description is not None
        assert actions[name].help.replace("%%", "%").startswith(field.description)


def test_flags_take_numbers_lists_choices_and_switches() -> None:
    config, settings = asked(
        *("some/model", "--dtype", "float32", "--max-num-seqs", "4", "--gpu-memory-utilization", "0.5"),
        *("--no-enable-prefix-caching", "--served-model-name", "a", "b", "--port", "0", "--allow-credentials"),
    )
    assert (config.model, config.dtype, config.max_num_seqs) == ("some/model", "float32", 4)
    assert (config.gpu_memory_utilization, config.enable_prefix_caching) == (0.5, False)
    assert (settings.served_model_name, settings.port, settings.allow_credentials) == (("a", "b"), 0, True)


@pytest.mark.parametrize("words", [("https://a.test", "https://b.test"), ('["https://a.test", "https://b.test"]',)])
def test_origins_are_words_or_a_json_list(words: tuple[str, ...]) -> None:
    assert asked("--allowed-origins", *words)[1].allowed_origins == ("https://a.test", "https://b.test")
    assert "--allowed-origins" in refusal("--allowed-origins", "[a")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--api-key", ""), "--api-key"),
        (("--admin-key", " x"), "--admin-key"),
        (("--public-paths", "metrics"), "--public-paths has metrics, which is no path"),
        (("--timeout-header", "0"), "--timeout-header"),
    ],
)
def test_what_would_open_or_close_too_much_is_refused(words: tuple[str, ...], told: str) -> None:
    assert told in refusal(*words)


@pytest.mark.parametrize(("written", "meant"), [("16k", 16_000), ("16K", 16_384), ("1.5K", 1536), ("2048", 2048)])
def test_a_whole_number_may_be_written_short(written: str, meant: int) -> None:
    assert asked("--max-model-len", written)[0].max_model_len == meant


def test_a_file_holds_flags_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "quire.yaml"
    file.write_text("model: from-file\nport: 1234\nserved-model-name: one\nmax_num_seqs: 7\nenforce-eager: true\n")
    config, settings = asked("--config", str(file), "--port", "99")
    assert (config.model, config.max_num_seqs, config.enforce_eager) == ("from-file", 7, True)
    assert (settings.port, settings.served_model_name) == (99, ("one",))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("prot: 1", "did you mean port?"),
        ("enable-lora: true", "--enable-lora is not supported: "),
        ("- a\n- b", "must hold flags and their values"),
        ("a: [", "cannot be read"),
        ("port: many", "--port must be an integer"),
    ],
)
def test_a_mistake_in_the_file_is_a_sentence(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "quire.yaml"
    file.write_text(content)
    assert told in refusal("--config", str(file))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-num-seqs", "0"], "--max-num-seqs must be at least 1, got 0."),
        (["--max-model-len", "long"], '--max-model-len must be an integer, got "long".'),
        (["--port", "70000"], "--port must be at most 65535, got 70000."),
        (["a", "--model", "b"], "The model is named twice, a and --model b: name it once."),
        (["--config", "/nowhere.yaml"], "--config /nowhere.yaml cannot be read: No such file or directory."),
    ],
)
def test_a_wrong_value_is_told_by_its_flag(words: list[str], told: str) -> None:
    assert refusal(*words) == told


@pytest.mark.parametrize("name", NOT_BUILT)
def test_a_flag_whose_feature_is_missing_is_refused_with_the_reason(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", f"--{name}", "1"]) == 2
    assert capsys.readouterr().err == f"quire: --{name} is not supported: {NOT_BUILT[name]}.\n"


def test_no_flag_is_both_built_and_refused() -> None:
    built = {flag(name).removeprefix("--") for model in MODELS for name in model.model_fields}
    assert built.isdisjoint(NOT_BUILT)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["serve", "--prot", "3"], "quire: --prot is not a flag here; did you mean --port?\n"),
        (["serve", "-tp", "2"], "quire: -tp is not supported: one model runs on one device so far.\n"),
        (["serve", "--dtype", "int7"], "quire serve: argument --dtype: invalid choice: 'int7' "),
    ],
)
def test_a_wrong_command_line_ends_with_two_and_one_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith(told)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--help"], ["serve", "--help"], ["check", "--help"], ["chat", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys\nfrom quire_server.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit as exit: assert not exit.code\n"
        "names = {'torch', 'transformers', 'fastapi', 'uvicorn', 'openai', 'tokenizers', 'msgspec'}\n"
        "heavy = names & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["QUIRE_API_KEY", "VLLM_API_KEY"])
def test_a_key_may_come_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUIRE_API_KEY", raising=False)
    monkeypatch.setenv(name, "secret")
    assert ServerSettings().api_key == ("secret",)
    assert ServerSettings(api_key=("given",)).api_key == ("given",)


def test_keys_are_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(ServerSettings(api_key=("secret",)))


@pytest.mark.parametrize("name", NOTHING_TO_ASK)
def test_a_switch_for_what_is_always_so_is_taken(name: str, tmp_path: Path) -> None:
    file = tmp_path / "quire.yaml"
    file.write_text(f"{name}: true\nport: 99\n")
    assert asked(f"--{name}", "--port", "99") == asked("--config", str(file)) == asked("--port", "99")
