"""Arguments that stand one by one, each behind its name: how they are put together as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable

from quire_engine.text.formats.scanner import Malformed, Pieces, Waiting


def as_object(next_name: Callable[[], Waiting[str | None]], value: Callable[[str], Pieces[object]]) -> Pieces[None]:
    """The object, as its arguments come: `next_name` takes a name, or gives None behind the last; `value` its value.

    Malformed if a name is there twice.
    """
    names: set[str] = set()
    yield "{"
    while (name := (yield from next_name())) is not None:
        if name in names:
            raise Malformed(f"The argument {name!r} is there twice.")
        yield f"{', ' if names else ''}{json.dumps(name, ensure_ascii=False)}: "
        names.add(name)
        yield from value(name)
    yield "}"
