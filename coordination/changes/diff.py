"""Compare the tip of a change set with its base, by git in the checkout of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from coordination.credentials.detection import without_known_formats
from coordination.errors import GitRefused
from coordination.git import ask_git, diff_pieces, has_commit
from coordination.runs.change_sets.records import RepoChange

LONGEST_BYTES = 8 << 20
"""Most bytes of the text of one repository: a reader of more opens git."""
NUMBERS = ("--numstat", "-z", "--no-renames")


class FileChange(BaseModel):
    """A file that a change set adds, changes or removes."""

    model_config = ConfigDict(frozen=True)

    path: str
    added: int | None
    """Lines; None for a binary file."""
    removed: int | None


class RepoDiff(BaseModel):
    """The difference of a change set in one repository."""

    model_config = ConfigDict(frozen=True)

    plan: str
    repo: str
    branch: str
    base: str
    tip: str
    host: str
    files: tuple[FileChange, ...] = ()
    diff: str | None = None
    """The difference as git prints it, with *** in place of tokens of a known format; None where only the
    files were asked for.
    """
    cut: bool = False
    """True if `diff` is only the beginning."""

    def shortened(self, limit: int) -> RepoDiff:
        """Return the record with at most `limit` characters of the text."""
        if self.diff is None or len(self.diff) <= limit:
            return self
        return self.model_copy(update={"diff": self.diff[:limit], "cut": True})


def diff_of(plan: str, change: RepoChange, checkout: Path | None, branch: str, *, stat: bool) -> RepoDiff:
    """Return the difference. `checkout`: the repository on this machine; `branch`: its base branch, for a
    change set without a recorded base; `stat`: without the text.

    Raises GitRefused where this machine does not have the commits.
    """
    if checkout is None or not has_commit(checkout, change.tip):
        raise _elsewhere(plan, change, checkout)
    base = change.base or ask_git(checkout, "merge-base", change.tip, f"refs/heads/{branch}")
    if not has_commit(checkout, base):
        raise _elsewhere(plan, change, checkout)
    known = RepoDiff(
        plan=plan, repo=change.repo, branch=change.branch, base=base, tip=change.tip, host=change.host
    )
    return _compared(known, checkout, stat=stat)


def diff_of_commit(known: RepoDiff, checkout: Path | None) -> RepoDiff:
    """Return a record of two commits with the difference between them.

    Raises GitRefused where this machine does not have them.
    """
    if checkout is None or not (has_commit(checkout, known.base) and has_commit(checkout, known.tip)):
        where = f"the checkout {checkout}" if checkout else "this machine"
        raise GitRefused(
            f"{known.repo}: {where} does not have the commit {known.tip[:12]}",
            f"run it on {known.host}: git diff {known.base[:12]} {known.tip[:12]}",
        )
    return _compared(known, checkout, stat=False)


def _compared(known: RepoDiff, checkout: Path, *, stat: bool) -> RepoDiff:
    files = tuple(_files(checkout, known.base, known.tip))
    if stat:
        return known.model_copy(update={"files": files})
    text, cut = _text(checkout, known.base, known.tip, known.repo)
    return known.model_copy(update={"files": files, "diff": text, "cut": cut})


def _elsewhere(plan: str, change: RepoChange, checkout: Path | None) -> GitRefused:
    where = f"the checkout {checkout}" if checkout else "this machine"
    there = f", which are on {change.host}" if change.host else ""
    return GitRefused(
        f"{change.repo}: {where} does not have the commits of {plan}{there}",
        f"run it on {change.host}" if change.host else f"build the change set anew: coord adopt {plan}",
    )


def _text(checkout: Path, base: str, tip: str, repo: str) -> tuple[str, bool]:
    """Return the difference, each path below the name of the repository, and whether it was cut."""
    prefixes = (f"--src-prefix=a/{repo}/", f"--dst-prefix=b/{repo}/")
    pieces, size = [], 0
    for piece in diff_pieces(checkout, base, tip, "--no-color", *prefixes):
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST_BYTES:
            break
    whole = b"".join(pieces)[:LONGEST_BYTES].decode(errors="replace")
    return without_known_formats(whole), size > LONGEST_BYTES


def _files(checkout: Path, base: str, tip: str) -> Iterator[FileChange]:
    listing = b"".join(diff_pieces(checkout, base, tip, *NUMBERS)).decode(errors="replace")
    for line in filter(None, listing.split("\0")):
        added, removed, path = line.split("\t", 2)
        yield FileChange(path=path, added=_number(added), removed=_number(removed))


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else None
