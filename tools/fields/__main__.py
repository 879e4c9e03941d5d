"""Try every field of the generating requests on a server, or write their page.

usage: python -m tools.fields [--base-url URL [--model NAME]]   try every field, on this server or on its own
       python -m tools.fields --docs                            write docs/reference/fields.md
       python -m tools.fields --checkpoint FOLDER               write the checkpoint on which every field can be seen

Each field is sent with a value that is not its default. It must take effect, be refused by name, or be reported in the
answer's warnings; the exit status is 1 if one is dropped.
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import closing, nullcontext
from pathlib import Path

from tools.fields import checkpoint
from tools.fields.matrix import FINE, Matrix, own_servers, table
from tools.fields.page import PAGE, page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", metavar="URL", help="a running server, without /v1")
    parser.add_argument("--model", metavar="NAME", help="the model to ask it for; its first when absent")
    parser.add_argument("--docs", action="store_true", help="write docs/reference/fields.md instead")
    parser.add_argument("--checkpoint", metavar="FOLDER", type=Path, help="write the checkpoint here instead")
    options = parser.parse_args()
    if options.docs:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if options.checkpoint is not None:
        checkpoint.save(options.checkpoint)
        return 0
    with (
        nullcontext((options.base_url, options.base_url)) if options.base_url else own_servers() as (url, steered),
        closing(Matrix(url, options.model, steered=steered)) as matrix,
    ):
        return try_all(matrix)


def try_all(matrix: Matrix) -> int:
    """Print the matrix; 0 if no field is dropped."""
    kinds: Counter[str] = Counter()
    for each in matrix.run():
        kinds[each.kind] += 1
        print(*table([each]), flush=True)
    fine = sum(kinds[kind] for kind in FINE)
    print(f"{fine} of {kinds.total()} fields are honoured, refused or reported: {dict(kinds)}")
    return 0 if fine == kinds.total() else 1


if __name__ == "__main__":
    raise SystemExit(main())
