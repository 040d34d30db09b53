"""Records of a landing in one repository: the base branch; what a step has found, made, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coordination.git import is_commit
from workers.workspace.git import PATIENCE


@dataclass(frozen=True, kw_only=True)
class BaseBranch:
    """The repository of this host, and its base branch at the remote or in the checkout itself."""

    repo: str
    """Its name, for messages."""
    path: Path
    """The checkout, or a bare repository."""
    branch: str
    url: str = ""
    """The remote; not needed for functions of `local.py`."""
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Environment variables that give git access to the remote (workers/credentials.py)."""
    patience: timedelta = PATIENCE
    """The longest that one call of git may take; a remote that has fallen silent is given up after that."""

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"


class Reason(StrEnum):
    """Reason why a step was not done. Code branches on it and on `passes`; its text is for people."""

    # Passing trouble: the same call may succeed later, with nothing changed by a person.
    NETWORK = "network"
    """The remote cannot be reached, or does not answer in time, or broke off."""
    BUSY = "busy"
    """The remote answers that it cannot now: a server error, a rate limit, a lock, a full disk."""
    MOVED = "moved"
    """The base branch is at another commit than expected: look and prepare again."""
    DIRTY = "dirty"
    """The checkout has uncommitted changes, or files that the landing would overwrite."""
    OPERATION = "operation"
    """A merge, rebase, cherry-pick or revert is under way in the checkout, or it is not the only one."""

    UNKNOWN = "unknown"
    """git failed with an unknown message: waiting with the message shown is better than a revert."""

    # Lasting refusals: a person has to change something.
    NO_URL = "no_url"
    """The repository has no `url`."""
    NO_REPOSITORY = "no_repository"
    """The remote knows no such repository, or hides it from users without the right to read it."""
    NO_BRANCH = "no_branch"
    """The base branch does not exist there."""
    UNAUTHENTICATED = "unauthenticated"
    """The remote wants a login, or refuses the one given (401)."""
    FORBIDDEN = "forbidden"
    """The remote knows the login, and it may not do this (403)."""
    DECLINED = "declined"
    """A hook or a rule of the remote (a protected branch, say) refused the push."""
    CONFLICT = "conflict"
    """The same lines were changed on the base branch."""
    NOT_FAST_FORWARD = "not_fast_forward"
    """The method is ff and the tip does not contain the base."""
    REWRITTEN = "rewritten"
    """The history was rewritten: a commit does not contain the one that it must build on."""
    NO_COMMIT = "no_commit"
    """A commit that is needed is not in this repository."""
    LARGE_FILES = "large_files"
    """Git LFS is not installed on this host, or lacks files that the work names."""
    SHALLOW = "shallow"
    """The clone lacks the part of the history that is needed."""

    @property
    def passes(self) -> bool:
        return self in _PASSING


_PASSING = frozenset(
    {Reason.NETWORK, Reason.BUSY, Reason.MOVED, Reason.DIRTY, Reason.OPERATION, Reason.UNKNOWN}
)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A step that was not done. Nothing has changed anywhere."""

    reason: Reason
    error: str
    """One text for people: masked, without control characters, of limited length."""
    files: Sequence[str] = ()
    """The files in conflict, or in the way; all of them."""
    base: str = ""
    """The base tip that was seen, where there is one: after MOVED, the one to go on from."""

    @property
    def lasting(self) -> bool:
        return not self.reason.passes


@dataclass(frozen=True, kw_only=True)
class BaseTip:
    """The base branch as it is now. Its commit is in this repository."""

    commit: str
    checkout: Path | None = None
    """Only of a local look: the folder that has the branch checked out."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The commit to push. Record it before the push: after a crash it may be on the base branch."""

    commit: str
    tree: str
    base: str
    """The commit that it was made for, which the push expects."""


@dataclass(frozen=True, kw_only=True)
class NoChange:
    """The step would change nothing: the tip has no difference, or the base has all of it."""

    base: str


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """The base branch contains the commit."""

    base: str
    """The base branch's tip now: the commit, or a later one that contains it."""
    already: bool = False
    """True if it was there before this call."""
    note: str = ""
    """One text on what code of the repository has changed meanwhile; empty without such a change."""


class HasLanded(StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """A merge for the comparison has conflicts: the record of the change set decides."""


def commit_in(known: Mapping[str, Any], name: str) -> str:
    """Return a commit or tree of a record; empty for anything else: a record in Redis proves nothing."""
    value = known.get(name)
    return value if isinstance(value, str) and is_commit(value) else ""
