"""What holds for every test: how long an example takes says something of the machine, and nothing of the code; and what
is kept from start to start is not kept in the user's own folders."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("quire", parent=settings(), deadline=None)
settings.load_profile("quire")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder that lasts as long as the tests do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
