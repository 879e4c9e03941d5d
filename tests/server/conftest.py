"""One engine for all tests of the server, and an application in front of it."""

from collections.abc import Iterator

import pytest
from tests.support.served import Api, Served, served


@pytest.fixture(scope="session")
def engine() -> Iterator[Served]:
    with served() as each:
        yield each


@pytest.fixture(scope="session")
def api(engine: Served) -> Api:
    return engine.api(enable_prompt_tokens_details=True)
