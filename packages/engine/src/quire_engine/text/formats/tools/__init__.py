"""The formats of tool calls, in one table: how one is found by its name, or by the chat template of its models."""

from __future__ import annotations

from quire_engine.errors import ConfigError
from quire_engine.text.formats.base import ToolFormat
from quire_engine.text.formats.tools.deepseek import DEEPSEEK_V3, DEEPSEEK_V31
from quire_engine.text.formats.tools.glm4 import GLM4, GLM47
from quire_engine.text.formats.tools.granite import GRANITE
from quire_engine.text.formats.tools.harmony import HARMONY
from quire_engine.text.formats.tools.hermes import HERMES
from quire_engine.text.formats.tools.internlm import INTERNLM
from quire_engine.text.formats.tools.json_calls import JSON_CALLS
from quire_engine.text.formats.tools.kimi_k2 import KIMI_K2
from quire_engine.text.formats.tools.llama3_json import LLAMA3_JSON
from quire_engine.text.formats.tools.minimax import MINIMAX
from quire_engine.text.formats.tools.mistral import MISTRAL, MISTRAL_ARGS
from quire_engine.text.formats.tools.phi4_mini import PHI4_MINI, PHI4_MINI_TOKENS
from quire_engine.text.formats.tools.pythonic import LLAMA4_PYTHONIC, PYTHONIC
from quire_engine.text.formats.tools.qwen3_xml import QWEN3_XML, SEED_OSS

TOOL_FORMATS: tuple[ToolFormat, ...] = (
    # The first that knows a template is taken: those with marks of their own stand before those that share them.
    HARMONY,
    DEEPSEEK_V31,
    DEEPSEEK_V3,
    KIMI_K2,
    MINIMAX,
    GLM47,
    GLM4,
    LLAMA4_PYTHONIC,
    PYTHONIC,
    SEED_OSS,
    QWEN3_XML,
    INTERNLM,
    MISTRAL_ARGS,
    MISTRAL,
    PHI4_MINI,
    PHI4_MINI_TOKENS,
    GRANITE,
    HERMES,
    LLAMA3_JSON,
    JSON_CALLS,
)


def tool_format(name: str, template: str = "") -> ToolFormat:
    """The format that goes by this name. ConfigError, with all the names, if there is none.

    Where several versions of a format go by it, the one that the chat template of the model is of.
    """
    known = [each for each in TOOL_FORMATS if name == each.name or name in each.aliases]
    if not known:
        names = ", ".join(sorted(each.name for each in TOOL_FORMATS))
        raise ConfigError(f"tool_call_parser is {name}, which is not known: choose one of {names}, or auto")
    first = next((each for each in known if each.name == name), known[0])
    return next((each for each in known if each.wrote(template)), first)


def detect_tool_format(template: str) -> ToolFormat | None:
    """The format in which models with this chat template write calls; None if it is none that is known."""
    return next((known for known in TOOL_FORMATS if known.wrote(template)), None)
