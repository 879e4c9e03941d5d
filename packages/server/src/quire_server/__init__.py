"""The OpenAI-compatible HTTP server of Quire, and the `quire` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire_server.__about__ import __version__

if TYPE_CHECKING:
    from quire_server.app import attach, build_app
    from quire_server.settings import ServerSettings

__all__ = ["ServerSettings", "__version__", "attach", "build_app"]

_HOMES = {
    "ServerSettings": "quire_server.settings",
    "attach": "quire_server.app",
    "build_app": "quire_server.app",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
