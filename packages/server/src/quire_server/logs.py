"""How the server's log lines look: as text or as JSON, each with the id of the request that it belongs to.

It knows no route and no engine. Lines go to standard error; what `quire serve` tells of its start goes to standard
output, in words.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Literal

LogFormat = Literal["text", "json"]

REQUEST: ContextVar[str] = ContextVar("quire_request_id", default="")
"""The id of the request that is being served here; empty outside of one."""

FACTS = "facts"
"""Under this name a record carries what a line says in fields: `log.info("request", extra={"facts": {…}})`."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, then the facts; a traceback under `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_request(),
            **facts(record),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:  # that of the engine's process comes as text
            told["error"] = record.exc_text
        return json.dumps(told, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """LEVEL logger: message field=value …, and the request's id in brackets; a traceback on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class calls it so)
        """The line, without a traceback."""
        told = "".join(f" {name}={_plain(value)}" for name, value in facts(record).items())
        identity = "".join(f" [{each}]" for each in _request().values())
        return super().formatMessage(record) + told + identity


def configure(log_format: LogFormat) -> None:
    """From now on every logger of this process writes such lines to standard error, unless it has its own handler.

    What the engine's process logs comes here too. Quire's own loggers write from the level info on, all others from
    warning.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("quire").setLevel(logging.INFO)


def tell(logger: logging.Logger, message: str, told: Mapping[str, Any]) -> None:
    """Log a line of facts, at the level info."""
    logger.info(message, extra={FACTS: told})


def facts(record: logging.LogRecord) -> Mapping[str, Any]:
    """What a record says in fields."""
    found: Mapping[str, Any] = getattr(record, FACTS, {})
    return found


def instant(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 has them: UTC, to the millisecond."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03}Z"


def _request() -> dict[str, str]:
    identity = REQUEST.get()
    return {"request_id": identity} if identity else {}


def _plain(value: Any) -> str:
    """A value on a line of text: quoted where it would fall apart, and never more than one line."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text.isprintable() and " " not in text and text else json.dumps(text)
