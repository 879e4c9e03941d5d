"""One engine for all tests of the server, and an application in front of it."""

from collections.abc import Iterator

import pytest
from tests.support.served import Api, Served, served
from tests.support.tokenizer_kinds import byte_level_bpe, write_checkpoint


@pytest.fixture(scope="session")
def engine() -> Iterator[Served]:
    with served() as each:
        yield each


@pytest.fixture(scope="session")
def api(engine: Served) -> Api:
    return engine.api(enable_prompt_tokens_details=True)


@pytest.fixture(scope="session")
def without_markers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A model whose tokenizer has no markers for filling in the middle."""
    folder = write_checkpoint(tmp_path_factory.mktemp("plain"), byte_level_bpe(), eos_token="<|end|>")
    with served(tokenizer=str(folder)) as each:
        yield each.api()
