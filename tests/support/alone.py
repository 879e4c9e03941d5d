"""Run as a script by `nox -s wheels`: import one installed package alone and check what came with it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

ABSENT = {
    "protocol": ("torch", "transformers", "fastapi", "quire_kernels", "quire_engine", "quire_server"),
    "kernels": ("transformers", "fastapi", "pydantic", "quire_protocol", "quire_engine", "quire_server"),
    "engine": ("fastapi", "uvicorn", "quire_server"),
    "server": (),
}


def main(name: str) -> None:
    """Import quire_<name> and each of its public names; fail if a package that it must not need is there."""
    present = [other for other in ABSENT[name] if importlib.util.find_spec(other)]
    assert not present, f"quire-{name} brought {present} along"
    package = importlib.import_module(f"quire_{name}")
    for public in package.__all__:
        getattr(package, public)
    if name == "server":
        subprocess.run([Path(sys.executable).with_name("quire"), "--help"], check=True, stdout=subprocess.DEVNULL)
    print(f"quire-{name} {importlib.metadata.version(f'quire-{name}')}: {len(package.__all__)} public names, alone")


if __name__ == "__main__":
    main(sys.argv[1])
