"""Log lines are text or JSON, and say which request they belong to."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest
from tests.support.served import Served

from quire_server.logs import REQUEST, JsonLines, TextLines, configure, tell
from quire_server.settings import ServerSettings

ASK = {"prompt": "Hello", "max_tokens": 3, "temperature": 0, "ignore_eos": True}


class Lines(logging.Handler):
    """Keeps what is logged, as it would be written."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


Listen = Callable[[logging.Formatter], Lines]


@pytest.fixture
def lines() -> Iterator[Listen]:
    """Listen to all of Quire's loggers."""
    logger = logging.getLogger("quire")
    before, added = logger.level, []

    def listen(formatter: logging.Formatter) -> Lines:
        handler = Lines(formatter)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        added.append(handler)
        return handler

    yield listen
    logger.setLevel(before)
    for handler in added:
        logger.removeHandler(handler)


def record(message: str, **facts: object) -> logging.LogRecord:
    made = logging.LogRecord("quire.test", logging.INFO, __file__, 1, message, (), None)
    made.created = 1_700_000_000.25
    if facts:
        made.facts = facts
    return made


def test_a_line_of_json_is_one_object() -> None:
    line = JsonLines().format(record('two\nlines and "quotes"', path="/v1", seconds=0.5))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "quire.test",
        "message": 'two\nlines and "quotes"',
        "path": "/v1",
        "seconds": 0.5,
    }


def test_a_line_of_text_has_its_facts_behind_the_message() -> None:
    line = TextLines().format(record("asked", caller="alice", stop=["a b"], note="two\nlines"))
    assert line == r'INFO quire.test: asked caller=alice stop="[\"a b\"]" note="two\nlines"'


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()], ids=["json", "text"])
def test_a_line_says_which_request_it_belongs_to(formatter: logging.Formatter) -> None:
    token = REQUEST.set("abc-123")
    within = formatter.format(record("within"))
    REQUEST.reset(token)
    assert "abc-123" in within
    assert "abc-123" not in formatter.format(record("outside"))


def test_a_traceback_stays_within_its_object() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        made = logging.LogRecord("quire", logging.ERROR, __file__, 1, "failed", (), (ValueError, error, None))
    assert json.loads(JsonLines().format(made))["error"] == "ValueError: no"


def test_each_request_is_a_line_with_what_it_took_and_who_asked(engine: Served, lines: Listen) -> None:
    api, heard = engine.api(uvicorn_log_level="info"), lines(JsonLines())
    api.request("POST", "/v1/completions", json=ASK, headers={"X-Request-Id": "my-own"})
    (told,) = map(json.loads, heard.written)
    assert told["message"] == "POST /v1/completions 200"
    assert told["request_id"] == "my-own"
    assert (told["generation_tokens"], told["finish_reason"], told["status"]) == (3, "length", 200)
    assert told["seconds"] >= told["first_token_seconds"] > 0


def test_a_refusal_is_a_line_too(engine: Served, lines: Listen) -> None:
    api, heard = engine.api(uvicorn_log_level="info", api_key=("sesame",)), lines(JsonLines())
    api.get("/v1/models")
    (told,) = map(json.loads, heard.written)
    assert (told["status"], told["path"]) == (401, "/v1/models")


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()], ids=["json", "text"])
def test_a_path_makes_no_lines_of_its_own(engine: Served, lines: Listen, formatter: logging.Formatter) -> None:
    api, heard = engine.api(uvicorn_log_level="info"), lines(formatter)
    api.get("/v1/%0AINFO%20quire.access:%20GET%20/admin%20200" + "x" * 5000)
    (line,) = heard.written
    assert "\n" not in line
    assert "%0AINFO%20quire.access" in line
    assert len(line) < 1500


def test_prompts_and_keys_are_in_no_line(engine: Served, lines: Listen) -> None:
    api = engine.api(uvicorn_log_level="info", enable_log_requests=True, api_key=("sesame",))
    heard = lines(JsonLines())
    secret = {"prompt": "Rumpelstiltskin", "max_tokens": 3, "stop": ["Rapunzel"], "user": "Goldilocks"}
    api.request("POST", "/v1/completions", json=secret, headers={"Authorization": "Bearer sesame"})
    assert len(heard.written) == 2
    for word in ("Rumpelstiltskin", "Rapunzel", "sesame"):
        assert word not in "".join(heard.written)


def test_what_the_engine_is_asked_is_logged_only_if_asked_for(engine: Served, lines: Listen) -> None:
    heard = lines(JsonLines())
    engine.api().post("/v1/completions", **ASK)
    assert heard.written == []
    engine.api(enable_log_requests=True).post("/v1/completions", **ASK, stop=["x"])
    (told,) = map(json.loads, heard.written)
    assert (told["message"], told["max_tokens"], told["stop"]) == ("asked", 3, True)
    assert "top_p" not in told
    assert told["request_id"]


def test_the_line_when_the_engine_is_asked_has_the_id_of_the_answer(engine: Served, lines: Listen) -> None:
    api, heard = engine.api(uvicorn_log_level="info", enable_log_requests=True), lines(JsonLines())
    answer = api.request("POST", "/v1/completions", json=ASK)
    assert [json.loads(line)["request_id"] for line in heard.written] == [answer.headers["x-request-id"]] * 2


@pytest.mark.parametrize("path", ["/health", "/v1/models/{model:path}"])
def test_no_line_is_logged_of_paths_and_routes_that_are_left_out(engine: Served, lines: Listen, path: str) -> None:
    api = engine.api(uvicorn_log_level="info", disable_access_log_for_endpoints=(f"{path},/metrics",))
    heard = lines(TextLines())
    for asked in ("/health" if path == "/health" else "/v1/models/tiny", "/metrics", "/version"):
        api.get(asked)
    assert [line.split()[3] for line in heard.written] == ["/version"]


@pytest.mark.parametrize(
    ("settings", "logs"),
    [
        ({}, False),
        ({"uvicorn_log_level": "info"}, True),
        ({"uvicorn_log_level": "trace"}, True),
        ({"uvicorn_log_level": "info", "disable_uvicorn_access_log": True}, False),
    ],
)
def test_access_is_logged_from_the_level_info_on(settings: dict[str, object], logs: bool) -> None:
    assert ServerSettings.model_validate(settings).logs_access == logs


def test_facts_are_logged_at_the_level_info(lines: Listen) -> None:
    heard = lines(TextLines())
    tell(logging.getLogger("quire.test"), "done", {"count": 2})
    assert heard.written == ["INFO quire.test: done count=2"]


def test_lines_go_to_standard_error_once_configured(capfd: pytest.CaptureFixture[str]) -> None:
    root, own = logging.getLogger(), logging.getLogger("quire")
    handlers, levels = root.handlers[:], (root.level, own.level)
    try:
        configure("json")
        tell(logging.getLogger("quire.access"), "GET /", {"status": 200})
        logging.getLogger("elsewhere").info("not worth a line")
        logging.getLogger("elsewhere").warning("worth one")
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        own.setLevel(levels[1])
    told = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert told == ["GET /", "worth one"]
