"""Whose key is whose: the callers of a server, and how one is known by the key it brings. It knows no HTTP.

A key file has one key a line, as `name:key`, `name:key:weight`, or without the key itself, `name:sha256:DIGEST` and
`name:sha256:DIGEST:weight`. Of every key only a digest is kept.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quire_engine.errors import ConfigError
from quire_engine.sequence import Terms
from quire_server.watched import Watched

logger = logging.getLogger("quire")

ADMIN = "admin"
"""The name of whoever brings an admin key."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A caller's name: it stands in metrics, logs and other people's files."""

_RESERVED = re.compile(rf"{ADMIN}|key-\d+")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_LINE = "name:key[:weight] or name:sha256:DIGEST[:weight]"
_HEAVIEST = 1e6

LOOK_AGAIN = 1.0
"""Seconds after which a change of the key file is seen, at the latest when the next request comes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what a request may do, and whose share it is counted to."""

    name: str = ""
    """The key's name; several keys of one name are one caller. Empty for whoever brings none, where none is needed."""
    weight: float = 1.0
    """How large the caller's share is, beside the others'."""
    is_admin: bool = False
    """Whether the routes for administration are open."""

    def terms(self, deadline: float | None = None) -> Terms:
        """The terms on which the engine serves this caller. `deadline` is in seconds of time.monotonic()."""
        return Terms(self.name, self.weight, deadline)


ANYONE = Caller()
"""Who asks where no key is needed."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept."""

    caller: Caller
    digest: bytes
    """SHA-256 of the key's UTF-8."""

    @classmethod
    def of(cls, caller: Caller, text: str) -> Key:
        """The key of this text."""
        return cls(caller, sha256(text))


class Keyring:
    """Finds the caller who has a key.

    Keys are looked up by a keyed hash whose own key is drawn here and leaves no process. What a caller sends therefore
    says nothing of where it is looked for, and the time that this takes says nothing of the keys that there are.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._own = secrets.token_bytes(32)
        self._callers = {self._hidden(key.digest): key.caller for key in keys}

    def caller(self, token: bytes) -> Caller | None:
        """Who has this key; None when nobody has."""
        return self._callers.get(self._hidden(hashlib.sha256(token).digest())) if token else None

    def _hidden(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._own, digest_size=32).digest()


class Keys:
    """The keys of a server: those given with it, and those of a file, which is read again when it changes.

    A file that cannot be used any more leaves the keys as they were, and is told in the log. ConfigError if it cannot
    be used from the start. `admits_anyone`: requests need no key.
    """

    def __init__(
        self,
        given: Sequence[Key],
        file: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        admits_anyone: bool = False,
    ) -> None:
        self._given = tuple(given)
        self._file = None if file is None else Path(file)
        self._clock = clock
        self._watched = Watched(*([] if file is None else [file]))
        self._look_at = clock() + LOOK_AGAIN
        self._ring = Keyring((*self._given, *self._of_file()))
        self.admits_anyone = admits_anyone

    def caller(self, token: bytes) -> Caller | None:
        """Who has this key; None when nobody has."""
        if self._file is not None and (now := self._clock()) >= self._look_at:
            self._look_at = now + LOOK_AGAIN
            if self._watched.has_changed():
                self.read_again()
        return self._ring.caller(token)

    def read_again(self) -> None:
        """Read the file at once, and tell the log what came of it."""
        try:
            self._ring = Keyring((*self._given, *self._of_file()))
        except ConfigError as error:
            logger.error("%s The keys stay as they were.", error)
        else:
            logger.warning("--api-key-file %s was read again; its keys are those that count now.", self._file)

    def _of_file(self) -> list[Key]:
        if self._file is None:
            return []
        keys = read_keys(self._file)
        admins = {key.digest for key in self._given if key.caller.is_admin}
        if both := [key.caller.name for key in keys if key.digest in admins]:
            raise ConfigError(f"--api-key-file {self._file}: the key of {both[0]} is an --admin-key too; give it once.")
        return keys


def asks_for_keys(api_keys: Sequence[str], file: str | None) -> bool:
    """Whether a server with these asks every request for a key. Keys for administration alone ask nobody else."""
    return bool(api_keys) or file is not None


def keys_of(api_keys: Sequence[str], admin_keys: Iterable[str], file: str | None = None) -> Keys:
    """The keys of a server with these; those without a name are called key-1, key-2 … in their order."""
    given = {sha256(text): Key.of(Caller(f"key-{place}"), text) for place, text in enumerate(api_keys, 1)}
    given |= {sha256(text): Key.of(Caller(ADMIN, is_admin=True), text) for text in admin_keys}
    return Keys([*given.values()], file, admits_anyone=not asks_for_keys(api_keys, file))


def read_keys(path: Path) -> list[Key]:
    """The keys in a file. ConfigError names the line that is wrong, and shows no key."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"--api-key-file {path} cannot be read: {reason}.") from error
    keys: dict[bytes, Key] = {}
    weights: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = _read_line(line.strip())
            if keys.setdefault(key.digest, key) is not key:
                raise ValueError("the same key stands further up")
            if weights.setdefault(key.caller.name, key.caller.weight) != key.caller.weight:
                raise ValueError(f"{key.caller.name} has another weight further up")
        except ValueError as error:
            raise ConfigError(f"--api-key-file {path}, line {number}: {error}.") from error
    if not keys:
        raise ConfigError(f"--api-key-file {path} has no key: write one a line, as {_LINE}.")
    return [*keys.values()]


def _read_line(line: str) -> Key:
    """One line's key; ValueError says what is wrong with it."""
    name, *rest = line.split(":")
    is_digest = rest[:1] == ["sha256"]
    if not 1 + is_digest <= len(rest) <= 2 + is_digest:
        raise ValueError(f"write {_LINE}; a key that has a colon can be given by its digest")
    if not NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise ValueError(
            "a name has at most 64 letters, digits, dots, dashes and underscores, begins with a letter or digit, "
            f"and is neither {ADMIN} nor key-N"
        )
    _, secret, *weight = rest if is_digest else ["", *rest]
    if is_digest and not _DIGEST.fullmatch(secret):
        raise ValueError("a SHA-256 digest has 64 hexadecimal digits")
    if not secret or not secret.isprintable() or secret != secret.strip():
        raise ValueError("a key has one visible character at least, and no space around it")
    caller = Caller(name, _weight(weight[0]) if weight else 1.0)
    return Key(caller, bytes.fromhex(secret)) if is_digest else Key.of(caller, secret)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight <= _HEAVIEST:
        raise ValueError(f"a weight is a number above 0, at most {_HEAVIEST:,.0f}")
    return weight


def sha256(text: str) -> bytes:
    """The digest of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
