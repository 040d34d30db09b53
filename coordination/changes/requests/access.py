"""The forges and remotes of a change set for one command: opened with their credentials, and inspected before
anything is changed: project, rights, request, branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeVar

from coordination.changes.requests.proposal import PlannedRequests, RepoRequest
from coordination.changes.requests.push import (
    BranchRefused,
    PushTarget,
    refuse_foreign,
    refuse_unsent,
    remote_tips,
)
from coordination.credentials.records import Purpose
from coordination.credentials.store import (
    CredentialStore,
    askpass_variables,
    credential_for_git,
    credentials_file,
)
from coordination.errors import Conflict, CoordinationError
from coordination.files import open_private
from coordination.forges.budget import ForgeBudget
from coordination.forges.connect import PATIENCE, ForgeClients, credential_for
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress
from coordination.forges.models import Protection, PullRequest, Repository, RequestState
from coordination.git import contains, has_commit
from coordination.models import Repo
from coordination.runs.change_sets.records import RepoChange
from coordination.text import quoted

if TYPE_CHECKING:
    from coordination.runs.attempt_store import AttemptStore
    from coordination.runs.connection import Connection
    from coordination.settings import Settings

AT_ONCE = 8
"""The most reads at once. GitHub asks for few, and more were not faster."""
T = TypeVar("T")
ANSWERS = "forge-answers"


class ForgeAccess:
    """Opens forges and remotes. Each secret is read once; the reading emits an event."""

    def __init__(
        self,
        store: AttemptStore,
        settings: Settings,
        state: Path,
        patience: timedelta = PATIENCE,
        branch_prefix: str = "",
    ) -> None:
        """`state`: the state folder of this machine; `patience`: the longest pause at a limit in a call;
        `branch_prefix`: that of a signed order (default: of the settings).
        """
        self.branch_prefix = branch_prefix or settings.branch_prefix
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
    def target(self, plan: str, repo: Repo, change: RepoChange, checkout: Path) -> Iterator[PushTarget]:
        """Yield the remote of a repository, with a credential for `write` if there is one. Otherwise git uses
        the user's own settings.
        """
        url = repo.url or ""
        name = credential_for_git(self._store, repo.name, url, Purpose.WRITE, datetime.now(UTC))
        target = _target(plan, repo, change, checkout, self.branch_prefix)
        if not name:
            yield target
            return
        secret = self._secret(name, repo.name)
        with TemporaryDirectory(prefix="coord-") as place:
            kept = Path(place) / "secret"
            with open_private(kept, newline="") as file:
                file.write(secret)
            variables = askpass_variables(Path(place), url, kept)
            yield replace(target, variables=variables, secret=secret)

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


def _target(plan: str, repo: Repo, change: RepoChange, checkout: Path, prefix: str) -> PushTarget:
    branch = change.branch_at_forge(prefix)
    if branch == repo.branch and change.request is None:
        raise BranchRefused(
            f"{branch} is the base branch of {repo.name}",
            "name another beginning of branches: setting branch_prefix",
        )
    if branch == repo.branch:  # a record of Redis proves nothing
        raise Conflict(
            f"the record of the change set names the base branch {branch} of {repo.name} as its branch",
            f"somebody has changed its record in Redis; see: coord changes {quoted(plan)}",
        )
    return PushTarget(
        repo=repo.name,
        checkout=checkout,
        url=repo.url or "",
        branch=branch,
        base_branch=repo.branch,
        plan=plan,
        request=change.request.number if change.request else None,
        recorded=change.request.head if change.request else "",
        adopted=not change.is_own(branch, prefix),
    )


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A repository before anything is changed."""

    item: RepoRequest
    forge: Forge
    request: PullRequest | None
    """The request of its branch: the open one, else the newest."""
    remote_tip: str
    """The commit of the branch at the remote; empty without one."""
    closed: PullRequest | None = None
    """The request of the change set, if it was closed without a merge."""

    @property
    def open_request(self) -> PullRequest | None:
        return self.request if self.request and self.request.is_open else None

    @property
    def is_merged(self) -> bool:
        """Return whether people have merged this tip by its request."""
        request, tip = self.request, self.item.change.tip
        return bool(request and request.state is RequestState.MERGED and request.head_sha == tip)

    @property
    def needs_push(self) -> bool:
        return self.remote_tip != self.item.change.tip


