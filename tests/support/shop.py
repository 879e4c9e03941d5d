"""A package as pip leaves it in a folder: a module of logits processors, and the metadata that registers them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODULE = '''
import torch

def ban_repeats(output, logits):
    """No token twice."""
    logits[output] = float("-inf")
    return logits

def echo_prompt(prompt, output, logits):
    """Says the prompt again."""
    logits.fill_(float("-inf"))[prompt[len(output) % len(prompt)]] = 0
    return logits

class Force:
    """Says one token only."""
    def __init__(self, token, *, after=0):
        self.token, self.after = int(token), after
    def __call__(self, output, logits):
        if len(output) >= self.after:
            logits = torch.full_like(logits, float("-inf"))
            logits[self.token] = 0
        return logits

class Count:
    """Says 10, 11, 12, ... from a memory of its own."""
    def __init__(self):
        self.next = 10
    def __call__(self, output, logits):
        forced = torch.full_like(logits, float("-inf"))
        forced[self.next] = 0
        self.next += 1
        return forced

def steer(*, forced=None, strength: float = 100.0):
    """For every request: pushes one token, if the request says which."""
    if forced is None:
        return None
    token = int(forced)
    def push(output, logits):
        logits[token] += strength
        return logits
    return push

def fragile(output, logits):
    if len(output) == 2:
        raise RuntimeError("out of ideas")
    return logits

def shapeless(output, logits):
    return logits[:3]

def sparse(output, logits):
    return logits.to_sparse()

def undefined(output, logits):
    return logits * float("nan")

def nothing_left(output, logits):
    return logits.fill_(float("-inf"))

def demanding(needed):
    return None

def kind(of):
    """Gives what is no processor."""
    return {"list": [], "number": 5, "type": type}[of]
'''
NAMES = (
    *("ban_repeats", "echo_prompt", "Force", "Count", "steer", "fragile", "shapeless", "undefined", "nothing_left"),
    *("demanding", "missing", "sparse", "kind"),
)


def write_shop(folder: Path) -> Path:
    """Put the package into this folder, which then has to be on the path."""
    (folder / "quire_test_shop.py").write_text(MODULE)
    metadata = folder / "quire_test_shop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: quire-test-shop\nVersion: 1.0\n")
    lines = [f"shop.{name} = quire_test_shop:{name}" for name in NAMES]
    (metadata / "entry_points.txt").write_text("\n".join(["[quire.logits_processors]", *lines, ""]))
    return folder


@contextmanager
def open_shop(folder: Path) -> Iterator[None]:
    """The package is installed in this process meanwhile."""
    sys.path.insert(0, str(write_shop(folder)))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
