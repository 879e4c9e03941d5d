from __future__ import annotations

import msgspec
import pytest
from tests.support.requests import generate_request
from tests.support.scripted import scripted_decisions

from quire_engine.config import EngineConfig
from quire_engine.constraint import Constraint, Thinking
from quire_engine.link import frames
from quire_engine.link.frames import Abort, Add, Down, Failed, Ready, Report, ResetPrefixCache, Start, Stop, Trial, Up
from quire_engine.sequence import Emission, Rendered, Submission, TokenLogprobs
from quire_engine.stats import Stats

RICH = generate_request(
    [1, 2, 3],
    n=2,
    temperature=0.5,
    seed=-(2**63),
    stop=("ö", "\n"),
    logit_bias={5: -100.0, 7: 0.25},
    allowed_token_ids=(5, 7),
    bad_words=("no",),
    bad_words_token_ids=((4, 5), (6,)),
    max_tokens=None,
    extra_args={"nested": {"list": [1, "two", None, 0.5]}},
    cache_salt="sålt",
    priority=-3,
)
RENDERED = Rendered(
    bytes(range(256)),
    Constraint('start: "yes" | "nö"', "response_format", closes=False),
    Thinking(limit=9, begin=(3,), end=(4, 5), is_open=True),
    frozenset({6, 7}),
)
SCORES = (TokenLogprobs(4, -0.5, 2, (9, 4), (-0.25, -0.5)),)

DOWN = [
    Start(EngineConfig(model="a/b", seed=3), "module:name", True, ("/one", "/two")),
    Add(Submission(7, RICH)),
    Add(Submission(8, RICH, {1: (4, 5), 0: ()})),
    Add(Submission(9, RICH, rendered=RENDERED)),
    Abort(7),
    Abort(7, 1),
    ResetPrefixCache(),
    Stop(),
]
UP = [
    Ready(scripted_decisions(sampling_defaults={"top_p": 0.5}, notes=("ä",))),
    Failed("ConfigError", "no"),
    Failed("DeviceFault", "gone", (3, 4)),
    Trial(7),
    Report([], Stats(), resets=2),
    Report([], Stats()),
    Report(
        [Emission(7, 1, (4,), SCORES, SCORES, "stop", 4, 16), Emission(8, 0, (), finish_reason="error", error="oh")],
        Stats(running=1, kv_usage=0.5, finished={"stop": 2}),
    ),
]


def body_of(frame: bytes) -> bytes:
    """A frame without its length, which must be right."""
    prefix, body = frame[: frames.PREFIX.size], frame[frames.PREFIX.size :]
    assert frames.PREFIX.unpack(prefix) == (len(body),)
    return body


@pytest.mark.parametrize("message", DOWN, ids=lambda message: type(message).__name__)
def test_what_goes_down_arrives_as_it_was(message: Down) -> None:
    assert frames.decode_down(body_of(frames.encode(message))) == message


@pytest.mark.parametrize("message", UP, ids=lambda message: type(message).__name__)
def test_what_goes_up_arrives_as_it_was(message: Up) -> None:
    assert frames.decode_up(body_of(frames.encode(message))) == message


def test_a_request_keeps_its_id() -> None:
    assert RICH.request_id
    arrived = frames.decode_down(body_of(frames.encode(Add(Submission(0, RICH)))))
    assert isinstance(arrived, Add)
    assert arrived.submission.request.request_id == RICH.request_id


def test_fields_that_no_schema_knows_do_not_cross() -> None:
    strange = RICH.model_validate({**RICH.model_dump(), "strange": 10**30})
    assert strange.model_extra == {"strange": 10**30}
    assert frames.encode(Add(Submission(0, strange))) == frames.encode(Add(Submission(0, RICH)))


def test_only_known_messages_are_read() -> None:
    with pytest.raises(msgspec.ValidationError):
        frames.decode_down(msgspec.msgpack.encode({"type": "Run", "code": "print()"}))


def test_only_known_types_are_sent() -> None:
    with pytest.raises(TypeError, match="object does not cross a link"):
        frames.encode(Failed("x", object()))  # type: ignore[arg-type]
