"""The credentials of this machine: a file of references in the user's config folder.

`~/.config/coord/credentials.json` has mode 0600 and is replaced as a whole, under a lock. It contains no
secret, but its commands are executed, so a file that another user owns or can change is refused. Nothing of
it is sent to Redis or written into ecosystem.yaml.

Rotation: the old reference is kept until the new one was read for the first time; until then it is used if
the new one cannot be read.

git gets a secret from a program that answers for one https host only. Credential helpers are switched off,
because one that stores passwords would keep the secret.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from coordination.credentials.records import Credential, Expiry, Purpose
from coordination.credentials.references import Reference, SecretUnreadable, parse, read
from coordination.environment import config_folder_from_environment
from coordination.errors import Conflict, CoordinationError, NotAllowed, NotFound, UsageError
from coordination.files import OTHERS, locked, make_private, open_private, replace_file
from coordination.text import did_you_mean, quoted, wrong_value

FILE = "credentials.json"
MOST_BYTES = 1024 * 1024
NOTED_EVERY = timedelta(minutes=1)
"""Minimum time between two records of a use."""
ASKPASS = "git-askpass"
USER = "x-access-token"
"""The user for a `url` without one: GitHub requires it for its apps, other forges accept any."""
NO_HELPERS = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "credential.helper",
    "GIT_CONFIG_VALUE_0": "",
}

logger = logging.getLogger(__name__)

_CREDENTIALS = TypeAdapter(tuple[Credential, ...])


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret that was read; `repr` does not show it."""

    name: str
    value: str
    purposes: tuple[Purpose, ...] = ()
    warning: str = ""
    """The reason why the reference before a rotation was used; empty otherwise."""

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r})"


