"""`logits_processors`: code of the server's host that a request may name, if it was installed and allowed for that.

A name is looked up among entry points and nowhere else: a request can never make a server import what it likes.
"""

import re
from typing import Any, TypeAlias

from pydantic import ConfigDict

from quire_protocol.base import Many, OpenAIBaseModel
from quire_protocol.problems import field_error

ENTRY_POINTS = "quire.logits_processors"
"""The group in which packages register their processors."""


class LogitsProcessorConstructor(OpenAIBaseModel):
    """A processor to build for this request."""

    model_config = ConfigDict(extra="forbid")

    qualname: str
    """The registered name."""
    args: list[Any] | None = None
    """Positional arguments."""
    kwargs: dict[str, Any] | None = None
    """Keyword arguments."""


LogitsProcessors: TypeAlias = Many[str | LogitsProcessorConstructor]


def get_logits_processors(processors: LogitsProcessors | None, pattern: str | None) -> list[Any] | None:
    """The callables that a request names: registered under `ENTRY_POINTS`, and matched by the server's `pattern`.

    ValidationError, located at `logits_processors`, when a name is not both or cannot be loaded.
    """
    if not processors:
        return None
    if not pattern:
        problem = "are off on this server; --logits-processor-pattern says which ones it allows."
        raise field_error("logits_processors", problem, processors)
    return [_resolve(processor, pattern) for processor in processors]


def _resolve(processor: str | LogitsProcessorConstructor, pattern: str) -> Any:
    from importlib.metadata import entry_points  # here, as most programs that read schemas never need it

    name = processor if isinstance(processor, str) else processor.qualname
    if not re.match(pattern, name):
        problem = f'has "{name}", which --logits-processor-pattern does not allow on this server.'
        raise field_error("logits_processors", problem, name)
    registered = entry_points(group=ENTRY_POINTS)
    if name not in registered.names:
        known = ", ".join(sorted(registered.names)) or "none is installed"
        problem = f'has "{name}", which no installed package registers ({known}).'
        raise field_error("logits_processors", problem, name)
    try:
        found = registered[name].load()
        return found if isinstance(processor, str) else found(*processor.args or (), **processor.kwargs or {})
    except Exception as error:  # whatever foreign code raises when imported or built
        problem = f'has "{name}", which could not be made: {type(error).__name__}: {error}.'
        raise field_error("logits_processors", problem, name) from error
