"""The forge of a repository with its token, and git's access to its remote, for one command."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Literal

from coordination.changes.requests.push import PushTarget
from coordination.credentials.records import Purpose
from coordination.credentials.store import (
    CredentialStore,
    askpass_variables,
    credential_for_git,
    credentials_file,
)
from coordination.errors import Conflict
from coordination.files import open_private
from coordination.forges.budget import ForgeBudget
from coordination.forges.connect import PATIENCE, ForgeClients, credential_for
from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress
from coordination.models import Repo
from coordination.runs.change_sets.records import RepoChange

if TYPE_CHECKING:
    from coordination.runs.connection import Connection
    from coordination.runs.store import RunStore
    from coordination.settings import Settings

AT_ONCE = 8
"""The most reads at once. GitHub asks for few, and more were not faster."""
ANSWERS = "forge-answers"


class ForgeAccess:
    """Opens forges and remotes. Each secret is read once; the reading emits an event."""

    def __init__(
        self, store: RunStore, settings: Settings, state: Path, patience: timedelta = PATIENCE
    ) -> None:
        """`state`: the state folder of this machine; `patience`: the longest pause at a limit in a call."""
        self.budget = ForgeBudget(store.redis, store.keys, settings.forge_budget)
        self._clients = ForgeClients(spender=self.budget.spender, answers=state / ANSWERS, patience=patience)
        self._store = CredentialStore(credentials_file())
        self._announce = store.announce
        self._secrets: dict[str, str] = {}
        self._lock = Lock()

    def forge(
        self, repo: str, address: ForgeAddress, purpose: Literal[Purpose.PR, Purpose.MERGE] = Purpose.PR
    ) -> Forge:
        """Return the forge. Raises NotAllowed without a credential, SecretUnreadable, ForgeError."""
        name = credential_for(self._store.all(), repo, address, datetime.now(UTC), purpose)
        secret = self._secret(name, repo)
        with self._lock:
            return self._clients.open(address, secret)

    @contextmanager
    def target(self, repo: Repo, change: RepoChange, checkout: Path) -> Iterator[PushTarget]:
        """Yield the remote of a repository, with a credential for `write` if there is one. Otherwise git uses
        the user's own settings.
        """
        url = repo.url or ""
        name = credential_for_git(self._store, repo.name, url, Purpose.WRITE, datetime.now(UTC))
        if not name:
            yield _target(repo, change, checkout)
            return
        secret = self._secret(name, repo.name)
        with TemporaryDirectory(prefix="coord-") as place:
            kept = Path(place) / "secret"
            with open_private(kept, newline="") as file:
                file.write(secret)
            variables = askpass_variables(Path(place), url, kept)
            yield replace(_target(repo, change, checkout), variables=variables, secret=secret)

    def pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="forge")

    def close(self) -> None:
        self._clients.close()

    def _secret(self, name: str, repo: str) -> str:
        with self._lock:
            if name not in self._secrets:
                self._announce("credential.read", name, repos=[repo], data={"todo": "forge"})
                self._secrets[name] = self._store.read(name).value
            return self._secrets[name]


@contextmanager
def opened_forges(connection: Connection, state: Path) -> Iterator[ForgeAccess]:
    """Yield the forges for one command, and close their connections."""
    access = ForgeAccess(connection.store, connection.settings, state)
    try:
        yield access
    finally:
        access.close()


def _target(repo: Repo, change: RepoChange, checkout: Path) -> PushTarget:
    branch = change.forge_branch
    if branch == repo.branch:  # a record of Redis proves nothing
        raise Conflict(
            f"the change set is said to be on {branch} of {repo.name}, which is the base branch",
            "somebody changed its record in Redis; adopt its branch: coord adopt PLAN",
        )
    return PushTarget(
        repo=repo.name,
        checkout=checkout,
        url=repo.url or "",
        branch=branch,
        base_branch=repo.branch,
        adopted=branch != change.branch,
    )