def credentials_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the file; without HOME it is below `/`, the HOME of many containers."""
    return (config_folder_from_environment(environ) or Path("/.config/coord")) / FILE


class CredentialStore:
    """The file of credentials, read anew by each call. Writing methods hold its lock."""

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._environ = environ

    def all(self) -> tuple[Credential, ...]:
        """Return all credentials by name.

        Raises NotAllowed if others can reach the file, CoordinationError if it is broken.
        """
        return tuple(sorted(self._load().values(), key=lambda one: one.name))

    def valid_for(self, purpose: Purpose, now: datetime) -> tuple[Credential, ...]:
        """Return the credentials for a purpose that have not expired. Raises as `all` does."""
        return tuple(
            one for one in self.all() if purpose in one.purposes and one.expiry(now) is not Expiry.EXPIRED
        )

    def get(self, name: str) -> Credential:
        """Return a credential. Raises NotFound."""
        known = self._load()
        if name not in known:
            raise NotFound(
                f"there is no credential {name!r:.100}{did_you_mean(name, known)}",
                "list them: coord credential list",
            )
        return known[name]

    def add(
        self,
        name: str,
        reference: Reference,
        *,
        repos: Iterable[str] = (),
        purposes: Iterable[Purpose] = (Purpose.TODO,),
        hosts: Iterable[str] = (),
        expires: date | None = None,
        replace: bool = False,
    ) -> Credential:
        """Write a new credential; without `repos` it is for all repositories. Raises Conflict if the name
        exists and `replace` is false; UsageError.
        """
        if Purpose.WEBHOOK in (wanted := set(purposes)) and len(wanted) > 1:
            raise UsageError(
                "the forge keeps the secret of a webhook in its settings, so it must be for nothing else",
                f"add it alone: coord credential add {name} REFERENCE --purpose webhook",
            )
        try:
            new = Credential(
                name=name,
                reference=str(reference),
                repos=tuple(dict.fromkeys(repos)),
                purposes=tuple(sorted(wanted, key=[*Purpose].index)),
                hosts=tuple(dict.fromkeys(hosts)),
                expires=expires,
            )
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            raise UsageError(
                f"the {detail['loc'][0]} of a credential {wrong_value([detail])}",
                "for example: coord credential add npm-token env:NPM_TOKEN --repo web",
            ) from error
        with self._changing() as known:
            if name in known and not replace:
                raise Conflict(
                    f"there is a credential {name} already",
                    f"a new secret for it: coord credential rotate {name} REFERENCE; "
                    "another scope: repeat this command with --replace",
                )
            known[name] = new
        return new

    def rotate(self, name: str, reference: Reference, expires: date | None = None) -> Credential:
        """Set a new reference and expiry; keep the reference that was read last until the new one was read.

        Raises NotFound.
        """
        old = self.get(name)
        with self._changing() as known:
            old = known.get(name, old)
            update = {
                "reference": str(reference),
                "replaced": old.replaced or old.reference,
                "expires": expires,
            }
            known[name] = old.model_copy(update=update)
            return known[name]

    def revoke(self, name: str) -> Credential:
        """Remove a credential from this machine. Raises NotFound."""
        removed = self.get(name)
        with self._changing() as known:
            known.pop(name, None)
        return removed

    def read(self, name: str, now: datetime | None = None) -> Secret:
        """Read the secret of a credential. Raises NotFound, SecretUnreadable."""
        credential = self.get(name)
        now = now or datetime.now(UTC)
        try:
            value = read(parse(credential.reference), self._environ)
            secret = Secret(name=name, value=value, purposes=credential.purposes)
        except SecretUnreadable as error:
            if not credential.replaced:
                raise SecretUnreadable(f"{name}: {error.message}", error.hint) from error
            secret = self._read_replaced(credential, error)
        try:
            self._note_use(credential, now, rotated=not secret.warning)
        except CoordinationError as error:  # the folder may be mounted read-only; the secret was read
            logger.warning("the use of credential %s is not written down: %s", name, error.message)
        return secret

    def _read_replaced(self, credential: Credential, error: SecretUnreadable) -> Secret:
        name = credential.name
        try:
            value = read(parse(credential.replaced), self._environ)
        except SecretUnreadable as older:
            raise SecretUnreadable(
                f"{name}: {error.message}; and the one before it: {older.message}", error.hint
            ) from older
        warning = f"the new reference of {name} cannot be read, the one before is used: {error.message}"
        return Secret(name=name, value=value, purposes=credential.purposes, warning=warning)

    def _note_use(self, used: Credential, now: datetime, *, rotated: bool) -> None:
        rotated = rotated and bool(used.replaced)
        if not rotated and used.last_used and timedelta(0) <= now - used.last_used < NOTED_EVERY:
            return
        with self._changing() as known:
            present = known.get(used.name)
            if present is None or present.reference != used.reference:  # revoked or rotated meanwhile
                return
            update: dict[str, object] = {"last_used": now.replace(microsecond=0)}
            known[used.name] = present.model_copy(update=update | ({"replaced": ""} if rotated else {}))

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Credential]]:
        try:
            make_private(self.path.parent)
            with locked(self.path.with_name(f".{FILE}.lock")):
                known = self._load()
                before = dict(known)
                yield known
                if known != before:
                    content = _CREDENTIALS.dump_json(tuple(known.values()), indent=1)
                    replace_file(self.path, content + b"\n", durable=True)
        except OSError as error:
            raise CoordinationError(
                f"{self.path} cannot be written: {error.strerror}", f"see the rights of {self.path.parent}"
            ) from error

    def _load(self) -> dict[str, Credential]:
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CoordinationError(
                f"{self.path} cannot be read: {error.strerror}", f"see its rights: ls -l {self.path}"
            ) from error
        with os.fdopen(handle, "rb") as file:
            _refuse_unsafe(self.path, os.fstat(handle))
            content = file.read(MOST_BYTES + 1)
        try:
            if len(content) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
            found = _CREDENTIALS.validate_python(json.loads(content))
        except ValidationError as error:
            detail = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, detail["loc"]))
            raise self._broken(f"{place}: {detail['msg']}") from error
        except (ValueError, RecursionError) as error:
            raise self._broken(str(error)) from error
        return {one.name: one for one in found}

    def _broken(self, why: str) -> CoordinationError:
        return CoordinationError(
            f"{self.path} is not a list of credentials: {why}",
            "correct it, or move it away and add the credentials again: coord credential add",
        )


def _refuse_unsafe(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotAllowed(f"{path} is not a regular file", "move it away: coord writes a new one")
    if status.st_uid != os.geteuid():
        raise NotAllowed(
            f"{path} belongs to another user, and its commands would be executed",
            f"chown {os.geteuid()} {quoted(path)}",
        )
    if status.st_mode & OTHERS:
        raise NotAllowed(
            f"other users may read or write {path}, and its commands are executed",
            f"chmod 600 {quoted(path)}",
        )


def credential_for_git(store: CredentialStore, repo: str, url: str, purpose: Purpose, now: datetime) -> str:
    """Return the name of the credential with which git may use the address of a repository; empty if there is
    none, or if the address is not https. A credential for writing is used for reading, too. Raises as
    `CredentialStore.all` does.
    """
    if not askpass(url, Path()):
        return ""
    host = urlsplit(url).hostname or ""
    usable = [one for one in store.all() if one.is_for(repo, host) and one.expiry(now) is not Expiry.EXPIRED]
    purposes = (purpose, Purpose.WRITE) if purpose is Purpose.READ else (purpose,)
    return next((one.name for purpose in purposes for one in usable if purpose in one.purposes), "")


def askpass_variables(folder: Path, url: str, secret: Path) -> dict[str, str]:
    """Write the program for GIT_ASKPASS into the folder; return the variables for git. Raises OSError."""
    if not (script := askpass(url, secret)):
        return {}
    program = folder / ASKPASS
    with open_private(program) as file:
        file.write(script)
    program.chmod(0o700)
    return {"GIT_ASKPASS": str(program), **NO_HELPERS}


def askpass(url: str, secret: Path) -> str:
    """Return a program for GIT_ASKPASS that answers for the host of this address only; empty for an address
    that is not https.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return ""
    user, _, host = parts.netloc.rpartition("@")
    user = user.partition(":")[0] or USER
    asked_user = shlex.quote(f"Username for 'https://{host}': ")
    asked_password = shlex.quote(f"Password for 'https://{user}@{host}': ")
    return (
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"{asked_user}) printf '%s\\n' {shlex.quote(user)} ;;\n"
        f"{asked_password}) cat {shlex.quote(str(secret))} ;;\n"
        "*) echo 'coord: the secret is for another address' >&2; exit 1 ;;\n"
        "esac\n"
    )
