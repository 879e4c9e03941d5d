"""A package of logits processors, written where only the matrix's own servers find it: fields that name code need some.

It knows how packages are laid out and registered, no server.
"""

from __future__ import annotations

from pathlib import Path

FORCE, STEER = "fields.force", "fields.steer"
"""What it registers: for requests to name, and for a server to apply to every request."""

_MODULE = '''
def force(token):
    """Says one token and nothing else."""
    def processor(output, logits):
        forced = logits.new_full(logits.shape, float("-inf"))
        forced[token] = 0
        return forced
    return processor

def steer(*, probe=None):
    """The same, for a request whose extra argument `probe` says which token."""
    return None if probe is None else force(int(probe))
'''


def save(folder: Path) -> Path:
    """Write the package; `folder` then has to be on the path."""
    (folder / "quire_fields_extension.py").write_text(_MODULE, encoding="utf-8")
    metadata = folder / "quire_fields_extension-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: quire-fields-extension\nVersion: 1.0\n")
    entries = (f"{name} = quire_fields_extension:{name.partition('.')[2]}" for name in (FORCE, STEER))
    (metadata / "entry_points.txt").write_text("\n".join(["[quire.logits_processors]", *entries, ""]))
    return folder