def inspect_all(
    planned: PlannedRequests, access: ForgeAccess, *, reopen: bool = False
) -> tuple[Inspection, ...]:
    """Inspect all repositories. `reopen`: also those whose request was closed are to be proposed. Raises as
    `of_each` does.
    """
    return of_each(planned, access, lambda item: inspect(planned.plan, item, access, reopen=reopen))


def of_each(planned: PlannedRequests, access: ForgeAccess, ask: Callable[[RepoRequest], T]) -> tuple[T, ...]:
    """Return the answer for each repository, in landing order; several are asked at once.

    Raises the first refusal, with the names of the other refused repositories.
    """
    with access.pool() as pool:
        futures = [(item, pool.submit(ask, item)) for item in planned.repos]
    found, refused = [], dict[str, CoordinationError]()
    for item, future in futures:
        try:
            found.append(future.result())
        except CoordinationError as error:
            refused[item.repo.name] = error
    if refused:
        first, *others = refused
        refusal = refused[first]
        also = f"; also refused: {', '.join(others)}" if others else ""
        refusal.message = f"{first}: {refusal.message}{also}; nothing was changed"
        raise refusal
    return tuple(found)


def inspect(plan: str, item: RepoRequest, access: ForgeAccess, *, reopen: bool = False) -> Inspection:
    """Inspect one repository. A request that was closed without a merge is left, unless `reopen`.

    Raises Conflict, ForgeError, GitRefused, Unreachable if its change set must not be proposed.
    """
    change = item.change
    if change.set_back_by:
        raise Conflict(
            f"run {change.set_back_by} has set the work in {item.repo.name} back behind its pull request",
            f"let the next run add the inverse of it: coord sweep {quoted(plan)}; then try again",
        )
    forge = access.forge(item.repo.name, item.address)
    _refuse_repository(forge.repository())
    with access.target(plan, item.repo, change, item.checkout) as target:
        tips = remote_tips(target)
        request = forge.find(target.branch) if tips.branch or change.request else None
        closed = request if request and _was_closed(request, item) else None
        found = Inspection(item=item, forge=forge, request=request, remote_tip=tips.branch, closed=closed)
        if closed and not reopen:
            return found
        refuse_foreign(target, tips.branch, change.tip)
        if tips.branch and change.request is None and forge.protection(target.branch) != Protection():
            raise BranchRefused(
                f"{target.branch} of {item.repo.name} is a protected branch at the forge",
                "name another beginning of branches: setting branch_prefix",
            )
        if tips.branch != change.tip:
            refuse_unsent(target, tips.base, change.tip, change.base, plan)
    if tips.branch != change.tip:
        refuse_unproposed(plan, item.repo.name, change, request, access.branch_prefix)
    return found


def _was_closed(request: PullRequest, item: RepoRequest) -> bool:
    """Return whether the work was proposed by this request, and the request closed without a merge. A closed
    request of discarded work is another matter, although it had a branch of this name.
    """
    ref, tip = item.change.request, item.change.tip
    if request.state is not RequestState.CLOSED:
        return False
    recorded = ref is not None and ref.number == request.number
    return recorded or (
        has_commit(item.checkout, request.head_sha) and contains(item.checkout, request.head_sha, tip)
    )


def refuse_unproposed(
    plan: str, repo: str, change: RepoChange, request: PullRequest | None, prefix: str
) -> None:
    """Raise Conflict where the change set is said to be on somebody else's branch, and the forge has no open
    request of that: a record of Redis proves nothing, and a push would move any branch.
    """
    ref = change.request
    if ref is None or change.is_own(change.branch_at_forge(prefix), prefix):
        return
    if not (request and request.is_open and (request.number, request.head) == (ref.number, ref.branch)):
        raise Conflict(
            f"the record of the change set names {ref.branch} of {repo}; {ref.name} is no open request of it",
            f"reopen {ref.url}; or adopt another one: coord plan adopt {quoted(plan, repo)} --pr N",
        )


def _refuse_repository(repository: Repository) -> None:
    if repository.archived:
        raise ForgeError(
            ForgeProblem.ARCHIVED,
            f"{repository.project} is archived: nothing can be changed",
            "unarchive it at the forge; or leave it out by naming the others: --repo",
        )
    if not repository.can_push:
        raise ForgeError(
            ForgeProblem.FORK_NEEDED,
            f"the token may not push to {repository.project}, and coord does not work through forks",
            "give its owner write access; see: coord credential list",
        )
