"""`logits_processors`: code of the server's host that a request may name, if it was installed and allowed for that.

A name is looked up among entry points and nowhere else: a request can never make a server import what it likes.
Checking a name imports nothing; only building does.
"""

import re
from functools import cache
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


NamedProcessor: TypeAlias = str | LogitsProcessorConstructor
"""A name stands for what is registered under it; a constructor for what that gives when it is called."""
LogitsProcessors: TypeAlias = Many[NamedProcessor]


def allowed_logits_processors(
    processors: LogitsProcessors | None, pattern: str | None
) -> tuple[NamedProcessor, ...] | None:
    """The same, once each name is known to be registered under `ENTRY_POINTS` and matched by the server's `pattern`.

    ValidationError, located at `logits_processors`, for a name that is not both.
    """
    if not processors:
        return None
    if not pattern:
        problem = "are off on this server; --logits-processor-pattern says which ones it allows."
        raise field_error("logits_processors", problem, processors)
    registered = registered_logits_processors()
    for name in map(name_of, processors):
        if not re.match(pattern, name):
            problem = f'has "{name}", which --logits-processor-pattern does not allow on this server.'
            raise field_error("logits_processors", problem, name)
        if name not in registered:
            known = ", ".join(registered) or "none is installed"
            problem = f'has "{name}", which no installed package registers ({known}).'
            raise field_error("logits_processors", problem, name)
    return tuple(processors)


def get_logits_processors(processors: LogitsProcessors | None, pattern: str | None) -> list[Any] | None:
    """The callables that a request names, if they are allowed.

    ValidationError, located at `logits_processors`, when one is not, or cannot be built.
    """
    allowed = allowed_logits_processors(processors, pattern)
    return None if allowed is None else [build_logits_processor(processor) for processor in allowed]


def build_logits_processor(processor: NamedProcessor) -> Any:
    """The callable. ValidationError, located at `logits_processors`, if its code raises when imported or called."""
    try:
        if isinstance(processor, str):
            return load_logits_processor(processor)
        return load_logits_processor(processor.qualname)(*processor.args or (), **processor.kwargs or {})
    except Exception as error:  # whatever foreign code raises
        name = name_of(processor)
        problem = f'has "{name}", which could not be made: {type(error).__name__}: {error}.'
        raise field_error("logits_processors", problem, name) from error


def name_of(processor: NamedProcessor) -> str:
    """The registered name."""
    return processor if isinstance(processor, str) else processor.qualname


def registered_logits_processors() -> list[str]:
    """Every name that an installed package registers, sorted."""
    from importlib.metadata import entry_points  # here, as most programs that read schemas never need it

    return sorted(entry_points(group=ENTRY_POINTS).names)


@cache  # as an import is: what was found stays
def load_logits_processor(name: str) -> Any:
    """What is registered under a name, imported. KeyError if nothing is."""
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINTS)[name].load()
