"""Continuous batching over a paged KV cache, with transformers as the model layer.

`LLM` answers prompts offline; `AsyncEngine` serves an event loop. Every public name is imported when it is first used,
so `import quire_engine` brings no torch along.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire_engine.__about__ import __version__ as __version__
    from quire_engine.async_engine import AsyncEngine as AsyncEngine
    from quire_engine.async_engine import RequestOutputs as RequestOutputs
    from quire_engine.config import Decisions as Decisions
    from quire_engine.config import EngineConfig as EngineConfig
    from quire_engine.errors import ConfigError as ConfigError
    from quire_engine.errors import EngineStopped as EngineStopped
    from quire_engine.errors import GrammarError as GrammarError
    from quire_engine.errors import ModelNotSupported as ModelNotSupported
    from quire_engine.errors import Overloaded as Overloaded
    from quire_engine.errors import PromptTooLong as PromptTooLong
    from quire_engine.errors import QuireError as QuireError
    from quire_engine.errors import RequestError as RequestError
    from quire_engine.llm import LLM as LLM
    from quire_engine.llm import CompletionOutput as CompletionOutput
    from quire_engine.llm import RequestOutput as RequestOutput
    from quire_engine.stats import Stats as Stats
    from quire_engine.text.output import Output as Output
    from quire_protocol import GenerateRequest as GenerateRequest
    from quire_protocol import SamplingParams as SamplingParams

_MODULE_OF = {
    "LLM": "quire_engine.llm",
    "AsyncEngine": "quire_engine.async_engine",
    "CompletionOutput": "quire_engine.llm",
    "ConfigError": "quire_engine.errors",
    "Decisions": "quire_engine.config",
    "EngineConfig": "quire_engine.config",
    "EngineStopped": "quire_engine.errors",
    "GenerateRequest": "quire_protocol",
    "GrammarError": "quire_engine.errors",
    "ModelNotSupported": "quire_engine.errors",
    "Output": "quire_engine.text.output",
    "Overloaded": "quire_engine.errors",
    "PromptTooLong": "quire_engine.errors",
    "QuireError": "quire_engine.errors",
    "RequestError": "quire_engine.errors",
    "RequestOutput": "quire_engine.llm",
    "RequestOutputs": "quire_engine.async_engine",
    "SamplingParams": "quire_protocol",
    "Stats": "quire_engine.stats",
    "__version__": "quire_engine.__about__",
}
"""Every public name, and where it lives."""

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
