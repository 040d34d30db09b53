"""Read a repository of this host: whether a run may have a worktree of it, and from which commit."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from coordination.branches import claim, first_refs
from coordination.errors import GitRefused
from coordination.files import why_no_folder
from coordination.git import NO_GRAFTS, TRUE_HISTORY, is_commit, rebased
from coordination.text import quoted
from coordination.trailers import TrailerLog
from workers.process.trouble import GitInterrupted, Trouble
from workers.workspace.git import ask, git, git_dir_of

BRANCHES_SHOWN = 8
RUNS = TrailerLog(("Run",))
OPERATIONS = (
    "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "sequencer"
)  # fmt: skip
REFS = ("refs/heads", "refs/remotes", "refs/tags")


def common_dir_of(name: str, path: Path, prefixes: Collection[str] = ()) -> Path:
    """Return the folder of git that all worktrees of the repository share. `prefixes`: of the branches that
    a run needs in it.

    Raises GitRefused where a run can have no worktree of it, GitInterrupted where the folder is away.
    Uncommitted work is no obstacle: it is never touched.
    """
    if why := why_no_folder(path):
        hint = f"clone it there, or tell the worker where it is: coord worker --repo {name}=PATH"
        raise GitInterrupted(Trouble.MISSING, f"{name}: {why}", hint)
    reason, common_dir = inspect(path)
    if reason or common_dir is None:
        raise GitRefused(f"{name}: {path} {reason}", _make_repository(name, path))
    # One call of git answers two questions in most cases: if a run's branch exists below refs/heads/coord,
    # the repository has a commit, and there can be no branch named `coord`.
    there = {prefix: first_refs(path, prefix) for prefix in prefixes}
    if not any(there.values()) and not git("for-each-ref", "--count=1", "refs/heads", cwd=path):
        raise GitRefused(
            f"{name}: {path} has no commit yet",
            f"make the first one: git -C {quoted(path)} commit --allow-empty -m 'First commit'; "
            f"{_or_in_place(name)}",
        )
    for prefix, refs in there.items():
        claim(name, path, prefix, refs)
    return common_dir


def _make_repository(name: str, path: Path) -> str:
    return f"clone it there, or name its folder: coord worker --repo {name}=PATH; {_or_in_place(name)}"


def _or_in_place(name: str) -> str:
    return f"or let todos work in the folder itself: `workspace: in-place` of {name} in ecosystem.yaml"


def inspect(path: Path) -> tuple[str, Path | None]:
    """Return the reason why this is not a separate repository (empty if it is), and its common directory."""
    options = ("--is-bare-repository", "--is-inside-work-tree", "--show-prefix", "--git-common-dir")
    answer = ask("rev-parse", "--path-format=absolute", *options, cwd=path, looks_above=True)
    if answer.returncode and "not a git repository" in answer.stderr and not (path / ".git").exists():
        return "is not a git repository", None
    for begins_here in ("true\nfalse\n\n/", "false\ntrue\n\n/"):
        if answer.stdout.startswith(begins_here):
            return "", Path(answer.stdout[len(begins_here) - 1 :].removesuffix("\n"))
    return _inspect_closely(path)


def _inspect_closely(path: Path) -> tuple[str, Path | None]:
    # Each call asks for one path: git separates answers by newlines, and a path may contain one.
    answer = ask(
        "rev-parse",
        "--path-format=absolute",
        "--is-bare-repository",
        "--git-common-dir",
        cwd=path,
        looks_above=True,
    )
    bare, _, common = answer.stdout.removesuffix("\n").partition("\n")
    if bare != "true":
        answer = ask("rev-parse", "--show-toplevel", cwd=path, looks_above=True)
    if answer.returncode:
        hint = "fix the cause that git names, then retry"
        raise GitRefused(f"git does not accept {path}: {answer.stderr.strip()}", hint)
    top = answer.stdout.removesuffix("\n")
    if bare == "true" or Path(top).samefile(path):
        return "", Path(common)
    return f"is a folder inside the repository {top}, not a repository of its own", None


def remote_urls(path: Path) -> set[str]:
    """Return the addresses of the remotes that a checkout names. Raises GitInterrupted."""
    found = ask("config", "--local", "--get-regexp", r"^remote\..*\.url$", cwd=path)
    return {line.partition(" ")[2] for line in found.stdout.splitlines()}


def is_shallow(path: Path) -> bool:
    """Return whether the clone is shallow: the beginning of its history is missing."""
    return git("rev-parse", "--is-shallow-repository", cwd=path) == "true"


def is_partial(path: Path) -> bool:
    """Return whether this is a partial clone: it lacks files, so others cannot borrow its objects."""
    return (
        ask(
            "config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$", cwd=path
        ).returncode
        == 0
    )


def commit_at(path: Path, name: str, git_dir: Path | None = None) -> str:
    """Return the commit of a revision or a whole ref; empty if there is none."""
    options = ("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return ask(*options, cwd=path, git_dir=git_dir).stdout.strip()


def has_commit(path: Path, commit: str, git_dir: Path | None = None) -> bool:
    if not is_commit(commit):
        return False
    return ask("cat-file", "-e", f"{commit}^{{commit}}", cwd=path, git_dir=git_dir).returncode == 0


def commits_without_run(path: Path, *revisions: str) -> list[str]:
    """Return those of the commits that `git log` lists which name no run in their trailers, newest first: as
    far as that tells, people have made them. Raises GitRefused.
    """
    rows = RUNS.rows(git("log", *RUNS.options, *revisions, cwd=path))
    return [row["commit"] for row in rows if not row["Run"].strip()]


def contains(path: Path, old: str, new: str, git_dir: Path | None = None) -> bool:
    """Return whether commit `new` is `old` or has it among its ancestors."""
    return (
        old == new or ask("merge-base", "--is-ancestor", old, new, cwd=path, git_dir=git_dir).returncode == 0
    )


def lacks_any(path: Path, new: str, commits: Collection[str]) -> str:
    """Return one of the commits of these that `new` neither is nor has among its ancestors, or a commit that
    leads to one; empty if it has all. No replacement of objects counts. Raises GitRefused.
    """
    if strange := [commit for commit in (new, *commits) if not is_commit(commit)]:
        return strange[0] or "no commit"
    wanted = "".join(f"{commit}\n" for commit in (*commits, f"^{new}"))
    answer = ask(
        "rev-list",
        "--max-count=1",
        "--stdin",
        "--",
        cwd=path,
        stdin=wanted,
        settings=TRUE_HISTORY,
        variables=NO_GRAFTS,
    )
    return answer.stdout.strip() if answer.returncode == 0 else "a commit that is not here"


def is_kept(path: Path, commit: str) -> bool:
    """Return whether a branch or a tag has the commit."""
    return bool(ask("for-each-ref", "--count=1", f"--contains={commit}", *REFS, cwd=path).stdout)


def loose_commit(worktree: Path, checkout: Path) -> str:
    """Return the commit of a detached HEAD that no branch or tag of the checkout has; else empty."""
    git_dir = git_dir_of(worktree)
    if git_dir is None or ask("symbolic-ref", "-q", "HEAD", cwd=worktree, git_dir=git_dir).returncode == 0:
        return ""
    head = commit_at(worktree, "HEAD", git_dir)
    return head if head and not is_kept(checkout, head) else ""


def worktrees(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each worktree that git knows, the checkout first, with its branch (empty if none): also one that
    it rebases.
    """
    listing = git("worktree", "list", "--porcelain", "-z", cwd=path)
    for entry in listing.split("\0\0"):
        facts = dict(line.partition(" ")[::2] for line in entry.split("\0"))
        if "worktree" not in facts:
            continue
        place, branch = Path(facts["worktree"]), facts.get("branch", "")
        git_dir = git_dir_of(place)
        moved = rebased(git_dir) if git_dir else ""
        if moved and branch and moved != branch:  # another one was checked out in between
            yield place, moved
        yield place, branch or moved


