"""Code that installed packages bring into sampling: found by name, built for one sequence at a time. No torch.

A registered object is one of two things, and whoever names it knows which: a processor, which changes logits, or what
gives one when it is called (a class, a function). Those that the server applies to every request are of the second
kind, and the names of their parameters are the extra arguments of a request that they take.

A processor is called as `processor(output_ids, logits)`, or as `processor(prompt_ids, output_ids, logits)` if it has
three parameters: lists of token ids, and the float32 logits [vocabulary] of the next token, which are its own to
change. It returns the logits. One that has nothing to do for a request is None instead.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from quire_engine.errors import ConfigError, RequestError
from quire_protocol import LogitsProcessorConstructor, SamplingParams
from quire_protocol.logits_processors import (
    NamedProcessor,
    build_logits_processor,
    load_logits_processor,
    name_of,
    registered_logits_processors,
)


class ProcessorFailed(Exception):
    """A logits processor raised, or gave something that is no logits."""


class Applied(LogitsProcessorConstructor):
    """A processor that the server applies, with the extra arguments that the request has for it."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A registered object that the server applies to every request."""

    name: str
    takes: frozenset[str]
    """The extra arguments that it takes."""

    @classmethod
    def load(cls, name: str) -> Extension:
        """Import what is registered under this name. ConfigError if that cannot be applied to every request."""
        try:
            parameters = inspect.signature(load_logits_processor(name)).parameters.values()
        except KeyError:
            known = ", ".join(registered_logits_processors()) or "none is installed"
            raise ConfigError(f"logits_processors has {name}, which no installed package registers ({known})") from None
        except Exception as error:  # whatever foreign code raises when it is imported
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"logits_processors has {name}, which cannot be loaded: {reason}") from error
        named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        if needed := [each.name for each in named if each.default is each.empty]:
            raise ConfigError(
                f"logits_processors has {name}, whose parameter {needed[0]} has no default: it is applied to every "
                "request, also to those that do not set it"
            )
        return cls(name, frozenset(each.name for each in named))

    def asked(self, extra: Mapping[str, Any]) -> Applied:
        """How to build it for a request with these extra arguments."""
        return Applied(qualname=self.name, kwargs={name: extra[name] for name in self.takes & extra.keys()})


def applied(params: SamplingParams, extensions: Iterable[Extension]) -> SamplingParams:
    """The same, with the server's own processors before those that the request names."""
    own = tuple(extension.asked(params.extra_args or {}) for extension in extensions)
    return replace(params, logits_processors=(*own, *(params.logits_processors or ()))) if own else params


def allowed_names(pattern: str | None) -> tuple[str, ...]:
    """The registered names that requests may give, on a server with this pattern."""
    return tuple(name for name in registered_logits_processors() if pattern and re.match(pattern, name))


class Processors:
    """The logits processors of one sequence, in order.

    They are built when its first logits are there, so that whatever their code raises ends this sequence alone, and
    stay with it: a processor may remember what it has seen.
    """

    def __init__(self, named: tuple[NamedProcessor, ...]) -> None:
        self._named = named
        self._built: list[tuple[str, Callable[..., Any], bool]] | None = None

    def prepare(self) -> bool:
        """Build them, the first time; whether any has something to do. RequestError if one cannot be built."""
        if self._built is None:
            self._built = [*self._build()]
        return bool(self._built)

    def __call__(self, prompt: list[int], output: list[int], logits: Any) -> Any:
        """The logits that the last one gives. ProcessorFailed if one fails."""
        for name, processor, wants_prompt in self._built or ():
            try:
                logits = processor(prompt, output, logits) if wants_prompt else processor(output, logits)
            except Exception as error:  # whatever foreign code raises
                reason = f"{type(error).__name__}: {error}"
                raise ProcessorFailed(f'The logits processor "{name}" failed: {reason}.') from error
        return logits

    def _build(self) -> Iterator[tuple[str, Callable[..., Any], bool]]:
        for named in self._named:
            name = name_of(named)
            field = "vllm_xargs" if isinstance(named, Applied) else "logits_processors"
            try:
                processor = build_logits_processor(named)
            except ValidationError as error:
                reason = f"{type(error.__cause__).__name__}: {error.__cause__}"
                raise RequestError(
                    f'The logits processor "{name}" could not be made: {reason}.', param=field
                ) from error
            if processor is not None:
                yield name, processor, _wants_prompt(name, processor, field)


def _wants_prompt(name: str, processor: Any, field: str) -> bool:
    """Whether a processor takes the prompt beside output and logits. RequestError if it can take neither."""
    try:
        return len(inspect.signature(processor).parameters) == 3
    except (TypeError, ValueError) as error:  # no callable, or one that does not say what it takes
        problem = (
            f'"{name}" gave an object of type {type(processor).__name__}, which cannot be called as a logits processor.'
        )
        raise RequestError(problem, param=field) from error
