"""The credentials of this machine: secrets for todos, and passwords for git.

A todo gets the secrets that it names as files in the private folder of its attempt: COORD_SECRETS is a
folder with one file for each name, mode 0600, without a line end. It is removed with the attempt's folder:
when the attempt ends, or, after a kill of the worker, by the next clean-up of any worker
(`workspace/files.py`). If a named credential is for reading or writing and the repository's `url` is https,
GIT_ASKPASS answers git's question for a password of that host, and of no other. A todo whose secrets this
worker cannot give waits (`SecretsMissing`): for a person, not for another attempt, so none is used up.

Git of the worker itself gets a password for one https host, and for no other. Credential helpers are switched
off meanwhile: one that stores passwords would keep the secret.

The values leave this process only in those files: `Masker` removes them from all output of the todo.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from coordination.credentials.records import Credential, Purpose, refusal_for_todo
from coordination.credentials.references import SecretUnreadable, parse
from coordination.credentials.store import (
    ASKPASS,
    CredentialStore,
    Secret,
    askpass_variables,
    credential_for_git,
)
from coordination.errors import CoordinationError, NotFound
from coordination.files import make_private, open_private
from coordination.models import Repo
from coordination.runs.attempt_store import Grant
from workers.process.trouble import describe_os_error
from workers.workspace.files import scratch

FOLDER = "secrets"
Record = Callable[[Grant, Sequence[str]], None]

logger = logging.getLogger(__name__)


class SecretsMissing(CoordinationError):
    """This worker cannot give the todo a secret that it names."""


class WithheldVariables(Mapping[str, str]):
    """Variables of this process; those that credentials name are taken out of its environment, so that no
    command inherits them.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._taken: dict[str, str] = {}
        self._stamp: tuple[int, int] | None = None

    def __getitem__(self, name: str) -> str:
        if name in self._environ:
            self._taken[name] = self._environ.pop(name)
        return self._taken[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._environ, **self._taken})

    def __len__(self) -> int:
        return len({**self._environ, **self._taken})

    def take(self, store: CredentialStore) -> None:
        """Take out the variables that credentials name, if the file of credentials has changed."""
        try:
            found = store.path.stat()
            if (stamp := (found.st_ino, found.st_mtime_ns)) != self._stamp:
                for credential in store.all():
                    for reference in filter(None, (credential.reference, credential.replaced)):
                        self.get(parse(reference).variable)
                self._stamp = stamp
        except (OSError, CoordinationError) as error:  # todos that name a secret wait for the same reason
            logger.debug("no credentials: %s", error)


class TodoSecrets:
    """The credentials of this worker's machine, for its todos."""

    def __init__(self, path: Path, environ: MutableMapping[str, str], host: str, record: Record) -> None:
        """`path`: the file of credentials. `record` writes the event of a read."""
        self._variables = WithheldVariables(environ)
        self.store = CredentialStore(path, self._variables)
        self._variables.take(self.store)
        self._host = host
        self._record = record

    def check(self, grant: Grant) -> None:
        """Raise SecretsMissing if the todo names a credential that it does not get here. Reads no secret."""
        self._variables.take(self.store)
        if names := grant.spec.todo.secrets:
            self._allowed(names, grant.spec.repo.name)

    def read(self, grant: Grant) -> Sequence[Secret]:
        """Return the secrets that the todo names, in its order. Raises SecretsMissing."""
        if not (names := grant.spec.todo.secrets):
            return ()
        self._allowed(names, grant.spec.repo.name)
        self._record(grant, names)
        try:
            return tuple(self.store.read(name) for name in names)
        except (SecretUnreadable, NotFound) as error:
            raise self._missing(error.message, error.hint) from error

    def _allowed(self, names: Sequence[str], repo: str) -> None:
        try:
            known: Mapping[str, Credential] = {one.name: one for one in self.store.all()}
        except CoordinationError as error:
            raise self._missing(error.message, error.hint) from error
        now = datetime.now(UTC)
        for name in names:
            if refused := refusal_for_todo(known, name, repo, now):
                raise self._missing(*refused)

    def _missing(self, why: str, remedy: str) -> SecretsMissing:
        return SecretsMissing(f"a secret on host {self._host}: {why}; there: {remedy}")


def write_secrets(folder: Path, repo: Repo, secrets: Sequence[Secret]) -> dict[str, str]:
    """Write the secrets into the attempt's folder; return the variables that lead to them.

    Git gets the first secret for writing, else the first one for reading, if there is one.

    Raises WorkspaceUnusable.
    """
    place = folder / FOLDER
    with describe_os_error(folder):
        make_private(place)
        for secret in secrets:
            with open_private(place / secret.name, newline="") as file:
                file.write(secret.value)
        variables = {"COORD_SECRETS": str(place)}
        pairs = ((secret, purpose) for purpose in (Purpose.WRITE, Purpose.READ) for secret in secrets)
        for_git = next((secret.name for secret, purpose in pairs if purpose in secret.purposes), "")
        if for_git:
            variables |= askpass_variables(folder, repo.url or "", place / for_git)
    return variables


SECRET = "secret"  # noqa: S105 (the name of its file)

Access = Callable[[str, str, str, Purpose], AbstractContextManager[dict[str, str]]]
"""(run, repository, address, purpose) → the variables with which git may use the address, in the block."""


def without_credentials(
    _run: str, _repo: str, _url: str, _purpose: Purpose
) -> AbstractContextManager[dict[str, str]]:
    """Give git no secret: it uses what the user has set up."""
    return nullcontext({})


class GitCredentials:
    """The credentials of this machine, for git commands of the worker itself."""

    def __init__(self, store: CredentialStore, state: Path, record: Callable[[str, str, str], None]) -> None:
        """`record` writes the event of a read: (run, repository, name of the credential)."""
        self._store = store
        self._state = state
        self._record = record

    @contextmanager
    def access(self, run: str, repo: str, url: str, purpose: Purpose) -> Iterator[dict[str, str]]:
        """Yield the variables for git; none if no credential is for this, or it cannot be read: git then
        uses what the user has set up, and names the refusal.
        """
        if not (name := self._name(repo, url, purpose)):
            yield {}
            return
        with scratch(self._state) as folder:
            yield self._given(folder, url, name, run, repo)

    def _name(self, repo: str, url: str, purpose: Purpose) -> str:
        try:
            return credential_for_git(self._store, repo, url, purpose, datetime.now(UTC))
        except CoordinationError as error:
            logger.warning("no credentials: %s", error)
            return ""

    def _given(self, folder: Path, url: str, name: str, run: str, repo: str) -> dict[str, str]:
        try:
            self._record(run, repo, name)
            value = self._store.read(name).value
        except CoordinationError as error:
            logger.warning("git of %s goes on without the credential %s: %s", repo, name, error)
            return {}
        with describe_os_error(folder):
            with open_private(folder / SECRET, newline="") as file:
                file.write(value)
            return askpass_variables(folder, url, folder / SECRET)


def secret_of(variables: Mapping[str, str]) -> str:
    """Return the secret that these variables give to git, to be masked in what git prints; else empty."""
    program = Path(variables.get("GIT_ASKPASS", ""))
    if program.name != ASKPASS:
        return ""
    with describe_os_error(program):
        return program.with_name(SECRET).read_text()
