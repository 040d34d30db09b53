"""The base branch of a checkout, or bare repository, of this machine: look at it, and land in it.

A checkout that has the branch checked out gets a push with `receive.denyCurrentBranch=updateInstead`, set for
the receiving git only: the user's configuration stays. The receiving hooks of the checkout run, as for any
push; those of the sending side do not. Settings that hooks or filters change meanwhile are put back. A landed
commit stays landed: the log names such a change, and refs that they have moved.

git itself refuses files that differ from HEAD, but overwrites ignored files, a `.env` log, that the landing
brings: these are looked for here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from coordination.git import DURABLE, NO_GRAFTS, TRUE_HISTORY, is_commit
from coordination.git_programs import program_settings
from coordination.models import Repo
from coordination.text import listed, quoted
from workers.landing.records import BaseBranch, BaseTip, Prepared, Pushed, Reason, Refused
from workers.landing.refusals import masked, refused_by
from workers.landing.remote import contains, refused_name, refused_rewind
from workers.process.trouble import GitInterrupted, GitTimeout, describe_os_error
from workers.transfer.routes import ADDRESSES, PUSH
from workers.workspace.git import ask, configured, environment, git, git_dir_of
from workers.workspace.hooks import Hooks
from workers.workspace.repository import commit_at, operation_of, untracked_in_the_way, worktrees
from workers.workspace.shared_state import SharedState

RECEIVING = (
    "receive.denyCurrentBranch=updateInstead",
    "receive.autogc=false",
    "core.fsmonitor=false",
    "core.fsync=objects,reference",
)
STATUS = ("--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all", "--no-renames")


class LocalBase:
    """The base branch in the checkout of this machine."""

    def __init__(self, repo: Repo, checkout: Path, scripts: Path) -> None:
        """`scripts`: the folder for those that start the receiving hooks."""
        self._repo = repo
        self._checkout = checkout
        self._scripts = scripts

    @contextmanager
    def opened(self) -> Iterator[BaseBranch]:
        yield BaseBranch(repo=self._repo.name, path=self._checkout, branch=self._repo.branch)

    def look(self, at: BaseBranch, pending: str = "") -> BaseTip | Refused:
        return look_local(at, pending)

    def refused(self, at: BaseBranch, made: Prepared) -> Refused | None:
        return None

    def push(self, at: BaseBranch, made: Prepared) -> Pushed | Refused:
        return push_local(at, made.commit, made.base, self._scripts)


def look_local(at: BaseBranch, pending: str = "") -> BaseTip | Refused:
    """Return the tip of the base branch in this checkout.

    Refused DIRTY, with files, or OPERATION where `push_local` would be refused for the state of the checkout.
    `pending`: the commit of a landing that may have been cut off after it had changed the files.
    """
    if refused := refused_name(at):
        return refused
    commit = commit_at(at.path, at.ref)
    if not commit:
        error = f"{at.path} has no branch {at.branch}"
        return Refused(reason=Reason.NO_BRANCH, error=masked(at, error))
    if refused := _under_way(at):
        return refused
    folder = _checked_out(at)
    if folder is None:
        return BaseTip(commit=commit)
    if (refused := _dirty(at, folder)) and not _has_files_of(at, folder, pending):
        return refused
    return BaseTip(commit=commit, checkout=folder)


def push_local(at: BaseBranch, commit: str, base: str, scripts: Path) -> Pushed | Refused:
    """Move the base branch here from `base` to a commit that contains it; never forced. `scripts`: the folder
    for those that start the receiving hooks. Raises WorkspaceUnusable.

    A clean checkout of the branch follows; a dirty one is refused by name, and nothing moves. A branch that
    is not checked out (also: detached HEAD, a bare repository) is moved by compare-and-swap. "Already
    contained" is success, and a landing that was killed between files and branch is completed.
    """
    if refused := refused_name(at) or refused_rewind(at, commit, base):
        return refused
    if settled := _settled(at, commit, base):
        return settled
    seen = look_local(at, pending=commit)
    if isinstance(seen, Refused):
        return seen
    if seen.checkout is None or _has_files_of(at, seen.checkout, commit):
        return _swap(at, commit, base)
    if refused := _in_the_way(at, seen.checkout, commit, base):
        return refused
    asked = ("--path-format=absolute", "--git-common-dir", "--git-dir")
    common_dir, git_dir = map(Path, git("rev-parse", *asked, cwd=at.path).split("\n"))
    named = configured(r"^core\.hookspath$", cwd=at.path).get("core.hookspath")
    with describe_os_error(scripts):
        receiver = _receiver(seen.checkout, Hooks.find(git_dir, common_dir, named), scripts)
        before = SharedState.read(common_dir, refs=True, moved=at.ref)
        done = _push(at, seen.checkout, commit, base, receiver)
        note = before.put_back(f"the push to {at.branch} of {at.path} with its hooks and filters")
    if not note:
        return done
    if isinstance(done, Pushed):
        return replace(done, note=masked(at, note))
    return replace(done, error=masked(at, f"{done.error}; {note}"))


def _receiver(folder: Path, hooks: Hooks, scripts: Path) -> str:
    """Return the command that receives a push for the work tree `folder`. Its hooks and filters get no
    variables that redirect git. Raises OSError.
    """
    programs = program_settings(folder, ("receive-pack",), environment({}), hooks=True)
    settings = (*RECEIVING, *programs, hooks.wrapped(scripts))
    return shlex.join(["git", *(word for setting in settings for word in ("-c", setting)), "receive-pack"])


def _push(at: BaseBranch, folder: Path, commit: str, base: str, receiver: str) -> Pushed | Refused:
    lease = f"--force-with-lease={at.ref}:{base}"
    args = ("push", *PUSH, f"--receive-pack={receiver}", lease, "--", str(at.path), f"{commit}:{at.ref}")
    try:
        done = ask(
            *args,
            cwd=at.path,
            settings=(*ADDRESSES, *TRUE_HISTORY),
            variables=NO_GRAFTS,
            patience=at.patience,
        )
    except (GitTimeout, GitInterrupted) as error:
        return _settled(at, commit, base) or Refused(reason=Reason.BUSY, error=masked(at, error.message))
    if done.returncode == 0:
        return Pushed(base=commit)
    refused = refused_by(at, done)
    if settled := _settled(at, commit, base):
        return settled
    reason = Reason.BUSY if refused.reason is Reason.MOVED else refused.reason
    text = f"{folder}: {refused.error}"
    if reason is Reason.DIRTY and (hidden := _hidden(folder, base, commit)):
        shown = f"git -C {quoted(folder)} update-index --no-assume-unchanged --no-skip-worktree"
        text += f"; git hides changes in {listed(hidden)} from its status: {shown} {quoted(*hidden)}"
        return Refused(reason=reason, error=masked(at, text), files=hidden, base=base)
    return Refused(reason=reason, error=text, base=base)


def _hidden(folder: Path, base: str, commit: str) -> list[str]:
    """Return the files that the commit changes and `git status` leaves out, by a flag of the index."""
    changed = git("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, commit, cwd=folder)
    tags = (entry.partition(" ") for entry in git("ls-files", "-v", "-z", cwd=folder).split("\0"))
    hidden = {name for tag, _, name in tags if tag.islower() or tag == "S"}
    found = hidden.intersection(changed.split("\0"))
    return sorted(name for name in found if (folder / name).exists())  # a sparse checkout lacks the others


def _settled(at: BaseBranch, commit: str, base: str) -> Pushed | Refused | None:
    """Return the outcome if the branch has the commit, or is not at `base`."""
    tip = commit_at(at.path, at.ref)
    if tip == base:
        return None
    if not tip:
        return Refused(reason=Reason.NO_BRANCH, error=masked(at, f"{at.path} has no branch {at.branch}"))
    if contains(at, tip, commit):
        return Pushed(base=tip, already=True)
    error = f"{at.branch} of {at.path} is at {tip[:12]}, no longer at {base[:12]}"
    return Refused(reason=Reason.MOVED, error=error, base=tip)


def _swap(at: BaseBranch, commit: str, base: str) -> Pushed | Refused:
    args = ("update-ref", "-m", "coord: landed", at.ref, commit, base)
    try:
        done = ask(*args, cwd=at.path, settings=DURABLE)
    except GitInterrupted as error:
        return _settled(at, commit, base) or Refused(reason=Reason.BUSY, error=masked(at, error.message))
    if done.returncode == 0:
        return Pushed(base=commit)
    return _settled(at, commit, base) or refused_by(at, done)


def _checked_out(at: BaseBranch) -> Path | None:
    return next((folder for folder, ref in worktrees(at.path) if ref == at.ref), None)


def _under_way(at: BaseBranch) -> Refused | None:
    """Return the refusal if a worktree of the branch has an unfinished operation of git, is away, or is not
    the only one: git would change the files of one.
    """
    folders = [folder for folder, ref in worktrees(at.path) if ref == at.ref]
    for folder in folders:
        if git_dir_of(folder) is None:
            error = f"{folder} has {at.branch} checked out and is not there"
            where = f"git -C {quoted(at.path)} worktree"
            moved = f"if it was moved: {where} repair FOLDER; if it is gone: {where} prune"
            return Refused(reason=Reason.OPERATION, error=f"{error}; {moved}")
        if found := operation_of(folder):
            error = f"{folder} is in the middle of an operation of git on {at.branch} ({found})"
            return Refused(reason=Reason.OPERATION, error=f"{error}: git -C {quoted(folder)} status")
    if len(folders) > 1:
        error = (
            f"{listed(list(map(str, folders)))} have {at.branch} checked out, and git changes files of one"
        )
        switch = f"git -C {quoted(folders[-1])} switch --detach"
        return Refused(reason=Reason.OPERATION, error=f"{error}: {switch}")
    return None


def _dirty(at: BaseBranch, folder: Path) -> Refused | None:
    entries = [entry for entry in git("status", *STATUS, cwd=folder).split("\0") if entry]
    files = [entry[3:] for entry in entries]
    if not files:
        return None
    error = f"{folder} has uncommitted changes in {listed(files)}: commit or stash them"
    return Refused(reason=Reason.DIRTY, error=masked(at, error), files=files)


def _has_files_of(at: BaseBranch, folder: Path, commit: str) -> bool:
    """Return whether index and files are those of a commit: a landing was cut off before the branch moved."""
    if not is_commit(commit) or not _dirty(at, folder):
        return False
    staged = ask("diff-index", "--cached", "--quiet", commit, "--", cwd=folder)
    unstaged = ask("diff-files", "--quiet", "--ignore-submodules", cwd=folder)
    return staged.returncode == 0 and unstaged.returncode == 0


def _in_the_way(at: BaseBranch, folder: Path, commit: str, base: str) -> Refused | None:
    """Return the refusal for untracked files, ignored ones too, that the commit would replace."""
    files = untracked_in_the_way(folder, base, commit)
    if not files:
        return None
    error = f"{folder} has untracked files that the landing brings: {listed(files)}; move them away"
    return Refused(reason=Reason.DIRTY, error=masked(at, error), files=files)
