"""One real server for all tests that do not stop it."""

from collections.abc import Iterator

import pytest
from tests.support.processes import Server, quire_serve


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with quire_serve("--dtype", "float32", "--served-model-name", "tiny", "--max-num-seqs", "32") as each:
        yield each
