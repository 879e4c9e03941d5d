"""Ask a real `quire serve` the recorded requests of the seed's system and count the checks that agree.

usage: python tools/conformance.py [FOLDER] [-v]

FOLDER holds cases.json, oracle.json, compare.py, record.py and checkpoint/. Two shares are printed: over the routes and
fields that are built (UNBUILT names what is not, by case), and over everything.
"""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

FLAGS = [
    "--served-model-name",
    "golden",
    "--dtype",
    "float32",
    "--max-model-len",
    "2048",
    "--enable-auto-tool-choice",
    "--tool-call-parser",
    "hermes",
    "--enable-prompt-tokens-details",
    "--enable-tokenizer-info-endpoint",
    "--port",
    "0",
]

# Cases that ask for what is refused today with a 400 that names the field, or a 404 for the route.
UNBUILT = (
    "resp/",
    "comp/suffix",
)


def serve(checkpoint: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the server on a free port and wait for the line that says where it listens."""
    command = [sys.executable, "-m", "quire_server", "serve", str(checkpoint), *FLAGS]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        print("   ", line, end="")
        if line.startswith("ready"):
            return server, line.split()[-1]
    raise SystemExit(f"the server ended with exit code {server.wait()} before it was ready")


def share(folder: Path, ours: Path, cases: list[dict[str, object]], *, verbose: bool) -> None:
    """Run the corpus's own comparison over these cases."""
    compare = SimpleNamespace(**runpy.run_path(str(folder / "compare.py")))
    compare.main.__globals__["CASES"][:] = cases
    sys.argv = ["compare.py", str(folder / "oracle.json"), str(ours), *(["-v"] if verbose else [])]
    compare.main()


def main() -> None:
    """Serve, record, compare twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/conformance"))
    parser.add_argument("-v", action="store_true", help="print every check that disagrees")
    options = parser.parse_args()
    if not (options.folder / "cases.json").is_file():
        raise SystemExit(f"{options.folder} has no cases.json: name the folder of the corpus")
    cases = json.loads((options.folder / "cases.json").read_text())
    server, url = serve(options.folder / "checkpoint")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            ours = Path(scratch) / "ours.json"
            record = [sys.executable, str(options.folder / "record.py"), url, str(ours)]
            subprocess.run(record, check=True, stdout=subprocess.DEVNULL)
            built = [case for case in cases if not str(case["id"]).startswith(UNBUILT)]
            print(f"\nbuilt ({len(built)} cases):")
            share(options.folder, ours, built, verbose=options.v)
            print(f"\neverything ({len(cases)} cases):")
            share(options.folder, ours, cases, verbose=False)
    finally:
        server.terminate()
        server.wait(timeout=30)


if __name__ == "__main__":
    main()
