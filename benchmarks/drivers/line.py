"""The far end of a pipe from benchmarks/sides.py: one JSON object a line each way. Nothing but the standard library.

Drivers run in the peers' own environments, where nothing of this repository can be imported but the files beside this.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

Asked = dict[str, Any]
Answer = Callable[[Asked], Asked]
clock = time.perf_counter


class Refused(Exception):
    """This side cannot be measured here; the text says why."""


def answer(load: Callable[[str, Asked], Answer], prepare: Callable[[str, Asked], object] | None = None) -> None:
    """Load a model as the command line says, then answer each line until there are no more.

    `prepare` makes files that are made once, which is no part of a start.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print goes elsewhere

    def tell(content: Asked) -> None:
        print(json.dumps(content), file=out, flush=True)

    model, options = sys.argv[1], json.loads(sys.argv[2])
    try:
        if prepare is not None:
            began = clock()
            prepare(model, options)
            tell({"preparing": clock() - began})
        run = load(model, options)
    except (Refused, ImportError) as error:
        return tell({"refused": str(error)})
    tell({"ready": True})
    for line in sys.stdin:
        tell(run(json.loads(line)))
    return None


def observe(sequences: int, output: int, step: Callable[[], Iterable[tuple[object, int]]]) -> Asked:
    """Step until every sequence has `output` tokens; a step tells which sequences got how many.

    `first` is the time until all have a token. From then until one has all of its tokens, every sequence is decoded:
    `tokens` in `seconds`. What a chunked prompt's neighbours emit before is thereby left out.
    """
    emitted: Counter[object] = Counter()
    began = clock()
    while len(emitted) < sequences:
        _add(emitted, step())
    started, before = clock(), emitted.total()
    while max(emitted.values()) < output:
        _add(emitted, step())
    ended, after = clock(), emitted.total()
    while emitted.total() < sequences * output:
        _add(emitted, step())
    return {"first": started - began, "seconds": ended - started, "tokens": after - before}


def _add(emitted: Counter[object], news: Iterable[tuple[object, int]]) -> None:
    for sequence, tokens in news:
        emitted[sequence] += tokens
