"""What a worker is told when it starts, and what it says by its end. It knows neither of the two processes."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from quire_server.settings import ServerSettings

REFUSED = 2
"""The exit status where what was asked for cannot be."""

READY = "ready"
"""What a worker says once it answers; with it goes, as a JSON list of lines, what it knows of the form of answers."""
STOP, REREAD, PULSE = "stop", "reread", "pulse"
"""What a worker is told: to end in order, or at once if that is said again; to read its files again; to say that it is
there."""


class Brief(BaseModel):
    """What a worker is told beside the engine's configuration."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    settings: ServerSettings
    name: str
    """What the model is called unless it is named otherwise."""
    place: int
    """Which of the workers it is, from 0."""
    folder: Path
    """Where workers have their sockets for each other: this user's alone."""
