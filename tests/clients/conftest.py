"""A real server for clients that are no part of any package's tests: `nox -s clients` installs them and runs these."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.actor import write_actor
from tests.support.processes import Server, quire_serve


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    actor = write_actor(tmp_path_factory.mktemp("actor"))
    with quire_serve(*actor.flags, "--served-model-name", "actor", PYTHONPATH=str(actor.package)) as each:
        yield each