def operation_of(folder: Path) -> str:
    """Return the unfinished operation of git in a worktree, as the name of its file; empty without one."""
    git_dir = git_dir_of(folder)
    return next((name for name in OPERATIONS if git_dir and (git_dir / name).exists()), "")


def untracked_in_the_way(folder: Path, base: str, commit: str) -> list[str]:
    """Return the untracked files of a worktree at `base` that `commit` would replace. git itself refuses some
    of them, but overwrites those that it ignores, such as `.env`.
    """
    options = ("-r", "-z", "--name-only", "--no-renames", "--diff-filter=A")
    added = [name for name in git("diff-tree", *options, base, commit, cwd=folder).split("\0") if name]
    present = sorted({found for name in added for found in _first_there(folder, name)})
    if not present:
        return []
    args = ("ls-files", "--others", "-z", "--", *(f":(top,literal){name}" for name in present))
    return [name for name in git(*args, cwd=folder).split("\0") if name]


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


def tip(name: str, path: Path, branch: str) -> str:
    """Return the commit of a branch. Raises GitRefused, naming the branches there are."""
    if commit := commit_at(path, f"refs/heads/{branch}"):
        return commit
    remote = git(
        "for-each-ref", "--count=1", "--format=%(refname:short)", f"refs/remotes/*/{branch}", cwd=path
    )
    if remote:
        raise GitRefused(
            f"{name}: {path} has no branch {branch}, but {remote}",
            f"make it: git -C {quoted(path)} branch {quoted(branch, remote)}; then: coord retry",
        )
    branches = git("for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=path).splitlines()
    shown = ", ".join(branches[:BRANCHES_SHOWN]) + (" …" if len(branches) > BRANCHES_SHOWN else "")
    raise GitRefused(
        f"{name}: {path} has no branch {branch}; there are: {shown}",
        f"name one of them as `branch` of {name} in ecosystem.yaml, or make it; then: coord retry",
    )
