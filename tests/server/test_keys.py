"""Whose key is whose, from the command line and from a file."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire_engine.errors import ConfigError
from quire_engine.sequence import Terms
from quire_server.keys import ADMIN, LOOK_AGAIN, Caller, Key, Keys, keys_of, read_keys

DIGEST = hashlib.sha256(b"hashed").hexdigest()
FILE = f"""# who may come in
alice:one
alice:two
bob:three:2.5

carol:sha256:{DIGEST}
dave:sha256:{DIGEST[::-1]}:0.25
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a new file in the place of the former, as an editor or an orchestrator would."""

    def written(text: str) -> Path:
        new, path = tmp_path / "new", tmp_path / "keys"
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
        return path

    return written


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_without_a_name_are_called_by_their_place() -> None:
    keys = keys_of(["first", "second"], [])
    assert [keys.caller(key) for key in (b"first", b"second", b"third")] == [Caller("key-1"), Caller("key-2"), None]


def test_a_file_names_its_keys_and_may_hold_digests_instead(write: Write) -> None:
    keys = keys_of([], [], str(write(FILE)))
    assert keys.caller(b"one") == keys.caller(b"two") == Caller("alice")
    assert keys.caller(b"three") == Caller("bob", 2.5)
    assert keys.caller(b"hashed") == Caller("carol")
    assert [key.caller for key in read_keys(write(FILE))][-1] == Caller("dave", 0.25)


@pytest.mark.parametrize(
    "token", [b"", b"One", b"one ", b"one\0", b"alice:one", DIGEST.encode(), f"sha256:{DIGEST}".encode()]
)
def test_nothing_but_the_key_opens(write: Write, token: bytes) -> None:
    assert keys_of(["x"], [], str(write(FILE))).caller(token) is None


@given(st.binary(max_size=40))
def test_no_other_bytes_open(token: bytes) -> None:
    assert (keys_of(["näme"], []).caller(token) is not None) == (token == "näme".encode())


def test_an_admin_key_asks_nobody_else_for_one() -> None:
    keys = keys_of([], ["root"])
    assert keys.admits_anyone
    assert keys.caller(b"root") == Caller(ADMIN, is_admin=True)
    assert not keys_of(["x"], ["root"]).admits_anyone


def test_a_key_given_as_both_is_an_admin_key() -> None:
    keys = keys_of(["x"], ["x"])
    assert keys.caller(b"x") == Caller(ADMIN, is_admin=True)
    assert not keys.admits_anyone


def test_a_key_of_the_file_that_is_an_admin_key_too_is_refused(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    told = "the key of bob is an --admin-key too"
    with pytest.raises(ConfigError, match=told):
        keys_of([], ["two"], str(write("alice:one\nbob:two\n")))
    clock = Clock()
    keys = Keys([Key.of(Caller(ADMIN, is_admin=True), "two")], str(write("alice:one\n")), clock)
    write("bob:two\n")
    clock.now += LOOK_AGAIN
    with caplog.at_level(logging.ERROR, "quire"):
        assert keys.caller(b"two") == Caller(ADMIN, is_admin=True)
    assert told in caplog.text


def test_a_caller_is_the_tenant_that_the_engine_serves() -> None:
    assert Caller("bob", 2.5).terms(7.0) == Terms("bob", 2.5, 7.0)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("secret", "write name:key[:weight]"),
        ("a:b:1:2", "write name:key[:weight]"),
        ("a:sha256", "write name:key[:weight]"),
        ("a b:secret", "a name has at most 64 letters"),
        (f"{'a' * 65}:secret", "a name has at most 64 letters"),
        ("admin:secret", "neither admin nor key-N"),
        ("key-1:secret", "neither admin nor key-N"),
        ("a:", "a key has one visible character at least"),
        ("a: secret", "a key has one visible character at least"),
        ("a:sec\tret", "a key has one visible character at least"),
        ("a:secret:0", "a weight is a number above 0"),
        ("a:secret:nan", "a weight is a number above 0"),
        ("a:secret:inf", "a weight is a number above 0"),
        ("a:secret:heavy", "a weight is a number above 0"),
        ("a:sha256:abc", "64 hexadecimal digits"),
        ("z:one:2", "the same key stands further up"),
        ("alice:secret:2", "alice has another weight further up"),
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_shows_no_key(write: Write, line: str, told: str) -> None:
    path = write(f"{FILE}{line}\n")
    with pytest.raises(ConfigError) as error:
        read_keys(path)
    assert str(error.value).startswith(f"--api-key-file {path}, line 8: ")
    assert told in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("content", "told"), [(b"# none\n", "has no key"), (b"a:\xff", "is not UTF-8 text")])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        read_keys(tmp_path / "keys")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_keys(tmp_path / "nowhere")


def test_a_file_that_changes_is_read_again(write: Write) -> None:
    clock = Clock()
    keys = Keys([], str(write("alice:one\n")), clock)
    write("bob:another\n")
    assert keys.caller(b"one") == Caller("alice")  # not looked at for every request
    clock.now += LOOK_AGAIN
    assert (keys.caller(b"one"), keys.caller(b"another")) == (None, Caller("bob"))


def test_a_file_is_read_at_once_where_that_is_asked_for(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys([], str(write("alice:one\n")), Clock())
    write("bob:another\n")
    keys.read_again()
    assert (keys.caller(b"one"), keys.caller(b"another")) == (None, Caller("bob"))
    write("wrong")
    keys.read_again()
    assert keys.caller(b"another") == Caller("bob")
    assert "The keys stay as they were." in caplog.text


@pytest.mark.parametrize("content", ["", "wrong", "a:b:0"])
def test_a_file_that_becomes_wrong_leaves_the_keys_as_they_were(
    write: Write, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    keys = Keys([], str(write("alice:one\n")), clock)
    write(content)
    with caplog.at_level(logging.ERROR, "quire"):
        for _ in range(3):
            clock.now += LOOK_AGAIN
            assert keys.caller(b"one") == Caller("alice")
    assert [record.getMessage().endswith("The keys stay as they were.") for record in caplog.records] == [True]


def test_a_file_that_is_gone_leaves_the_keys_until_there_is_another(write: Write) -> None:
    clock = Clock()
    path = write("alice:one\n")
    keys = Keys([], str(path), clock)
    path.unlink()
    clock.now += LOOK_AGAIN
    assert keys.caller(b"one") == Caller("alice")
    write("bob:two\n")
    clock.now += LOOK_AGAIN
    assert (keys.caller(b"one"), keys.caller(b"two")) == (None, Caller("bob"))
