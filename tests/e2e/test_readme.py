"""The README's first minute, as it stands there: what it prints is what the README says it prints."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.support.processes import quire_serve, run

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"


def test_the_first_minute_prints_what_the_readme_says(tmp_path: Path) -> None:
    shown = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    program, printed = shown.groups()
    assert HERE in program
    with quire_serve("--dtype", "float32") as server:
        (file := tmp_path / "minute.py").write_text(program.replace(HERE, server.address), encoding="utf-8")
        ended = run(sys.executable, str(file))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == printed
