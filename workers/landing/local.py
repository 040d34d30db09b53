"""The base branch of a checkout, or bare repository, of this machine: look at it, and land in it.

A checkout that has the branch checked out gets a push with `receive.denyCurrentBranch=updateInstead`, set for
the receiving git only: the user's configuration stays. The receiving hooks of the checkout run, as for any
push; those of the sending side do not. Settings that hooks or filters change meanwhile are put back. A landed
commit stays landed: the log names such a change, and refs that they have moved.

git itself refuses files that differ from HEAD, but overwrites ignored files, a `.env` log, that the landing
brings: these are looked for here.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from coordination.git import DURABLE, NO_GRAFTS, TRUE_HISTORY, is_commit
from coordination.git_programs import program_settings
from coordination.text import listed, quoted
from workers.landing.records import BaseBranch, BaseTip, Pushed, Reason, Refused, masked, refused_by
from workers.landing.remote import contains, refused_name, refused_rewind
from workers.process.trouble import GitInterrupted, GitTimeout, describe_os_error
from workers.transfer.routes import ADDRESSES, PUSH
from workers.workspace.git import ask, configured, environment, git, git_dir_of
from workers.workspace.hooks import Hooks
from workers.workspace.repository import commit_at, worktrees
from workers.workspace.shared_state import SharedState

RECEIVING = (
    "receive.denyCurrentBranch=updateInstead",
    "receive.autogc=false",
    "core.fsmonitor=false",
    "core.fsync=objects,reference",
)
OPERATIONS = (
    "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "sequencer"
)  # fmt: skip
STATUS = ("--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all", "--no-renames")


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
    return Refused(reason=reason, error=f"{folder}: {refused.error}", base=base)


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
    """Return the refusal if a worktree of the branch has an unfinished operation of git."""
    for folder, ref in worktrees(at.path):
        git_dir = git_dir_of(folder)
        if ref == at.ref and git_dir is None:
            error = f"{folder} has {at.branch} checked out and is not there"
            prune = f"git -C {quoted(at.path)} worktree prune"
            return Refused(reason=Reason.OPERATION, error=f"{error}: {prune}")
        if git_dir is None:
            continue
        found = [name for name in OPERATIONS if (git_dir / name).exists()]
        if found and (ref == at.ref or at.ref in _rebased(git_dir)):
            error = f"{folder} is in the middle of an operation of git on {at.branch} ({found[0]})"
            return Refused(reason=Reason.OPERATION, error=f"{error}: git -C {quoted(folder)} status")
    return None


def _rebased(git_dir: Path) -> Iterator[str]:
    for kind in ("rebase-merge", "rebase-apply"):
        file = git_dir / kind / "head-name"
        if file.is_file():
            yield file.read_text(errors="replace").strip()


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
    options = ("-r", "-z", "--name-only", "--no-renames", "--diff-filter=A")
    added = [name for name in git("diff-tree", *options, base, commit, cwd=at.path).split("\0") if name]
    present = sorted({found for name in added for found in _first_there(folder, name)})
    if not present:
        return None
    args = ("ls-files", "--others", "-z", "--", *(f":(top,literal){name}" for name in present))
    files = [name for name in git(*args, cwd=folder).split("\0") if name]
    if not files:
        return None
    error = f"{folder} has untracked files that the landing brings: {listed(files)}; move them away"
    return Refused(reason=Reason.DIRTY, error=masked(at, error), files=files)


def _first_there(folder: Path, name: str) -> Iterator[str]:
    """Yield the path, or the part of it that exists and is not a folder."""
    parts = name.split("/")
    for end in range(1, len(parts) + 1):
        path = folder.joinpath(*parts[:end])
        if not os.path.lexists(path):
            return
        if end == len(parts) or path.is_symlink() or not path.is_dir():
            yield "/".join(parts[:end])
            return
