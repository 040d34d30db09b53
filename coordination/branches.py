"""Names of coord's branches, of runs and of change sets, and of the refs that coord keeps of them.

A name is a prefix, the setting `branch_prefix`, and a last part without a slash: the id of a run, or that of
a change set, encoded where git forbids it. The brief of a run holds the prefix, and the record of a change
set the whole name of its branch, so that another setting changes neither.

A checkout remembers the prefixes that coord has used there, in `.git/coord-branches`, one a line. Its
branches with one of them are coord's; all others are people's. A prefix with which people have branches is
refused before coord uses it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from coordination.errors import GitRefused, UsageError
from coordination.git import ask_git
from coordination.models import OWN_BRANCHES, Repo
from coordination.models.landing import check_branch_prefix
from coordination.text import counted, listed, quoted

HEADS = "refs/heads/"
KEPT = "refs/coord/kept/"
COPIES = "refs/coord/branches/"
"""Folder of the refs that keep where coord left branches whose prefix is not the default."""
REMEMBERED = "coord-branches"
"""The file of a git directory with the prefixes that coord has used."""
MOST_REMEMBERED = 100
"""The most prefixes that are read."""
LONGEST_LINE = 500
SHOWN = 5
"""The most branches of people that a refusal names."""
LONGEST_NAME = 150
"""Bytes of the last part of a name: the file of a branch, and its lock file, may have 255."""
_RUN_ID = re.compile(r"\d{8}-\d{6}-")
_REFUSED = re.compile(r"[\x00-\x20\x7f~^:?*\[\\/%]|@(?=\{)|(?<=\.)\.|^[.@-]|\.$|\.(?=lock$)", re.IGNORECASE)
_LAST_PART = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\/]+")


def run_branch(run: str, prefix: str) -> str:
    """Return the branch of a run."""
    return f"{prefix}{run}"


def set_branch(change_set: str, prefix: str) -> str:
    """Return the branch of a change set, for one of which no branch is recorded."""
    return f"{prefix}{name_of_set(change_set)}"


def name_of_set(change_set: str) -> str:
    """Return the last part of the branch of a change set: its id, with `%XX` for what git forbids. Two ids
    never get the same one, and none gets that of a run.
    """
    name = _REFUSED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), change_set)
    if _RUN_ID.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(raw := name.encode()) > LONGEST_NAME:
        end = sha256(change_set.encode()).hexdigest()[:16]  # `%%` stands in no other name
        name = f"{raw[: LONGEST_NAME - 18].decode(errors='ignore')}%%{end}"
    return name


def last_part(branch: str) -> str:
    """Return the name of a branch without its prefix."""
    return branch.rpartition("/")[2]


def prefix_of(branch: str) -> str:
    """Return the prefix of a branch; empty if it has none that coord uses."""
    prefix = branch.removesuffix(last_part(branch))
    try:
        return check_branch_prefix(prefix)
    except ValueError:
        return ""


def is_named(branch: str, name: str | None = None) -> bool:
    """Return whether a branch may have been named here, with this last part if one is given. Redis can hold
    any text: one with a newline would give `git update-ref --stdin` further commands.
    """
    last = last_part(branch)
    is_valid = bool(prefix_of(branch)) and _LAST_PART.fullmatch(last) is not None and ".." not in last
    return is_valid and name in (None, last)


def copy_ref(branch: str) -> str:
    """Return the ref that keeps the commit at which coord left the branch of a change set."""
    own = branch.removeprefix(OWN_BRANCHES)
    return f"refs/coord/copies/{own}" if own != branch else f"{COPIES}{branch}"


def discarded_ref(branch: str, commit: str) -> str:
    """Return the ref that keeps a commit that a branch of coord no longer has."""
    return f"refs/coord/discarded/{last_part(branch)}/{commit[:12]}"


@dataclass(frozen=True)
class OwnBranches:
    """The branches of a checkout that are coord's, by their prefixes; the first one is the default."""

    prefixes: tuple[str, ...] = (OWN_BRANCHES,)

    @classmethod
    def of(cls, checkout: Path, *more: str) -> OwnBranches:
        """Return those of a checkout, or of a git directory. `more`: prefixes that may be used there, too."""
        return cls(tuple(dict.fromkeys((OWN_BRANCHES, *_remembered(git_directory(checkout)), *more))))

    @property
    def refs(self) -> tuple[str, ...]:
        """Return the folders of refs that have them, each with a slash at the end."""
        return tuple(f"{HEADS}{prefix}" for prefix in self.prefixes)

    def have(self, ref: str) -> bool:
        """Return whether a whole ref is one of them."""
        return ref.startswith(self.refs)

    def is_of(self, ref: str, name: str) -> bool:
        """Return whether a whole ref is one of them with this last part."""
        return ref.removeprefix(HEADS) in self.named(name)

    def named(self, name: str) -> tuple[str, ...]:
        """Return the branches that may have this last part."""
        return tuple(f"{prefix}{name}" for prefix in self.prefixes)


