"""Reads the secret that a reference names: `env:NAME`, `file:PATH`, `keyring:SERVICE/NAME`, `command:CMD`.

The secret is read when it is needed, and no error, log or argument list shows it.

    env:NAME              a variable of the process that needs it; todos' commands do not inherit it
    file:PATH             a file of this user that nobody else may read; checked at each read
    keyring:SERVICE/NAME  an entry of the system's keyring, through the optional package `keyring`
    command:CMD           the line that a program prints; it runs without a shell and without input

A failure raises `SecretUnreadable` with the cause and the remedy. A program is killed with its process group
after TIMEOUT_S, or when it prints more than MOST_BYTES.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from coordination.credentials.detection import known_format
from coordination.environment import UNATTENDED
from coordination.errors import Blocked, UsageError
from coordination.files import OTHERS, expanded
from coordination.terminal import spelled
from coordination.text import install_extra, quoted
from coordination.user_program import NoAnswer, ask

SHORTEST = 6
"""Minimum length of a secret in characters: a shorter one occurs in any text and could not be masked."""
MOST_BYTES = 16 * 1024
"""Maximum size of a secret in bytes; an RSA key of 8192 bits has 6,400."""
TIMEOUT_S = 20.0
WORDS_SHOWN = 200
FORMS = "env:NAME, file:PATH, keyring:SERVICE/NAME or command:CMD"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class SecretUnreadable(Blocked):
    """The secret of a credential cannot be read here."""


class Source(StrEnum):
    ENV = "env"
    FILE = "file"
    KEYRING = "keyring"
    COMMAND = "command"


@dataclass(frozen=True, kw_only=True)
class Reference:
    source: Source
    place: str
    """The variable, the absolute path, SERVICE/NAME, or the command."""

    def __str__(self) -> str:
        return f"{self.source}:{self.place}"

    @property
    def variable(self) -> str:
        """Return the environment variable that it names; empty for other references."""
        return self.place if self.source is Source.ENV else ""


def parse(text: str, folder: Path | None = None) -> Reference:
    """Return the reference; a relative path starts at `folder` (default: the current one).

    Raises UsageError, which does not show the text, because people type the secret itself by mistake.
    """
    kind, _, place = text.partition(":")
    if kind not in [*Source] or not place.strip() or known_format(place):
        raise UsageError(
            "a credential is a reference to a secret, and this is none (or the secret itself)",
            f"write {FORMS}; a secret that was typed here is in the shell's history: renew it",
        )
    source, place = Source(kind), place.strip()
    if _FORBIDDEN.search(place) or "\n" in place:
        raise UsageError(f"a reference {kind}: has control characters", f"write {FORMS}")
    if source is Source.ENV and not _VARIABLE.fullmatch(place):
        raise UsageError(
            "env: names no variable: letters, digits and '_' only", "write env:NAME, like env:NPM_TOKEN"
        )
    if source is Source.FILE:
        place = str(Path(folder or Path.cwd(), expanded(place)))
    if source is Source.KEYRING and not all(place.partition("/")):
        raise UsageError("keyring: needs a service and a name", "write keyring:SERVICE/NAME")
    if source is Source.COMMAND:
        _words(place)
    return Reference(source=source, place=place)


def read(reference: Reference, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> str:
    """Return the secret. Raises SecretUnreadable."""
    match reference.source:
        case Source.ENV:
            secret = _from_environment(reference.place, environ)
        case Source.FILE:
            secret = _from_file(Path(reference.place))
        case Source.KEYRING:
            secret = _from_keyring(reference.place, timeout_s)
        case Source.COMMAND:
            secret = _from_command(_words(reference.place), reference.place, timeout_s)
    return _checked(secret, reference)


def _checked(secret: str, reference: Reference) -> str:
    where = _shown(reference)
    if not secret.strip():
        raise SecretUnreadable(f"{where} is empty", "put the secret there")
    if len(secret) < SHORTEST:
        raise SecretUnreadable(
            f"{where} holds less than {SHORTEST} characters: it could not be masked in logs",
            "use a longer secret",
        )
    if len(secret.encode()) > MOST_BYTES:
        raise SecretUnreadable(
            f"{where} holds more than {MOST_BYTES:,} bytes", "name the secret alone, without other data"
        )
    if _FORBIDDEN.search(secret):
        raise SecretUnreadable(f"{where} holds control characters", "keep a secret of plain text there")
    return secret


def _shown(reference: Reference) -> str:
    return spelled(str(reference))[:WORDS_SHOWN]


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    secret = environ.get(name)
    if secret is None:
        raise SecretUnreadable(
            f"the variable {name} is not set in this process", f"set {name} where it is started, and restart"
        )
    try:
        secret.encode()
    except UnicodeEncodeError as error:
        raise SecretUnreadable(f"the variable {name} is not UTF-8 text", "set it to plain text") from error
    return secret


def _from_file(path: Path) -> str:
    named = spelled(str(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            _refuse_open_to_others(path, os.fstat(handle))
            content = file.read(MOST_BYTES + 2)
    except OSError as error:
        hint = "correct the path: coord credential rotate NAME file:PATH"
        if error.errno == errno.EACCES:
            hint = f"make this user its owner: chown {os.geteuid()} {quoted(named)}"
        raise SecretUnreadable(f"file:{named} cannot be read: {error.strerror}", hint) from error
    return _without_line_end(_text(content, f"file:{named}"))


def _refuse_open_to_others(path: Path, status: os.stat_result) -> None:
    named = spelled(str(path))
    if not stat.S_ISREG(status.st_mode):
        raise SecretUnreadable(f"file:{named} is not a regular file", "name a file that holds the secret")
    if status.st_uid not in (os.geteuid(), 0):
        raise SecretUnreadable(
            f"file:{named} belongs to another user, who can change it",
            f"chown {os.geteuid()} {quoted(named)}",
        )
    if status.st_mode & OTHERS:
        raise SecretUnreadable(f"other users may read file:{named}", f"chmod 600 {quoted(named)}")


def _from_keyring(place: str, timeout_s: float) -> str:
    if find_spec("keyring") is None:
        raise SecretUnreadable(
            f"keyring:{spelled(place)} needs the package keyring, which is not installed",
            install_extra("keyring"),
        )
    service, _, name = place.partition("/")
    # In a process of its own, because a backend may wait until a person unlocks it.
    argv = (sys.executable, "-P", "-m", "keyring", "get", service, name)
    return _from_command(argv, f"keyring:{place}", timeout_s)


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise UsageError(f"command: cannot be split into words: {error}", "close the quotes") from error
    if not words:
        raise UsageError("command: names no program", "write it like command:gh auth token")
    return words


def _from_command(argv: Sequence[str], shown: str, timeout_s: float) -> str:
    named = f"the command {spelled(shown)[:WORDS_SHOWN]!r} of a credential"
    hint = "run it by hand on this machine, as the worker's user, without input"
    try:
        output = ask(
            tuple(argv), b"", timeout_s=timeout_s, output_limit_bytes=MOST_BYTES, environment=UNATTENDED
        )
    except NoAnswer as error:
        raise SecretUnreadable(f"{named} gave no secret: {_without_tokens(str(error))}", hint) from error
    secret = _without_line_end(_text(output, named))
    if not secret.strip():
        raise SecretUnreadable(f"{named} printed nothing", hint)
    if "\n" in secret or "\r" in secret:
        raise SecretUnreadable(
            f"{named} printed more than one line",
            "let it print the secret alone; a secret of several lines belongs in a file",
        )
    return secret


def _without_tokens(words: str) -> str:
    """Return the message of a program without words that look like a secret."""
    return " ".join("***" if known_format(word) else word for word in words.split())[:WORDS_SHOWN]


def _text(content: bytes, named: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SecretUnreadable(f"{named} does not give UTF-8 text", "keep a secret of plain text") from error


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")
