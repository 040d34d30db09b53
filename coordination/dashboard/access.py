"""Tokens of people, their sessions, and the limit of wrong tokens.

One private file in the state folder of the ecosystem has the hashes of tokens and sessions. So a restarted
server knows both, and `coord dashboard token revoke` ends the sessions of a token at the next request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordination.api.authority import CREDENTIAL
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.files import locked, make_private, replace_file
from coordination.text import did_you_mean

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

FILE = "dashboard.json"
SESSION_S = 12 * 3600.0
SECRET_BYTES = 32
LONGEST_NAME = 100
GUESSES = 10
"""Number of wrong tokens from one address within a minute after which the address must wait."""
MINUTE_S = 60.0
ADDRESSES = 10_000


@dataclass(frozen=True, kw_only=True)
class Token:
    """A person's token, as in the file."""

    person: str
    sha256: str
    since: float
    """Time of its creation, in seconds since 1970."""
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """A person who has signed in."""

    person: str
    read_only: bool
    csrf: str
    """Token of forms; pages of other sites cannot know it."""


@dataclass(kw_only=True)
class _Content:
    tokens: dict[str, Token] = field(default_factory=dict)
    """Part of a token before its dot → the token."""
    sessions: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Hash of a session's id → key of its token, and the time of its end."""


def add_token(coord: EcosystemAccess, person: str, *, read_only: bool = False) -> str:
    """Return a new token of a person, which cannot be shown again. Raises UsageError, NotAllowed."""
    coord.authority.check(CREDENTIAL)
    return Tokens(coord.state).add(person, read_only=read_only)


def revoke_token(coord: EcosystemAccess, person: str) -> None:
    """Revoke the token of a person, whose sessions end. Raises NotFound, NotAllowed."""
    coord.authority.check(CREDENTIAL)
    Tokens(coord.state).revoke(person)


class Tokens:
    """The tokens and sessions of a file. Raises CoordinationError if it cannot be read or written."""

    def __init__(self, state: Path, now: Callable[[], float] = time.time) -> None:
        self.path = state / FILE
        self._now = now
        self._read: tuple[tuple[int, ...], _Content] | None = None

    def add(self, person: str, *, read_only: bool = False) -> str:
        """Return a new token, which cannot be shown again; revoke the former token of the person."""
        if not person or len(person) > LONGEST_NAME or not person.isprintable() or person != person.strip():
            raise UsageError(
                f"{person[:LONGEST_NAME]!r} is no name of a person",
                "use the user name of the person, or the name in the trust file",
            )
        key, secret = secrets.token_hex(8), secrets.token_urlsafe(SECRET_BYTES)
        token = f"{key}.{secret}"
        with self._changing() as content:
            _drop(content, person)
            content.tokens[key] = Token(
                person=person, sha256=_hash(token), since=self._now(), read_only=read_only
            )
        return token

    def revoke(self, person: str) -> None:
        """Revoke the token of a person, whose sessions end. Raises NotFound."""
        with self._changing() as content:
            if not _drop(content, person):
                near = did_you_mean(person, [token.person for token in content.tokens.values()])
                raise NotFound(f"{person} has no token{near}", "list them: coord dashboard token list")

    def list(self) -> tuple[Token, ...]:
        return tuple(sorted(self._content().tokens.values(), key=lambda token: token.person))

    def sign_in(self, token: str) -> str | None:
        """Return the id of a new session; None for a wrong token, in constant time."""
        key = token.partition(".")[0]
        known = self._content().tokens.get(key)
        if not hmac.compare_digest(_hash(token), known.sha256 if known else _hash("")) or known is None:
            return None
        session = secrets.token_urlsafe(SECRET_BYTES)
        with self._changing() as content:
            now = self._now()
            content.sessions = {name: one for name, one in content.sessions.items() if one[1] > now}
            content.sessions[_hash(session)] = (key, now + SESSION_S)
        return session

    def visitor(self, session: str) -> Visitor | None:
        """Return the person of a session; None if it has ended."""
        content = self._content()
        key, until = content.sessions.get(_hash(session), ("", 0.0))
        token = content.tokens.get(key)
        if token is None or until <= self._now():
            return None
        return Visitor(person=token.person, read_only=token.read_only, csrf=_hash(f"form {session}"))

    def sign_out(self, session: str) -> None:
        with self._changing() as content:
            content.sessions.pop(_hash(session), None)

    def _content(self) -> _Content:
        try:
            found = self.path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, _parse(self.path.read_bytes()))
        except FileNotFoundError:
            return _Content()
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CoordinationError(
                f"{self.path} cannot be read: {error}", "remove it, then: coord dashboard token add PERSON"
            ) from error
        return self._read[1]

    @contextmanager
    def _changing(self) -> Iterator[_Content]:
        try:
            make_private(self.path.parent)
            with locked(self.path.with_suffix(".lock")):
                self._read = None
                content = self._content()
                yield content
                replace_file(self.path, json.dumps(asdict(content)).encode(), durable=True)
                self._read = None
        except OSError as error:
            raise CoordinationError(
                f"cannot write {self.path}: {error.strerror or error}", "make room or correct the mode"
            ) from error


def _drop(content: _Content, person: str) -> bool:
    gone = {key for key, token in content.tokens.items() if token.person == person}
    content.tokens = {key: token for key, token in content.tokens.items() if key not in gone}
    content.sessions = {name: one for name, one in content.sessions.items() if one[0] not in gone}
    return bool(gone)


def _parse(raw: bytes) -> _Content:
    read: dict[str, Any] = json.loads(raw)
    return _Content(
        tokens={key: Token(**token) for key, token in read["tokens"].items()},
        sessions={name: (str(key), float(until)) for name, (key, until) in read["sessions"].items()},
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass
class Guesses:
    """Counts wrong tokens by address. A token has 256 random bits, so the limit only bounds the load."""

    now: Callable[[], float] = time.monotonic
    _failed: dict[str, tuple[float, int]] = field(default_factory=dict)

    def exhausted(self, address: str) -> bool:
        return self._recent(address)[1] >= GUESSES

    def failed(self, address: str) -> None:
        since, count = self._recent(address)
        self._failed.pop(address, None)
        if len(self._failed) >= ADDRESSES:
            self._failed.pop(next(iter(self._failed)))
        self._failed[address] = (since, count + 1)

    def _recent(self, address: str) -> tuple[float, int]:
        now = self.now()
        since, count = self._failed.get(address, (now, 0))
        return (since, count) if now - since < MINUTE_S else (now, 0)