def why_of_bases(prefix: str, repos: Iterable[Repo]) -> str:
    """Return why a prefix cannot be used beside the base branches of the repositories; empty if it can."""
    for repo in repos:
        if repo.branch.startswith(prefix) or prefix.startswith(f"{repo.branch}/"):
            return (
                f"cannot be {prefix}: {repo.branch} is the base branch of {repo.name}, and only coord names "
                "branches with it; choose another one, such as bots/coord/"
            )
    return ""


def refuse_bases(prefix: str, repos: Iterable[Repo]) -> None:
    """Raise UsageError where a prefix cannot be used beside the base branches of the repositories."""
    if why := why_of_bases(prefix, repos):
        raise UsageError(f"setting branch_prefix {why}", "set it in the file, or COORD_BRANCH_PREFIX")


def first_refs(checkout: Path, prefix: str) -> tuple[str, ...]:
    """Return, for each folder of a prefix, the first branch of a checkout that has its name or is in it."""
    folders = prefix.split("/")[:-1]
    names = (HEADS + "/".join(folders[:count]) for count in range(1, len(folders) + 1))
    asked = ("for-each-ref", "--count=1", "--format=%(refname)")
    return tuple(filter(None, (ask_git(checkout, *asked, name) for name in names)))


def claim(repo: str, checkout: Path, prefix: str, there: Iterable[str] | None = None) -> None:
    """Refuse a prefix with which coord cannot name branches in a checkout, and note that coord uses it there.
    `there`: the answer of `first_refs`. Raises GitRefused.
    """
    setting = "or set another branch_prefix, such as bots/coord/"
    for ref in first_refs(checkout, prefix) if there is None else there:
        if prefix.startswith(f"{ref.removeprefix(HEADS)}/"):
            taken = ref.removeprefix(HEADS)
            raise GitRefused(
                f"{repo}: {checkout} has a branch named {taken}, so git cannot create {prefix}… beside it",
                f"rename it: git -C {quoted(checkout)} branch -m {quoted(taken)} another-name; {setting}",
            )
    folder = git_directory(checkout)
    if prefix in (OWN_BRANCHES, *_remembered(folder)):
        return
    trailers = "%(contents:trailers:key=Coord-Run,key=Coord-Plan,valueonly)"
    form = f"--format=%(if){trailers}%(then)%(else)%(refname:lstrip=2)%(end)"
    theirs = ask_git(checkout, "for-each-ref", form, f"{HEADS}{prefix}").split()
    if theirs:
        raise GitRefused(
            f"{repo}: {checkout} has {counted(len(theirs), 'branch')} of people that begin with "
            f"{prefix}: {listed(theirs[:SHOWN])}",
            "set a branch_prefix with which nobody else names branches, such as bots/coord/",
        )
    try:
        file = os.open(folder / REMEMBERED, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w") as lines:  # one write: that of another process stands before or behind it
            lines.write(f"{check_branch_prefix(prefix)}\n")
    except OSError as error:
        raise GitRefused(
            f"{repo}: {folder / REMEMBERED} cannot be written: {error.strerror}",
            "correct the rights of that folder; then: coord retry",
        ) from error


def _remembered(git_dir: Path) -> Iterator[str]:
    try:
        with (git_dir / REMEMBERED).open(errors="replace") as lines:
            read = [lines.readline(LONGEST_LINE).rstrip("\n") for _ in range(MOST_REMEMBERED)]
    except OSError:
        return
    for line in read:
        if prefix_of(f"{line}x"):
            yield line


def git_directory(checkout: Path) -> Path:
    """Return the git directory that all worktrees of a repository share, by its files."""
    place = checkout / ".git"
    try:
        if place.is_file():
            place = checkout / place.read_text().removeprefix("gitdir:").strip()
        elif not place.is_dir():
            place = checkout
        shared = place / "commondir"
        return place / shared.read_text().strip() if shared.is_file() else place
    except OSError:
        return place


def kept_ref(run: str, todo: str) -> str:
    """Return the reference that keeps the unfinished work of a todo while it waits."""
    return f"{KEPT}{run}/{todo.replace('.', '%2E')}"
