"""The flags of `quire serve` and `quire check`, generated from the settings models; it knows nothing of what they do.

A field and its docstring are a flag and its help. Flags win over `--config file.yaml`, and both are checked by the
models themselves, so that a mistake reads the same wherever it was made.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError
from quire_protocol.problems import restate

M = TypeVar("M", bound=BaseModel)

NOT_BUILT: Mapping[str, str] = dict.fromkeys(
    ("tensor-parallel-size", "pipeline-parallel-size", "distributed-executor-backend", "nnodes", "node-rank"),
    "one model runs on one device so far",
) | {
    "data-parallel-size": "one engine runs in a server so far; start several servers behind a proxy",
    "enable-expert-parallel": "one model runs on one device so far",
    "kv-cache-dtype": "keys and values are kept in the model's dtype so far",
    "load-format": "weights are read from safetensors only",
    "hf-overrides": "the checkpoint's config.json is taken as it is",
    "model-impl": "every model runs on transformers' own modelling code",
    "runner": "the server generates text; pooling models are not served",
    "override-generation-config": "point --generation-config at a folder with your own generation_config.json",
    "default-chat-template-kwargs": "send chat_template_kwargs with the request",
    "chat-template-content-format": "content parts are flattened as the template expects; there is nothing to choose",
    "enable-lora": "LoRA adapters are not built yet",
    "lora-modules": "LoRA adapters are not built yet",
    "structured-outputs-config": "there is one way in which forms are enforced, and nothing about it to choose",
    "tool-parser-plugin": "formats are those that --tool-call-parser can name",
    "tool-server": "built-in tools are not built yet",
    "reasoning-parser-plugin": "formats are those that --reasoning-parser can name",
    "reasoning-config": "the marks of reasoning are known by its format, which --reasoning-parser names",
    "speculative-config": "speculative decoding is not built yet",
    "kv-transfer-config": "KV transfer is not built yet",
    "kv-offloading-size": "the KV cache stays on the device so far",
    "limit-mm-per-prompt": "multimodal input is not built yet",
    "allowed-local-media-path": "multimodal input is not built yet",
    "compilation-config": "nothing is compiled at start-up; --fusion and --enforce-eager are what there is to choose",
    "cudagraph-capture-sizes": "graphs are captured for the sizes that occur",
    "attention-backend": "there is one attention backend so far",
    "stream-interval": "every delivery is sent as it comes",
    "middleware": "the server runs no foreign middleware",
}
"""Flags of the system that people come from whose feature is missing here: flag → reason."""

NOTHING_TO_ASK: Mapping[str, str] = {
    "enable-chunked-prefill": "prompts are always computed in chunks",
    "enable-request-id-headers": "answers always carry their request's id",
    "enable-auto-tool-choice": "the model calls tools as it likes wherever the format of its calls is known",
    "enable-sleep-mode": "the engine can always be put to sleep, with an admin key",
    "enable-scale-out": "/inference/v1/generate is always there",
    "disable-log-requests": "requests are logged only where --enable-log-requests asks for it",
    "enable-server-load-tracking": "GET /load always tells",
    "disable-log-stats": "statistics are not logged",
}
"""Switches of that system which ask for what is always so here; they are taken: flag → why."""

SHORT: Mapping[str, str] = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-q": "quantization",
    "-O": "compilation-config",
}
"""Short forms of some of these."""

_MULTIPLES = {"k": 1000, "K": 1 << 10, "m": 1000**2, "M": 1 << 20, "g": 1000**3, "G": 1 << 30}
_MULTIPLE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG])")


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one sentence and ends with status 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> Any:
        """Print the sentence, without the list of all flags, and exit."""
        self.exit(2, f"{self.prog}: {message}\n")


def add_flags(parser: argparse.ArgumentParser, *models: type[BaseModel]) -> None:
    """A positional MODEL, --config, and one flag for every field of the models."""
    parser.add_argument(
        "positional_model", metavar="MODEL", nargs="?", help=EngineConfig.model_fields["model"].description
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these flags; flags given here win.")
    for model in models:
        group = parser.add_argument_group((model.__doc__ or "").partition(".")[0].lower())
        for name, field in model.model_fields.items():
            group.add_argument(flag(name), dest=name, default=argparse.SUPPRESS, **_argument(name, field))
    taken = parser.add_argument_group("taken, as there is nothing to ask for")
    for name, reason in NOTHING_TO_ASK.items():
        taken.add_argument(flag(name), action="store_true", help=f"{reason.capitalize()}.")


def read_flags(namespace: argparse.Namespace, *models: type[BaseModel]) -> dict[str, Any]:
    """What was asked for of these models' fields, by flags and by the file under --config. ConfigError if muddled."""
    given = vars(namespace)
    known = {name: field for model in models for name, field in model.model_fields.items()}
    asked = {**read_file(given["config"], known), **{name: given[name] for name in known if name in given}}
    if positional := given["positional_model"]:
        if "model" in given:
            raise ConfigError(f"The model is named twice, {positional} and --model {given['model']}: name it once.")
        asked["model"] = positional
    return asked


