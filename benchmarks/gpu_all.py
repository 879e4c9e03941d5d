"""What there is to know of a GPU host in one go: are the answers right, how fast are the ops, how fast the engine.

usage: python -m benchmarks.gpu_all [--wheels FOLDER] [--minutes 9] [--out FOLDER]

Run it from a checkout, on a host whose Python has torch, triton and transformers. What else is needed is either
installed (`nox -s gpu` does that) or lies as wheels in FOLDER (without one, `wheels` beside the checkout or in it):
those of the packages' requirements, and of pytest, pytest-timeout and hypothesis, without which correctness is left
out. They are unpacked into a temporary folder; nothing is installed and no index is asked. The parts run one after the
other, each under a time limit of its own; one that fails or takes too long does not keep the others from running. The
tables come last, and the exit status is that of correctness. Without a CUDA device it says so, and that is all.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bench

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("protocol", "kernels", "engine", "server")
SETUP = 30.0
"""Seconds that unpacking and asking for the device may take."""


@dataclass(frozen=True)
class Part:
    """One thing to find out."""

    name: str
    command: tuple[str, ...]
    share: float
    """Of the time there is, at most."""
    needs: tuple[str, ...] = ()
    """Modules without which it is left out."""


@dataclass(frozen=True)
class Outcome:
    """What came of a part."""

    part: Part
    said: str
    seconds: float
    log: Path


def parts(out: Path, cache: Path) -> tuple[Part, ...]:
    """In the order in which they are run: what is wrong need not be fast."""

    def script(name: str, *options: str) -> tuple[str, ...]:
        return ("-m", f"benchmarks.{name}", "--device", "cuda", "--json", str(out / f"{name}.json"), *options)

    engine = ("--cache", str(cache), "--rounds", "2", "--batches", "1", "32", "--contexts", "1024", "--output", "128")
    return (
        Part(
            "correctness",
            ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests"),
            0.45,
            ("pytest", "pytest_timeout", "hypothesis"),
        ),
        Part("kernels", script("kernels", "--cache", str(cache)), 0.3),
        Part("engine", script("engine", *engine), 0.35),
    )


def search_path(wheels: Path | None, scratch: Path) -> str:
    """PYTHONPATH with the checkout, and with the wheels unpacked if there are some."""
    places = [ROOT, *(ROOT / "packages" / name / "src" for name in PACKAGES)]
    if files := [str(wheel) for wheel in sorted(wheels.glob("*.whl"))] if wheels is not None else []:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run([*pip, "--target", str(scratch / "site"), *files], check=True)
        places.append(scratch / "site")
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*map(str, places), *([given] if given else [])])


def device(environment: Mapping[str, str]) -> str | None:
    """The card and the versions that matter; None if torch sees no CUDA device, or is not there."""
    question = (
        "import platform, torch, transformers, triton; torch.cuda.is_available() and "
        "print(torch.cuda.get_device_name(), 'Python', platform.python_version(), 'torch', torch.__version__, "
        "'triton', triton.__version__, 'transformers', transformers.__version__)"
    )
    told = subprocess.run([sys.executable, "-c", question], env=environment, capture_output=True, text=True)
    return told.stdout.strip() or None


def missing(part: Part, environment: Mapping[str, str]) -> list[str]:
    """Modules that a part needs and that are not there."""
    question = f"import importlib.util as u; print(*[m for m in {part.needs!r} if u.find_spec(m) is None])"
    return subprocess.check_output([sys.executable, "-c", question], env=environment, text=True).split()


def run(part: Part, out: Path, environment: Mapping[str, str], seconds: float) -> Outcome:
    """Run a part for some seconds at most; its output goes into a log, whose end is shown."""
    log, began = out / f"{part.name}.log", time.monotonic()
    if lacking := missing(part, environment):
        return Outcome(part, f"left out: no {', '.join(lacking)} here", 0.0, log)
    print(f"{part.name}: at most {seconds:.0f} s", flush=True)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
            said = "passed" if status == 0 else f"failed with status {status}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
            process.wait()
            said = "ran out of time"
    print("".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-12:]), flush=True)
    return Outcome(part, said, time.monotonic() - began, log)


def summary(card: str, outcomes: list[Outcome], out: Path) -> None:
    """The tables: every part's figures, then what became of the parts."""
    for outcome in outcomes:
        result = out / f"{outcome.part.name}.json"
        if result.exists():
            print(f"\n{outcome.part.name}\n{bench.table(bench.read(result)['rows'])}")
    print(f"\n{card}")
    for outcome in outcomes:
        print(f"{outcome.part.name:<12} {outcome.said:<28} {outcome.seconds:5.0f} s   {outcome.log}")


def main() -> int:
    """Run all parts; the exit status."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels to unpack (wheels, beside the checkout or in it)")
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything (9)")
    parser.add_argument("--out", type=Path, help="folder for logs and result files (a temporary one)")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes - SETUP
    beside = next((each for each in (ROOT / "wheels", ROOT.parent / "wheels") if each.is_dir()), None)
    with tempfile.TemporaryDirectory() as scratch:
        path = search_path(options.wheels or beside, Path(scratch))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        card = device(environment)
        if card is None:
            print("torch sees no CUDA device here: there is nothing to measure")
            return 0
        print(card, flush=True)
        out = (options.out or Path(tempfile.mkdtemp(prefix="quire-gpu-"))).resolve()
        out.mkdir(parents=True, exist_ok=True)
        outcomes: list[Outcome] = []
        for part in parts(out, Path(scratch) / "cache"):
            left = ends - time.monotonic()
            outcomes.append(run(part, out, environment, max(10.0, min(left, part.share * 60 * options.minutes))))
        summary(card, outcomes, out)
    return 0 if outcomes[0].said == "passed" or outcomes[0].said.startswith("left out") else 1


if __name__ == "__main__":
    sys.exit(main())
