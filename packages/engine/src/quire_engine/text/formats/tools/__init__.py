"""The formats of tool calls, in one table: how one is found by its name, or by the chat template of its models."""

from __future__ import annotations

from quire_engine.errors import ConfigError
from quire_engine.text.formats.base import ToolFormat
from quire_engine.text.formats.tools.harmony import HARMONY
from quire_engine.text.formats.tools.hermes import HERMES

TOOL_FORMATS: tuple[ToolFormat, ...] = (
    # The first that knows a template is taken: those with marks of their own stand before those that share them.
    HARMONY,
    HERMES,
)


def tool_format(name: str) -> ToolFormat:
    """The format that goes by this name. ConfigError, with all the names, if there is none."""
    for known in TOOL_FORMATS:
        if name == known.name or name in known.aliases:
            return known
    names = ", ".join(sorted(known.name for known in TOOL_FORMATS))
    raise ConfigError(f"tool_call_parser is {name}, which is not known: choose one of {names}, or auto")


def detect_tool_format(template: str) -> ToolFormat | None:
    """The format in which models with this chat template write calls; None if it is none that is known."""
    return next((known for known in TOOL_FORMATS if known.wrote(template)), None)
