"""Records of a landing in one repository: the base branch, outcomes of each step, the reasons of refusals.

`refused_by` finds the reason of a refusal in the messages of git and of a remote. Lines that a remote prints
arrive as `remote: …`. They are shown, but only the reason of a declined push is read from them: a hook cannot
imitate trouble of the network by its output, or the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from subprocess import CompletedProcess
from types import MappingProxyType

from coordination.credentials.masking import Masker
from coordination.terminal import CONTROLS
from coordination.text import shortened
from workers.credentials import secret_of
from workers.transfer.routes import hidden
from workers.workspace.git import PATIENCE

FILES_SHOWN = 10


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


LONGEST = 1000
"""The most characters of an error."""
READ = 20_000
"""Characters of its output that are looked at: a remote can print without end."""
_SEQUENCES = re.compile(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)")
_UNSEEN = re.compile(f"[{CONTROLS}\\s]+")

_BY_WORDS: tuple[tuple[re.Pattern[str], Reason], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"couldn't find remote ref", Reason.NO_BRANCH),
        (r"'lfs' is not a git command|missing or corrupt local objects", Reason.LARGE_FILES),
        (r"Working directory has (un)?staged changes|Could not update working tree", Reason.DIRTY),
        (r"returned error: 401|could not read (Username|Password)|Authentication failed"
            r"|Permission denied \((publickey|password|keyboard-interactive)|Host key verification failed",
            Reason.UNAUTHENTICATED),
        (r"returned error: (403|451)|permission to \S+ denied|not allowed to (push|upload)|access denied"
            r"|service not enabled|insufficient permission|unable to create temporary object directory"
            r"|transport '\S+' not allowed",
            Reason.FORBIDDEN),
        (r"returned error: (404|410)|repository '.*' not found|ERROR: Repository not found"
            r"|project you were looking for could not be found|strange (path|host)name",
            Reason.NO_REPOSITORY),
        (r"returned error: (408|425|429|5\d\d)|No space left on device|quota exceeded|Read-only file system"
            r"|Cannot allocate memory|internal server error|try again later|\.lock': File exists"
            r"|Up-to-date check failed|fatal error in commit_refs|failed to update ref|cannot lock ref",
            Reason.BUSY),
        (r"unable to access|Could not resolve|unable to connect|Connection (refused|reset|timed out|closed)"
            r"|Failed to connect|timed out|hung up unexpectedly|early EOF|RPC failed|unexpected disconnect"
            r"|No route to host|Network is unreachable|Operation too slow|does not appear to be a git repo",
            Reason.NETWORK),
    )
)  # fmt: skip
_CERTIFICATE = re.compile("certificate|SSL: no alternative|server verification failed", re.IGNORECASE)
_STALE = re.compile(r"\[rejected\]|fetch first|but expected|incorrect old value|reference already exists")
_STATUS = re.compile(r"^!\t[^\t]*\t(.*)$", re.MULTILINE)


def refused_by(at: BaseBranch, done: CompletedProcess[str]) -> Refused:
    """Return why a call of git to a remote was refused."""
    said = done.stderr[:READ] + done.stderr[READ:][-READ:]  # our git prints its messages last
    status = _STATUS.search(done.stdout[:READ])
    of_remote, own = _parted(said)
    if status is None:
        error = f"{_essence(own)} {_essence(of_remote)}".strip() or f"git ended with {done.returncode}"
        return Refused(reason=_reason(own), error=masked(at, error))
    text = status[1]
    essence = _essence(of_remote)
    if text.startswith("[rejected]"):
        return Refused(reason=Reason.MOVED, error=masked(at, f"{at.branch} is not where it was: {text}"))
    error = masked(at, f"{text}: {essence}" if essence else text)
    if _STALE.search(text) or _STALE.search(essence):
        return Refused(reason=Reason.MOVED, error=error)
    known = _reason(f"{text}\n{of_remote if 'hook' not in text else ''}\n{own}")
    return Refused(reason=Reason.DECLINED if known is Reason.UNKNOWN else known, error=error)


def masked(at: BaseBranch, text: str) -> str:
    """Return a text as one line of limited length: no secret, no login of a URL, no control characters."""
    text = _SEQUENCES.sub("", text[:READ]).encode(errors="replace").decode()
    if secret := secret_of(at.variables).strip():
        text = Masker([secret]).text(text)
    if at.url:
        text = text.replace(at.url, hidden(at.url))
    return shortened(hidden(_UNSEEN.sub(" ", text)).strip(), LONGEST)


def _reason(text: str) -> Reason:
    if _CERTIFICATE.search(text):
        return Reason.UNKNOWN
    return next((reason for pattern, reason in _BY_WORDS if pattern.search(text)), Reason.UNKNOWN)


def _parted(said: str) -> tuple[str, str]:
    """Return the lines that the remote printed, and the lines of the local git."""
    lines = re.split(r"[\r\n]+", said)
    of_remote = [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]
    return "\n".join(of_remote), "\n".join(line for line in lines if not line.startswith("remote:"))


def _essence(text: str) -> str:
    """Return the text without git's general advice."""
    skipped = ("error: failed to push some refs", "hint:", "Please make sure", "and the repository exists")
    return "\n".join(line for line in text.splitlines() if line and not line.startswith(skipped))
