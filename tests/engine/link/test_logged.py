"""What the engine's process logs is logged by its parent, as if it had been there."""

from __future__ import annotations

import logging

import pytest
from tests.support.loop import run
from tests.support.scripted import scripted_engine

from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_engine.errors import EngineStopped
from quire_engine.link.process import ProcessLink

HERE = "tests.engine.link.test_logged"


def load_talkative(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine that has something to say while it is loaded."""
    logger = logging.getLogger("quire_engine.talkative")
    logger.warning("a line of %d words", 5)
    logger.debug("a line that nobody asked for")
    try:
        raise ValueError("not this time")
    except ValueError:
        logger.exception("a line with a cause")
    return scripted_engine()


def load_broken(config: EngineConfig, *, progress: bool = False) -> Engine:
    """Loading that fails by itself."""
    raise RuntimeError("no memory left")


async def load(factory: str) -> None:
    link = await ProcessLink.start(EngineConfig(skip_tokenizer_init=True), factory=f"{HERE}:{factory}")
    await link.close()


def test_lines_of_the_child_are_logged_under_their_names(caplog: pytest.LogCaptureFixture) -> None:
    run(load("load_talkative"))
    told = [(each.name, each.levelname, each.getMessage()) for each in caplog.records if "talkative" in each.name]
    assert told == [
        ("quire_engine.talkative", "WARNING", "a line of 5 words"),
        ("quire_engine.talkative", "ERROR", "a line with a cause"),
    ]


def test_a_traceback_comes_with_its_line(caplog: pytest.LogCaptureFixture) -> None:
    run(load("load_talkative"))
    (cause,) = [each.exc_text for each in caplog.records if each.getMessage() == "a line with a cause"]
    assert cause is not None
    assert cause.startswith("Traceback")
    assert cause.endswith("ValueError: not this time")


def test_the_parent_says_what_is_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "quire_engine.talkative"):
        run(load("load_talkative"))
    assert [each.levelname for each in caplog.records if "talkative" in each.name] == ["ERROR"]


def test_why_an_engine_could_not_be_loaded_is_logged_before_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(EngineStopped, match="no memory left"):
        run(load("load_broken"))
    assert [each.getMessage() for each in caplog.records if each.exc_text] == ["The engine ended."]
