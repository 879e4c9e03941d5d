"""What was proven once, kept in a folder: a later start needs neither transformers nor the proof. It proves nothing.

One small JSON file for each checkpoint's shape, set of versions and instruction set; whatever any of them changes, the
proof is done again. So it is where a file cannot be read, or is not what is expected. Files may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from quire_engine.__about__ import __version__
from quire_engine.model.native.weights import weight_files
from quire_engine.model.spec import ContextLimit
from quire_kernels import decoder
from quire_kernels.decoder import Description
from quire_kernels.decoder import fingerprint as library_fingerprint

FORM = 1
"""Of the files; another number is another key."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a checkpoint's configuration came to, and whether its description was proven."""

    architecture: str
    dtype: str
    vocab_size: int
    context: ContextLimit | None
    eos_token_ids: tuple[int, ...]
    description: Description | None
    """None: it was not proven."""
    takes_embeds: bool = False
    """Whether rows that are embeddings already are computed alike."""
    reason: str = ""
    """Why it was not proven."""


_decoder = msgspec.json.Decoder(Known)


def recall(folder: Path, key: str) -> Known | None:
    """What is kept under this key; None where there is nothing, or nothing that can be used."""
    try:
        return _decoder.decode((folder / f"{key}.json").read_bytes())
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def remember(folder: Path, key: str, known: Known) -> None:
    """Keep it, at once or not at all; a folder that cannot be written to costs the proof at each start, no more."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".partial", delete=False) as file:
            file.write(msgspec.json.encode(known))
        os.replace(file.name, folder / f"{key}.json")


def key_of(path: Path) -> str:
    """Changes with all that a proof depends on: the checkpoint's configuration and its weights' names, types and
    shapes, but not their values; versions and the sources that describe and prove; the library and the instruction
    set in use."""
    digest = hashlib.sha256()
    for part in _parts(path):
        digest.update(struct.pack("<Q", len(part)) + part)
    return digest.hexdigest()[:40]


def _parts(path: Path) -> Iterator[bytes]:
    yield f"{FORM} {__version__} {library_fingerprint()} {torch.__version__}".encode()
    yield importlib.metadata.version("transformers").encode()
    for folder in (Path(__file__).parent, Path(decoder.__file__).parent):  # versions do not tell a working tree's state
        yield from (source.read_bytes() for source in sorted(folder.glob("*.py")))
    for name in ("config.json", "generation_config.json"):
        file = path / name
        yield file.read_bytes() if file.exists() else b""
    for file in weight_files(path):
        yield file.name.encode()
        yield _header(file)


def _header(file: Path) -> bytes:
    """The JSON at the head of a safetensors file: every tensor's name, type, shape and place."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        return opened.read(min(length, 100 << 20))
