"""Server-sent events: what is encoded is decoded, however the bytes are cut and whatever the line ends are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from quire_protocol import sse


class Chunk(BaseModel):
    text: str
    schema_: str | None = Field(default=None, alias="schema")


def test_a_model_is_one_line_of_json_under_its_wire_names() -> None:
    assert sse.encode(Chunk(text="a\nb", schema="s")) == b'data: {"text":"a\\nb","schema":"s"}\n\n'


def test_unset_fields_are_left_out_when_asked() -> None:
    assert sse.encode(Chunk(text="é"), exclude_unset=True) == 'data: {"text":"é"}\n\n'.encode()


def test_a_mapping_is_json() -> None:
    assert sse.encode({"error": {"code": 400}}) == b'data: {"error":{"code":400}}\n\n'


def test_text_is_sent_as_it_is() -> None:
    assert sse.encode(sse.DONE) == b"data: [DONE]\n\n"
    assert sse.encode(b"raw") == b"data: raw\n\n"


def test_each_line_of_text_is_a_data_line() -> None:
    assert sse.encode("a\r\nb\rc\n") == b"data: a\ndata: b\ndata: c\ndata: \n\n"


def test_name_and_id_come_before_the_data() -> None:
    assert sse.encode("x", name="response.created", id="7") == b"event: response.created\nid: 7\ndata: x\n\n"


@pytest.mark.parametrize("field", ["name", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_name_or_id_of_several_lines_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"event's {field} must be one line"):
        sse.encode("x", **{field: value})


def events(stream: bytes) -> list[sse.Event]:
    return sse.Decoder().push(stream)


def test_the_fields_of_an_event_are_read() -> None:
    assert events(b"event: a\nid: 1\ndata: x\n\n") == [sse.Event("x", "a", "1")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_understood(end: bytes) -> None:
    stream = end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])
    assert [event.data for event in events(stream)] == ["a\nb", "c"]


def test_comments_and_unknown_fields_are_skipped() -> None:
    assert events(b": keep-alive\n\nretry: 3\nfoo: bar\ndata: x\n\n") == [sse.Event("x")]


def test_only_one_space_after_the_colon_is_not_data() -> None:
    assert [event.data for event in events(b"data:  a\n\ndata:b\n\ndata\n\n")] == [" a", "b", ""]


def test_an_event_without_data_is_none() -> None:
    assert events(b"event: a\nid: 4\n\ndata: x\n\n") == [sse.Event("x", "message", "4")]


def test_the_last_id_stays_until_another_comes() -> None:
    assert [event.id for event in events(b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n")] == ["1", "1", ""]


def test_a_byte_order_mark_opens_a_stream() -> None:
    assert events(b"\xef\xbb\xbfdata: x\n\n") == [sse.Event("x")]


def test_an_event_that_the_end_cuts_off_never_comes() -> None:
    assert events(b"data: a\n\ndata: b\n") == [sse.Event("a")]


def test_done_ends_the_stream_and_is_no_event() -> None:
    decoder = sse.Decoder()
    assert decoder.push(b"data: a\n\ndata: [DONE]\n\ndata: b\n\n") == [sse.Event("a")]
    assert decoder.done
    assert decoder.push(b"data: c\n\n") == []


def test_lines_are_decoded_with_and_without_their_ends() -> None:
    assert [e.data for e in sse.decode(["data: a", "", "data: [DONE]", "", "data: b", ""])] == ["a"]
    assert [e.data for e in sse.decode([b"data: a\r\n", b"\r\n", b"data: b\n", b"\n"])] == ["a", "b"]


def test_reading_lines_stops_at_done() -> None:
    lines = iter(["data: [DONE]", "", "data: unread"])
    assert list(sse.decode(lines)) == []
    assert next(lines) == "data: unread"


def test_data_is_parsed_as_json() -> None:
    assert sse.Event('{"a": [1]}').json() == {"a": [1]}
    with pytest.raises(ValueError, match="expected"):
        sse.Event("nope").json()


LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
TEXTS = st.lists(LINES, min_size=1, max_size=4).map("\n".join).filter(lambda text: text != sse.DONE)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, max_size=5), st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(sse.encode(text, id=str(number)) for number, text in enumerate(texts))
    stream = stream.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    decoder = sse.Decoder()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.push(stream[start:end])
    assert received == [sse.Event(text, "message", str(number)) for number, text in enumerate(texts)]
