"""The base branch at the remote: look at it, begin a run there, push a commit to it, try the right to push.

git runs without the hooks of this repository (`pre-push`), and follows no history that the repository only
pretends to have: with a replaced commit, a graft or a forged commit graph, "contains" could be a lie, and the
push would rewind the branch, because `--force-with-lease` allows what it expects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from subprocess import CompletedProcess

from coordination.changes.requests.push import ReadGit, lacks_start, large_files_upload, names_large_files
from coordination.git import (
    DURABLE,
    NO_GRAFTS,
    TRUE_HISTORY,
    branch_to_write,
    default_branch,
    is_commit,
    seen_ref,
)
from coordination.models import Repo
from coordination.text import counted, quoted
from workers.landing.records import BaseBranch, BaseTip, Prepared, Pushed, Reason, Refused
from workers.landing.refusals import masked, refused_by
from workers.process.trouble import GitInterrupted, GitTimeout, Trouble
from workers.transfer.routes import ADDRESSES, FETCH, PUSH, hidden
from workers.workspace.base_commit import RunBase
from workers.workspace.git import ask, git
from workers.workspace.repository import commit_at, is_shallow, tip

SHOWN = 5
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-/.]|^@$|[/.]$")
"""Names that `git check-ref-format --branch` refuses."""


class RemoteBase:
    """The base branch at the `url` of a repository."""

    def __init__(
        self, repo: Repo, checkout: Path, access: Callable[[], AbstractContextManager[dict[str, str]]]
    ) -> None:
        """`access`: gives git access to the remote."""
        self._repo = repo
        self._checkout = checkout
        self._access = access

    @contextmanager
    def opened(self) -> Iterator[BaseBranch]:
        repo = self._repo
        with self._access() as variables:
            yield BaseBranch(
                repo=repo.name,
                path=self._checkout,
                branch=repo.branch,
                url=repo.url or "",
                variables=variables,
            )

    def look(self, at: BaseBranch, pending: str = "") -> BaseTip | Refused:
        return look(at)

    def refused(self, at: BaseBranch, made: Prepared) -> Refused | None:
        return may_push(at, made.base) or refused_large_files(at, made.commit, made.base)

    def push(self, at: BaseBranch, made: Prepared) -> Pushed | Refused:
        return push(at, made.commit, made.base)


def look(at: BaseBranch) -> BaseTip | Refused:
    """Return the base tip at the remote, with its commit fetched into `refs/coord/remote/<branch>`.

    One fetch does it: where there is nothing new it costs as much as `git ls-remote`. Raises GitInterrupted
    for passing trouble of this machine (a full disk, a killed git).
    """
    if refused := refused_name(at):
        return refused
    if not at.url:
        return Refused(reason=Reason.NO_URL, error=f"{at.repo} has no url")
    seen = seen_ref(at.branch)
    done = _at_remote(at, ("fetch", *FETCH, "--", at.url, f"+{at.ref}:{seen}"))
    if isinstance(done, Refused):
        return _with_default_branch(at, done) if done.reason is Reason.NO_BRANCH else done
    return BaseTip(commit=git("rev-parse", "--verify", f"{seen}^{{commit}}", cwd=at.path))


def _with_default_branch(at: BaseBranch, refused: Refused) -> Refused:
    """Return the refusal with the default branch of the remote, which people may have renamed."""
    head = _at_remote(at, ("ls-remote", "--symref", "--", at.url, "HEAD"))
    if isinstance(head, Refused) or not (default := default_branch(head.stdout)):
        return refused
    what = f"the remote has no branch {at.branch}; its default branch is {default}"
    return replace(refused, error=masked(at, f"{what}: {branch_to_write(at.repo, default)}"))


def base_at_remote(
    repo: Repo, checkout: Path, access: Callable[[], AbstractContextManager[dict[str, str]]]
) -> RunBase:
    """Return the base tip at the `url` of the repository, or the one that was seen there last, else that of
    the local branch. Lines say where it cannot be reached, and which local commits are left out.

    Raises GitRefused where there is none of them, GitInterrupted for passing trouble of this machine.
    """
    base = RemoteBase(repo, checkout, access)
    with base.opened() as at:
        found = base.look(at)
    if isinstance(found, BaseTip):
        return RunBase(commit=found.commit, lines=_left_out(at, found.commit))
    away = f"{repo.branch} of {repo.name} at {hidden(at.url)} cannot be read: {found.error}"
    if seen := commit_at(at.path, seen_ref(at.branch)):
        line = f"{away}; the run begins with what was last seen there, {seen[:12]}"
        return RunBase(commit=seen, lines=(line, *_left_out(at, seen)))
    local = tip(repo.name, checkout, repo.branch)
    return RunBase(commit=local, lines=(f"{away}; the run begins with the local branch, {local[:12]}",))


def _left_out(at: BaseBranch, base: str) -> tuple[str, ...]:
    if not (local := commit_at(at.path, at.ref)):
        return ()
    commits = ask("log", "--format=%h %s", local, f"^{base}", cwd=at.path).stdout.splitlines()
    if not commits:
        return ()
    shown = "; ".join(commit[:80] for commit in commits[:SHOWN])
    what = f"{counted(len(commits), 'commit')} of the local {at.branch} that {hidden(at.url)} lacks"
    return (f"left out: {what}: {shown}; push them to have them in",)


def push(at: BaseBranch, commit: str, base: str) -> Pushed | Refused:
    """Push a commit that contains `base` to the base branch, which must be at `base`; never forced.

    A base branch that contains the commit by now is success, whoever moved it. After any refusal the remote
    is looked at again, so that a push whose answer was lost counts.
    """
    if refused := refused_name(at) or refused_rewind(at, commit, base):
        return refused
    if not at.url:
        return Refused(reason=Reason.NO_URL, error=f"{at.repo} has no url")
    if refused := _upload_large_files(at, commit, base):
        return refused
    lease = f"--force-with-lease={at.ref}:{base}"
    done = _at_remote(at, ("push", *PUSH, lease, "--", at.url, f"{commit}:{at.ref}"))
    if not isinstance(done, Refused):
        # A machine whose Redis has lost the record of this landing still knows that it has landed.
        ask("update-ref", seen_ref(at.branch), commit, cwd=at.path)
        return Pushed(base=commit, already=done.stdout.startswith("=\t") or "\n=\t" in done.stdout)
    seen = look(at)
    if isinstance(seen, Refused):  # it is unknown whether the push arrived: the next look shows it
        return seen if done.reason is Reason.MOVED else done
    if contains(at, seen.commit, commit):
        return Pushed(base=seen.commit, already=done.reason is Reason.MOVED)
    if seen.commit != base:
        error = f"{at.branch} is at {seen.commit[:12]}, no longer at {base[:12]}"
        return Refused(reason=Reason.MOVED, error=error, base=seen.commit)
    reason = Reason.BUSY if done.reason is Reason.MOVED else done.reason
    return Refused(reason=reason, error=done.error, base=seen.commit)


def may_push(at: BaseBranch, base: str) -> Refused | None:
    """Try the right to push by a push that changes nothing. Return the refusal; None if there is none.

    `base`: the tip that a look has found.

    It asks the remote for its receiving side, as a push does: a missing login (401), a login without the
    right to write (403), a repository that only can be read, and an address that leads nowhere answer there.
    For a path, the rights on the folder are asked.

    It cannot tell what the remote decides only when it receives: branch protection, hooks, quotas, sizes.
    These show at the push, and the landing is reverted then. No harmless push would tell: git sends none that
    moves nothing, and servers that are sent one start webhooks and builds; a push to another ref answers
    for that ref, and leaves traces.
    """
    if refused := refused_name(at):
        return refused
    if isinstance(found := trees(at, base), Refused):
        return found
    if not at.url:
        return Refused(reason=Reason.NO_URL, error=f"{at.repo} has no url")
    done = _at_remote(at, ("push", "--dry-run", *PUSH, "--", at.url, f"{base}:{at.ref}"))
    if isinstance(done, Refused):  # MOVED: the branch has moved since the look; the right is there
        return None if done.reason is Reason.MOVED else done
    return _refused_path(at)


def refused_large_files(at: BaseBranch, commit: str, base: str) -> Refused | None:
    """Return the refusal if the new commits name files of Git LFS that this host cannot upload; else None."""
    if not names_large_files(_read(at), commit, base):
        return None
    done = _at_remote(at, ("lfs", "version"))
    return done if isinstance(done, Refused) else None


def _upload_large_files(at: BaseBranch, commit: str, base: str) -> Refused | None:
    """Upload the files of Git LFS that the new commits name, as its `pre-push` hook would; None if the remote
    has them all. Without them, nobody could check the base branch out.
    """
    if not names_large_files(_read(at), commit, base):
        return None
    arguments, lines = large_files_upload(at.url, at.ref, commit, base)
    done = _at_remote(at, arguments, stdin=lines)
    return done if isinstance(done, Refused) else None


def _read(at: BaseBranch) -> ReadGit:
    return partial(git, cwd=at.path, settings=TRUE_HISTORY, variables=NO_GRAFTS)


def contains(at: BaseBranch, commit: str, other: str) -> bool:
    """Return whether a commit has another one in its true history."""
    if not (is_commit(commit) and is_commit(other)):
        return False
    args = ("merge-base", "--is-ancestor", other, commit)
    return ask(*args, cwd=at.path, settings=TRUE_HISTORY, variables=NO_GRAFTS).returncode == 0


def refused_name(at: BaseBranch) -> Refused | None:
    if not at.branch or _NO_BRANCH.search(at.branch):
        return Refused(reason=Reason.NO_BRANCH, error=masked(at, f"{at.branch!r} cannot be a branch's name"))
    return None


def trees(at: BaseBranch, *names: str) -> tuple[str, ...] | Refused:
    """Return the trees of commits or trees, by one call of git. Refused: one of them is missing here."""
    answer = ""
    if all(map(is_commit, names)):
        objects = "\n".join(f"{name}^{{tree}}" for name in names)
        options = ("--batch-check=%(objectname)",)
        answer = git("cat-file", *options, cwd=at.path, stdin=objects, settings=TRUE_HISTORY)
    found = tuple(answer.splitlines())
    for name, tree in zip_longest(names, found, fillvalue=""):
        if not is_commit(tree):
            error = f"{masked(at, name)[:40]!r} is no commit of {at.repo} here"
            return Refused(reason=Reason.NO_COMMIT, error=error)
    return found


def refused_rewind(at: BaseBranch, commit: str, base: str) -> Refused | None:
    """Return the refusal of a commit that would take the base branch back; None if it contains the base."""
    if contains(at, commit, base):
        return None
    if isinstance(found := trees(at, commit, base), Refused):
        return found
    error = f"{commit[:12]} does not contain {base[:12]} of {at.branch}: it would take the branch back"
    if is_shallow(at.path):
        hint = f"the clone is shallow: git -C {quoted(at.path)} fetch --unshallow"
        return Refused(reason=Reason.SHALLOW, error=f"{error}, or {hint}")
    return Refused(reason=Reason.REWRITTEN, error=error)


def refused_base(at: BaseBranch, base: str, tip: str, since: str) -> Refused | None:
    """Return the refusal if the base branch lacks a commit on which coord began the work; else None."""
    error = lacks_start(_read(at), f"{at.branch} of {at.repo}", base=base, tip=tip, since=since)
    return Refused(reason=Reason.REWRITTEN, error=error) if error else None


def _at_remote(at: BaseBranch, args: Sequence[str], stdin: str = "") -> CompletedProcess[str] | Refused:
    settings = (*ADDRESSES, *DURABLE, *TRUE_HISTORY)
    variables = {**NO_GRAFTS, **at.variables}
    try:
        done = ask(
            *args, cwd=at.path, stdin=stdin, settings=settings, variables=variables, patience=at.patience
        )
    except GitTimeout:
        error = f"{hidden(at.url)} did not answer within {at.patience.total_seconds():g} s"
        return Refused(reason=Reason.NETWORK, error=error)
    except GitInterrupted as error:  # a remote's message can look like trouble of this machine; both pass
        if error.trouble is Trouble.MISSING:
            raise
        return Refused(reason=Reason.BUSY, error=masked(at, error.message))
    return refused_by(at, done) if done.returncode else done


def _refused_path(at: BaseBranch) -> Refused | None:
    """Return the refusal of a remote on this machine whose folder we may not write."""
    folder = at.url.removeprefix("file://")
    if not folder.startswith("/"):
        return None
    inside = folder if os.path.isdir(f"{folder}/objects") else f"{folder}/.git"  # noqa: PTH112
    if os.access(f"{inside}/objects", os.W_OK):
        return None
    return Refused(reason=Reason.FORBIDDEN, error=f"{folder} cannot be written by this user")
