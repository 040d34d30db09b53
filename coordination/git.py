"""Read-only git queries about a checkout, for front ends and records: git that fails answers no.

Workers ask with `workers/workspace/git.py`, which tells trouble that passes from an answer.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from coordination.bounded import run, stream
from coordination.environment import without_ours
from coordination.errors import GitRefused
from coordination.git_programs import NO_HOOKS, program_settings
from coordination.text import quoted, shortened

TRUE_HISTORY = ("core.useReplaceRefs=false", "core.commitGraph=false")
NO_GRAFTS = {"GIT_GRAFT_FILE": os.devnull}
"""Settings and variables with which git ignores histories that a repository only pretends to have: by a
replaced commit, a graft or a forged commit graph.
"""
DURABLE = ("core.fsync=objects,reference", "core.fsyncMethod=batch")
"""Settings for durable commits. By default git does not sync loose objects, and a power loss would delete a
commit whose result Redis has acknowledged.
"""
NOBODY = ("user.name=coord", "user.email=coord@localhost")
"""Settings with a name for our own commits, where the user has none."""
PATIENCE_S = 300.0
"""Seconds that a question may take: on a slow disk, a large history is read in minutes."""
MEASURED_WITHIN_S = 5.0
"""Time limit for measuring a history; one that takes longer is larger than any bundle."""


def history_exceeds(checkout: Path, branch: str, limit_bytes: int) -> bool:
    """Return whether the whole history of a branch has more than `limit_bytes`; False if git cannot tell."""
    options = ("--objects", "--disk-usage", "--use-bitmap-index")
    try:
        size = ask_git(checkout, "rev-list", *options, f"refs/heads/{branch}", timeout_s=MEASURED_WITHIN_S)
    except subprocess.TimeoutExpired:
        return True
    return size.isdecimal() and int(size) > limit_bytes


def ask_git(
    checkout: Path,
    *arguments: str,
    settings: Sequence[str] = (),
    timeout_s: float | None = None,
    codes: Collection[int] = (0,),
) -> str:
    """Return git's output, or "" if it ends with another exit code than these. No hook runs. Raises
    GitRefused if git is not installed, writes too much or does not end; TimeoutExpired after `timeout_s`.
    """
    environ = _environment()
    try:
        settings = (*NO_HOOKS, *program_settings(checkout, arguments, environ), *settings)
        options = [word for setting in settings for word in ("-c", setting)]
        command = ["git", "-C", str(checkout), *options, *arguments]
        answer = run(command, timeout_s=timeout_s or PATIENCE_S, env=environ)
    except FileNotFoundError as error:
        raise GitRefused("the git command was not found", "install git and try again") from error
    except subprocess.TimeoutExpired as error:
        if timeout_s:
            raise
        raise GitRefused(
            f"git {arguments[0]} in {checkout} did not end within {PATIENCE_S:g} s", "try again"
        ) from error
    return answer.stdout.strip() if answer.returncode in codes else ""


def why_unusable(checkout: Path) -> str:
    """Return why git cannot use a folder as a repository; empty if it can. Reads what git reads to find a
    repository, without a process.
    """
    git = checkout / ".git"
    try:
        if git.is_file():  # of a worktree or a submodule
            text = git.read_text(errors="replace").strip()
            git = (checkout / text.removeprefix("gitdir:").strip()).resolve()
        elif not git.is_dir():
            git = checkout  # bare
        head = (git / "HEAD").read_text(errors="replace").strip()
    except FileNotFoundError:
        return f"{checkout} is no git repository"
    except OSError as error:
        return f"git cannot use {checkout}: {error.strerror or error}"
    if not head.startswith("ref: refs/") and not is_commit(head):
        return f"git cannot use {checkout}: its HEAD is damaged"
    if not any((place / "objects").is_dir() for place in (git, git.parent.parent)):
        return f"git cannot use {checkout}: it has no objects"
    return ""


def broken_settings(checkout: Path) -> Iterator[tuple[str, str]]:
    """Yield the settings of a checkout that keep people and git from its files, each with the command that
    corrects it. Starts git only where the configuration names such a key.
    """
    git = checkout / ".git"
    try:
        if not git.is_dir():  # a bare repository; or a worktree or submodule, whose settings git writes
            return
        named = (git / "config").read_bytes().lower()
    except OSError:
        return
    command = f"git -C {quoted(checkout)} config"
    if b"bare" in named and _setting(checkout, "--type=bool", "core.bare") == "true":
        yield f"core.bare is true in {checkout}, which has a work tree", f"{command} core.bare false"
    place = _setting(checkout, "core.worktree") if b"worktree" in named else ""
    if place and (git / place).resolve() != checkout.resolve():
        yield f"core.worktree of {checkout} names {place}", f"{command} --unset-all core.worktree"


def absent_hooks(checkout: Path, branch: str) -> str:
    """Return the value of core.hooksPath if worktrees from the branch lack that folder; else empty."""
    try:
        if b"hookspath" not in (checkout / ".git" / "config").read_bytes().lower():
            return ""
    except OSError:
        return ""
    named = _setting(checkout, "core.hooksPath")
    if not named or named == os.devnull:
        return ""
    folder = Path(os.path.expanduser(named))  # noqa: PTH111
    if folder.is_absolute():
        return "" if folder.is_dir() else named
    tracked = ask_git(checkout, "ls-tree", f"refs/heads/{branch}", "--", os.path.normpath(named))
    return "" if tracked else named


def _setting(checkout: Path, *options: str) -> str:
    return ask_git(
        checkout, "config", f"--file={checkout / '.git' / 'config'}", *options[:-1], "--get", options[-1]
    )


MESSAGE_SHOWN = 500
"""Characters of git's messages in an error."""
SEEN = "refs/coord/remote"
"""Refs of the tips that were last seen at the remote; a run that cannot reach the remote begins there."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_commit(name: str) -> bool:
    """Return whether a text is the whole name of a commit: any other may be an option of git, or a path."""
    return _COMMIT.fullmatch(name) is not None


def has_commit(checkout: Path, commit: str) -> bool:
    """Return whether the checkout is there and has this commit."""
    if not is_commit(commit) or not checkout.is_dir():
        return False
    return ask_git(checkout, "cat-file", "-t", commit) == "commit"


def seen_ref(branch: str) -> str:
    """Return the ref of the tip of a base branch that was last seen at the remote. `a` and `a/b` are both
    possible.
    """
    return f"{SEEN}/{branch.replace('%', '%25').replace('/', '%2F')}"


def base_tip(checkout: Path, branch: str, *, remote: bool) -> str:
    """Return the tip of the base branch as this machine knows it; empty if there is none. `remote`: that at
    the url, where it has been fetched.
    """
    refs = [seen_ref(branch), f"refs/remotes/origin/{branch}"] if remote else []
    found = (commit_of(checkout, ref) for ref in (*refs, f"refs/heads/{branch}"))
    return next(filter(None, found), "")


_OF_HEAD = re.compile(r"^ref: refs/heads/(\S+)\tHEAD$", re.MULTILINE)


def default_branch(listing: str) -> str:
    """Return the default branch by the output of `git ls-remote --symref URL HEAD`; empty if it says none."""
    found = _OF_HEAD.search(listing)
    return found[1] if found else ""


def known_default_branch(checkout: Path) -> str:
    """Return the default branch of the remote `origin`, as of the last fetch; empty if unknown."""
    form, prefix = "--format=%(refname) %(symref)", "refs/remotes/origin/"
    lines = ask_git(checkout, "for-each-ref", form, prefix).splitlines()
    found = {ref: target for ref, _, target in (line.partition(" ") for line in lines)}
    head = found.pop(f"{prefix}HEAD", "")
    if head in found:
        return head.removeprefix(prefix)
    return next(iter(found)).removeprefix(prefix) if len(found) == 1 else ""


def fetched_without(checkout: Path, branch: str) -> bool:
    """Return whether the checkout follows all branches of `origin`, and knows none of this name."""
    origin = "refs/remotes/origin"
    if not may_have_refs(checkout, f"{origin}/") or commit_of(checkout, f"{origin}/{branch}"):
        return False
    return f"+refs/heads/*:{origin}/*" in ask_git(checkout, "config", "--get-all", "remote.origin.fetch")


def branch_to_write(repo: str, default: str) -> str:
    """Return the line of the file to change where a remote has renamed its default branch."""
    return f"write `branch: {default}` for {repo} in the file"


def may_have_refs(checkout: Path, *prefixes: str) -> bool:
    """Return False where a repository has no ref below one of these folders. It reads what git reads: a
    process for each of 500 repositories would take seconds.
    """
    git = checkout / ".git"
    if (git / "reftable").exists() or any((git / prefix).is_dir() for prefix in prefixes):
        return True
    try:
        packed = (git / "packed-refs").read_bytes()
    except FileNotFoundError:
        return False
    except OSError:  # a linked worktree, whose refs are elsewhere
        return True
    return any(f" {prefix}".encode() in packed for prefix in prefixes)


def commit_of(checkout: Path, ref: str) -> str:
    """Return the commit of a whole ref; empty if there is none."""
    return ask_git(checkout, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")


def rebased(git_dir: Path) -> str:
    """Return the branch that a rebase in this worktree moves at its end; empty without one. git says of such
    a worktree that it has no branch checked out.
    """
    for kind in ("rebase-merge", "rebase-apply"):
        with suppress(OSError):
            return (git_dir / kind / "head-name").read_text(errors="replace").strip()
    return ""


def is_checked_out(common_dir: Path, ref: str) -> bool:
    """Return whether a worktree has the branch, or rebases it, by small files: git is not asked."""
    folders = (common_dir, *common_dir.glob("worktrees/*"))
    return any(_head(folder) == f"ref: {ref}" or rebased(folder) == ref for folder in folders)


def _head(git_dir: Path) -> str:
    try:
        return (git_dir / "HEAD").read_text(errors="replace").strip()
    except OSError:
        return ""


def head_of(checkout: Path) -> str:
    """Return the commit that is checked out; empty if there is none."""
    return ask_git(checkout, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")


def contains(checkout: Path, old: str, new: str) -> bool:
    """Return whether commit `new` is `old` or has it among its ancestors."""
    return bool(old) and ask_git(checkout, "merge-base", old, new) == old


def diff_pieces(checkout: Path, base: str, tip: str, *options: str) -> Iterator[bytes]:
    """Yield the difference of two commits as git prints it; programs of its configuration are not started.
    Raises GitRefused.
    """
    for commit in (base, tip):
        if not is_commit(commit):
            raise GitRefused(f"{commit!r} is not a commit", "the record of the change set is damaged")
    command = ["git", "-C", str(checkout), "diff", "--no-ext-diff", "--no-textconv", *options, base, tip]
    try:
        ended = yield from stream(command, timeout_s=PATIENCE_S, env=_environment())
    except subprocess.TimeoutExpired as error:
        raise GitRefused(
            f"git diff in {checkout} did not end within {PATIENCE_S:g} s", "compare fewer commits"
        ) from error
    if ended.returncode:
        message = shortened(ended.stderr.strip(), MESSAGE_SHOWN)
        raise GitRefused(f"git diff in {checkout}: {message}", "fix the cause that git names, then try again")


def _environment() -> dict[str, str]:
    # A hook's GIT_DIR would override -C.
    others = {name: value for name, value in without_ours(os.environ).items() if not name.startswith("GIT_")}
    return {**others, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
