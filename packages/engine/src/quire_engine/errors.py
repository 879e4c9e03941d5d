"""Every error the engine raises on purpose, drawn as a tree; it knows neither HTTP nor torch.

QuireError
├── ConfigError                 asked for something contradictory; nothing was loaded
│   └── ModelNotSupported       this checkpoint cannot be served, and why
├── RequestError                this request cannot be served; nobody else is affected
│   ├── PromptTooLong           the prompt does not fit the context
│   └── GrammarError            a schema, regex or grammar that cannot be used
├── Overloaded                  the waiting line is full; try again later
│   └── DeadlineUnreachable     its answer would come too late
├── DeviceFault                 the device computes nothing any more: the engine must be loaded again
└── EngineStopped               the engine ended for good
"""

from __future__ import annotations


class QuireError(Exception):
    """The root of Quire's own errors."""


class ConfigError(QuireError):
    """What was asked for contradicts itself or this machine; raised before any device work."""


class ModelNotSupported(ConfigError):
    """This checkpoint cannot be served; the message has the reason and the way out."""


class RequestError(QuireError):
    """This request cannot be served. `param` names the field, when one field is at fault."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLong(RequestError):
    """The prompt does not fit; the message states the length, the limit and the setting that raises it."""


class GrammarError(RequestError):
    """A schema, regex or grammar cannot be used; the message says where it is wrong."""


class Overloaded(QuireError):
    """The waiting line is full. `retry_after` is in seconds, `limit` the setting that says how much it holds."""

    def __init__(self, message: str, *, retry_after: float = 1.0, limit: str = "") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.limit = limit


class DeadlineUnreachable(Overloaded):
    """The request would not be answered before its deadline; the message has both times."""


class DeviceFault(QuireError):
    """Nothing can be computed any more in this process. `suspects` are the handles of the requests that it was at."""

    def __init__(self, message: str, *, suspects: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.suspects = suspects


class EngineStopped(QuireError):
    """The engine ended for good; no request will be answered any more.

    `suspects` are the handles of the requests that it was at, where it could still say so.
    """

    def __init__(self, message: str, *, suspects: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.suspects = suspects
