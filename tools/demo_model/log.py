"""What a training writes down: one JSON object a line, about a step or about a probe. Knows no training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Log:
    """A file of lines. Owns the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **line: Any) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> Iterator[dict[str, Any]]:
        """All of them, in order."""
        if self._path.is_file():
            yield from map(json.loads, self._path.read_text(encoding="utf-8").splitlines())

    def cut(self, step: int) -> None:
        """Forget what was written after this step: it will be done again."""
        kept = [line for line in self.lines() if line["step"] <= step]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
