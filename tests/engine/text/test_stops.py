"""Stop strings are found wherever the text is cut, at the first place they are complete, with nothing held too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire_engine.text.stops import StopStrings

letters = st.text(alphabet="ab", max_size=12)
stop_lists = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3)
pieces_of_text = st.lists(st.tuples(letters, st.booleans()), max_size=8)


def cut(pieces: list[tuple[str, bool]], strings: list[str], include: bool) -> tuple[str, str | None]:
    """The specification: read on until a stop string ends here, in a piece where one may."""
    read = ""
    for piece, may_stop in pieces:
        for letter in piece:
            read += letter
            found = [string for string in strings if may_stop and read.endswith(string)]
            if found:
                longest = max(found, key=len)
                return read if include else read.removesuffix(longest), longest
    return read, None


def push_all(pieces: list[tuple[str, bool]], strings: list[str], include: bool) -> tuple[str, str | None]:
    stops = StopStrings(strings, include=include)
    text = ""
    for piece, may_stop in pieces:
        delivered, stop = stops.push(piece, may_stop=may_stop)
        text += delivered
        if stop is not None:
            return text, stop
    return text + stops.finish(), None


@given(pieces=pieces_of_text, strings=stop_lists, include=st.booleans())
def test_any_cut_of_the_text_gives_what_reading_letter_by_letter_gives(pieces, strings, include):
    assert push_all(pieces, strings, include) == cut(pieces, strings, include)


@given(pieces=st.lists(letters, max_size=8), strings=stop_lists)
def test_what_is_held_back_is_the_longest_end_that_may_begin_a_stop_string(pieces, strings):
    stops = StopStrings(strings, include=False)
    read = delivered = ""
    for piece in pieces:
        read += piece
        text, stop = stops.push(piece)
        if stop is not None:
            return
        delivered += text
        ends = [read[start:] for start in range(len(read))]
        held = next((end for end in ends if any(s.startswith(end) and s != end for s in strings)), "")
        assert delivered + held == read


def test_the_stop_string_that_is_complete_first_wins():
    assert push_all([("xabc", True)], ["abc", "b"], False) == ("xa", "b")
    assert push_all([("xabc", True)], ["c", "abc"], False) == ("x", "abc")


def test_a_stop_string_can_be_kept_and_what_follows_it_never_is():
    assert push_all([("on", True), ("e two", True)], ["one"], True) == ("one", "one")
    assert push_all([("on", True), ("e two", True)], ["one"], False) == ("", "one")


def test_a_stop_string_may_begin_but_not_end_where_it_may_not_stop():
    assert push_all([("end", False), ("end", True)], ["end"], False) == ("end", "end")
    assert push_all([("x e", False), ("nd", True)], ["end"], False) == ("x ", "end")


def test_what_was_held_back_is_given_at_the_end():
    stops = StopStrings(["\n\nUser:"], include=False)
    assert stops.push("bye\n\n") == ("bye", None)
    assert stops.finish() == "\n\n"
    assert stops.finish() == ""


class Counted(str):
    """A string that counts how often it is compared with a beginning."""

    compared = 0

    def startswith(self, *args: object) -> bool:
        Counted.compared += 1
        return super().startswith(*args)  # type: ignore[arg-type]


def test_a_letter_costs_the_same_however_much_is_held_back():
    # Of the first strings every end of the text but half is no beginning; the last one holds all of it back.
    strings = [Counted("a" * 200 + "b" * (200 - each)) for each in range(50)] + [Counted("a" * 401)]
    stops = StopStrings(strings, include=False)
    Counted.compared = 0
    delivered = "".join(stops.push(letter)[0] for letter in "a" * 400 + "c" + "a" * 400)
    assert delivered == "a" * 400 + "c"
    assert Counted.compared <= 2 * 801 * len(strings)
