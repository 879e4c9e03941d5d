"""The formats of reasoning, in one table: how one is found by its name, or by the chat template of its models."""

from __future__ import annotations

from quire_engine.errors import ConfigError
from quire_engine.text.formats.base import ReasoningFormat
from quire_engine.text.formats.reasoning.gemma4 import GEMMA4
from quire_engine.text.formats.reasoning.granite import GRANITE
from quire_engine.text.formats.reasoning.harmony import HARMONY
from quire_engine.text.formats.reasoning.mistral import MISTRAL
from quire_engine.text.formats.reasoning.seed_oss import SEED_OSS
from quire_engine.text.formats.reasoning.think_tags import THINK_TAGS

REASONING_FORMATS: tuple[ReasoningFormat, ...] = (
    # The first that knows a template is taken. Think tags come last: other models' templates take them out of history.
    HARMONY,
    GEMMA4,
    MISTRAL,
    SEED_OSS,
    GRANITE,
    THINK_TAGS,
)


def reasoning_format(name: str) -> ReasoningFormat:
    """The format that goes by this name. ConfigError, with all the names, if there is none."""
    for known in REASONING_FORMATS:
        if name == known.name or name in known.aliases:
            return known
    names = ", ".join(sorted(known.name for known in REASONING_FORMATS))
    raise ConfigError(f"reasoning_parser is {name}, which is not known: choose one of {names}, or auto")


def detect_reasoning_format(template: str) -> ReasoningFormat | None:
    """The format in which models with this chat template reason; None if it is none that is known."""
    return next((known for known in REASONING_FORMATS if known.wrote(template)), None)
