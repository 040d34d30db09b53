"""Answer git's question for a password: for one https host, with a secret from a file, and for no other.

Credential helpers are switched off meanwhile: one that stores passwords would keep the secret.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from coordination.credentials.askpass import ASKPASS, askpass, askpass_variables
from coordination.credentials.records import Expiry, Purpose
from coordination.credentials.store import CredentialStore
from coordination.errors import CoordinationError
from coordination.files import open_private
from workers.process.trouble import describe_os_error
from workers.workspace.files import scratch

SECRET = "secret"  # noqa: S105 (the name of its file)

Access = Callable[[str, str, str, Purpose], AbstractContextManager[dict[str, str]]]
"""(run, repository, address, purpose) → the variables with which git may use the address, in the block."""

logger = logging.getLogger(__name__)


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
        name = self._name(repo, urlsplit(url).hostname or "", purpose) if askpass(url, Path()) else ""
        if not name:
            yield {}
            return
        with scratch(self._state) as folder:
            yield self._given(folder, url, name, run, repo)

    def _name(self, repo: str, host: str, purpose: Purpose) -> str:
        """Return the credential to use: the first of this purpose; to read, one to write does, too."""
        try:
            known, now = self._store.all(), datetime.now(UTC)
        except CoordinationError as error:
            logger.warning("no credentials: %s", error)
            return ""
        wanted = (purpose, Purpose.WRITE) if purpose is Purpose.READ else (purpose,)
        fitting = (one for one in known if one.is_for(repo, host) and one.expiry(now) is not Expiry.EXPIRED)
        usable = list(fitting)
        return next((one.name for want in wanted for one in usable if want in one.purposes), "")

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