def validated(model: type[M], asked: Mapping[str, Any]) -> M:
    """The model, from those of its fields that were asked for. ConfigError says what is wrong, by its flag."""
    own = {name: _number(model.model_fields[name], asked[name]) for name in asked.keys() & model.model_fields.keys()}
    try:
        return model.model_validate(own)
    except ValidationError as error:
        first = restate(error, own).errors()[0]
        name = str(first["loc"][0])
        raise ConfigError(first["msg"].replace(name, flag(name), 1)) from error


def refuse_flags_not_built(arguments: Iterable[str]) -> None:
    """ConfigError with the reason, for a flag whose feature is missing here."""
    for argument in arguments:
        word = argument.partition("=")[0]
        name = SHORT.get(word, word.removeprefix("--") if word.startswith("--") else "").replace("_", "-")
        if reason := NOT_BUILT.get(name):
            raise ConfigError(f"{word} is not supported: {reason}.")


def unknown_flags(words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """One sentence about arguments that mean nothing, with the nearest flag."""
    first = next((word for word in words if word.startswith("-")), words[0]).partition("=")[0]
    flags = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(first, flags, n=1)
    return f"{first} is not a flag here{f'; did you mean {near[0]}?' if near else '.'}"


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"


def read_file(path: str | None, known: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The settings in a YAML file, under the names of fields."""
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "problem", None) or "it is not UTF-8 text"
        raise ConfigError(f"--config {path} cannot be read: {reason}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path} must hold flags and their values, one `flag: value` a line.")
    asked = {str(key).replace("-", "_"): value for key, value in content.items()}
    refuse_flags_not_built(flag(name) for name in asked)
    asked = {name: value for name, value in asked.items() if flag(name).removeprefix("--") not in NOTHING_TO_ASK}
    if strange := sorted(asked.keys() - known.keys()):
        near = difflib.get_close_matches(strange[0], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(f"--config {path}: {strange[0]} is not a flag of this command{hint}")
    return {
        name: [value] if _is_list(known[name].annotation) and not isinstance(value, list) else value
        for name, value in asked.items()
    }


def _argument(name: str, field: FieldInfo) -> dict[str, Any]:
    """What argparse must know of a field: its kind, its choices, and its help."""
    kind = _unwrapped(field.annotation)
    default = field.get_default()
    told = "" if default in (None, (), "") or field.default_factory else f" (default: {_written(default)})"
    options: dict[str, Any] = {"help": f"{field.description}{told}".replace("%", "%%")}
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif get_origin(kind) is Literal:
        options["choices"] = get_args(kind)
    else:
        options["metavar"] = name.rpartition("_")[2].upper()
        if _is_list(kind):
            options["nargs"] = "+"
    return options


def _unwrapped(annotation: Any) -> Any:
    """The type itself, without `| None` and without what Annotated adds."""
    if get_origin(annotation) is Annotated:
        return _unwrapped(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        (kind,) = (each for each in get_args(annotation) if each is not NoneType)
        return _unwrapped(kind)
    return annotation


def _is_list(annotation: Any) -> bool:
    return get_origin(_unwrapped(annotation)) in (list, tuple)


def _number(field: FieldInfo, value: Any) -> Any:
    """A word as the number it spells, where a number is wanted; `16k` is 16,000 and `16K` is 16,384."""
    kind = _unwrapped(field.annotation)
    if not isinstance(value, str) or kind not in (int, float):
        return value
    if kind is int and (match := _MULTIPLE.fullmatch(value)):
        return int(float(match[1]) * _MULTIPLES[match[2]])
    try:
        return kind(value)
    except ValueError:
        return value


def _written(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
