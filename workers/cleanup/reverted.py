"""Find out whether a base branch had a change and lost it: people revert a merge, or put files back by hand.

The base's first-parent commits are followed from the newest back, with the mode and blob of every file of the
result. A file of the result is present where it is as the result left it, and gone where it is as it was
before; for any other content a three-way merge tells whether bringing the change, or undoing it, would alter
nothing. The newest commit for which that is known decides. So a base that was reverted and then went on in
the same lines has lost the result, and one that went on without a reversion has it. A file that a later todo
deletes was not reverted, nor was a file that was renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from coordination.trailers import TrailerLog
from workers.workspace.git import ask, git

RUNS = TrailerLog(("Run",))
HISTORY_AT_MOST = 2000
"""The most first-parent commits of the base that touch the result's files and are followed."""
MERGES_AT_MOST = 100
"""The most three-way merges of single files for a result."""
RUN_COMMITS_AT_MOST = 200
"""The most commits of its run that are followed down to the start of the run."""
TODOS = "--format=%(trailers:key=Coord-Todo,valueonly,separator=%x20)"
AS_RAW = ("--first-parent", "--diff-merges=first-parent", "--raw", "--no-renames", "--no-abbrev", "-z")

Entry = tuple[str, str]
"""Mode and blob; both zero for a file that is not there."""
ABSENT: Entry = ("000000", "0" * 40)


class State(Enum):
    PRESENT = auto()
    GONE = auto()
    UNCLEAR = auto()


@dataclass(frozen=True, kw_only=True)
class Change:
    """A file of the result: before it, and after it."""

    before: Entry
    after: Entry


def unchanged(path: Path, base: str, commits: Iterable[str]) -> frozenset[str]:
    """Return the commits from which the base still has a file unchanged, so that they were not reverted.
    Raises GitRefused.
    """
    listed = "\n".join(commits)
    if not listed:
        return frozenset()
    there = _entries(path, base)
    options = ("-z", "-r", "--root", "--no-renames", "--diff-merges=first-parent")
    words = iter(git("diff-tree", "--stdin", *options, cwd=path, stdin=f"{listed}\n").split("\0"))
    found, commit = set(), ""
    for word in words:
        if not word.startswith(":"):
            commit = word.strip() or commit
        elif there.get(next(words), ABSENT) == _raw(word).after:
            found.add(commit)
    return frozenset(found)


def was_whole(path: Path, base: str, fork: str, commit: str) -> bool:
    """Return whether the base had, at one of its commits since `fork`, every file as `commit` left it.
    Raises GitRefused.
    """
    changes = _changes(path, fork, commit)
    history = History(path, base, fork, commit, changes)
    return bool(changes) and any(
        all(at[name] == change.after for name, change in changes.items()) for _, at in history.commits()
    )


def was_reverted(path: Path, base: str, commit: str, run: str, tips: Iterable[str] = ()) -> bool:
    """Return whether the base had the commit's change and lost it, other than by a todo. Raises GitRefused.

    `tips`: later commits of the run, which may have changed the same lines again. A base that has the whole
    change of one of them has the commit as well.
    """
    parent = ask("rev-parse", "--verify", "--quiet", f"{commit}^", cwd=path).stdout.strip()
    if not parent:
        return False
    began = _began(path, commit, run) or parent
    fork = ask("merge-base", base, began, cwd=path).stdout.strip()
    own, whole = _changes(path, parent, commit), _changes(path, began, commit)
    if not fork or not own:
        return False
    later = [_changes(path, began, tip) for tip in tips]
    every = {name: change for changes in (*later, whole, own) for name, change in changes.items()}
    history = History(path, base, fork, commit, every)
    lost_by = ""
    for newest, at in history.commits():
        state = history.state(at, own)
        if state is State.UNCLEAR:
            state = (
                State.PRESENT
                if any(history.has_all(at, changes) for changes in later)
                else history.state(at, whole)
            )
        if state is State.GONE:
            lost_by = newest
        elif state is State.PRESENT:
            return bool(lost_by) and not history.is_kept_otherwise(lost_by)
    # No first-parent commit of the base ever had it: people removed it in their merge, or a later todo of the
    # run removed it.
    names = ("--", *whole)
    return (
        bool(lost_by)
        and not git("--literal-pathspecs", "log", TODOS, f"{commit}..{base}", *names, cwd=path).strip()
    )


class History:
    """The history of the result's files along the base's first-parent commits since `fork`."""

    def __init__(self, path: Path, base: str, fork: str, result: str, changes: Mapping[str, Change]) -> None:
        self._path = path
        self._base = base
        self._result = result
        self._fork = fork
        self._changes = changes
        self._merges = 0
        self._states: dict[tuple[str, Entry], State] = {}

    def commits(self) -> Iterator[tuple[str, Mapping[str, Entry]]]:
        """Yield the base and each commit that touched one of the files, newest first, with their entries."""
        there = _entries(self._path, self._base)
        at = {name: there.get(name, ABSENT) for name in self._changes}
        if not self._touching or self._renamed:
            yield self._base, at | {name: there[new] for name, new in self._renamed.items() if new in there}
        for commit, before in self._touching:
            yield commit, dict(at)
            at |= before

    def state(self, at: Mapping[str, Entry], changes: Mapping[str, Change]) -> State:
        """Return the state of all files: present if one is present, else gone if one is gone."""
        states = {self._state_of(name, at[name], change) for name, change in changes.items()}
        return next((state for state in (State.PRESENT, State.GONE) if state in states), State.UNCLEAR)

    def has_all(self, at: Mapping[str, Entry], changes: Mapping[str, Change]) -> bool:
        return all(
            self._state_of(name, at[name], change) is State.PRESENT for name, change in changes.items()
        )

    def is_kept_otherwise(self, commit: str) -> bool:
        """Return whether the commit that removed the result is a todo's, or only renamed a file of it."""
        names = ("--", *self._changes)
        span = f"{commit}^..{commit}"
        if git("--literal-pathspecs", "log", TODOS, span, *names, cwd=self._path).strip():
            return True
        return bool(self._renames(f"{commit}^", commit))

    @cached_property
    def _renamed(self) -> Mapping[str, str]:
        """Return file of the result → its name in the base now. A file that the base never had under its own
        name was not renamed there: another one may have the same content.
        """
        touched = {name for _, before in self._touching for name in before}
        renamed = self._renames(self._result, self._base)
        return {old: new for old, new in renamed.items() if old in touched}

    def _renames(self, before: str, after: str) -> dict[str, str]:
        options = ("--find-renames", "--diff-filter=R", "--name-status", "-z")
        words = git("diff", *options, before, after, cwd=self._path).split("\0")
        pairs = zip(words[1::3], words[2::3], strict=False)
        return {old: new for old, new in pairs if old in self._changes and new not in self._changes}

    @cached_property
    def _touching(self) -> list[tuple[str, Mapping[str, Entry]]]:
        """Return commit → the files that it changed, as they were before."""
        span = (f"--max-count={HISTORY_AT_MOST}", f"{self._fork}..{self._base}", "--", *self._changes)
        listing = git("--literal-pathspecs", "log", "--format=commit %H", *AS_RAW, *span, cwd=self._path)
        found: list[tuple[str, dict[str, Entry]]] = []
        words = iter(listing.split("\0"))
        for word in words:
            kind, _, commit = word.strip().partition(" ")
            if kind == "commit":
                found.append((commit, {}))
            elif word.lstrip().startswith(":"):
                found[-1][1][next(words)] = _raw(word.lstrip()).before
        return list(found)

    def _state_of(self, name: str, there: Entry, change: Change) -> State:
        if there in (change.before, change.after):
            return State.PRESENT if there == change.after else State.GONE
        if there[1] == ABSENT[1] or self._merges >= MERGES_AT_MOST:
            return State.UNCLEAR
        key = (f"{name}\0{change.before}\0{change.after}", there)
        if key not in self._states:
            self._merges += 1
            self._states[key] = self._by_lines(there, change)
        return self._states[key]

    def _by_lines(self, there: Entry, change: Change) -> State:
        with TemporaryDirectory() as folder:
            mine, before, after = (Path(folder, name) for name in ("there", "before", "after"))
            for file, entry in ((mine, there), (before, change.before), (after, change.after)):
                file.write_bytes(b"" if entry[1] == ABSENT[1] else self._blob(entry[1]))
            if self._adds_nothing(mine, before, after):
                return State.PRESENT
            return State.GONE if self._adds_nothing(mine, after, before) else State.UNCLEAR

    def _adds_nothing(self, there: Path, old: Path, new: Path) -> bool:
        """Return whether the change from `old` to `new`, made to `there`, alters nothing."""
        names = [str(file) for file in (there, old, new)]
        merged = ask("merge-file", "-p", "--quiet", *names, cwd=self._path)
        return merged.returncode == 0 and merged.stdout.encode(errors="surrogateescape") == there.read_bytes()

    def _blob(self, blob: str) -> bytes:
        return ask("cat-file", "blob", blob, cwd=self._path).stdout.encode(errors="surrogateescape")


def _entries(path: Path, commit: str) -> dict[str, Entry]:
    listed = (entry.partition("\t") for entry in git("ls-tree", "-rz", commit, cwd=path).split("\0"))
    return {name: (words.split()[0], words.split()[2]) for words, _, name in listed if name}


def _changes(path: Path, before: str, after: str) -> dict[str, Change]:
    words = iter(git("diff-tree", "-r", "-z", "--no-renames", "--raw", before, after, cwd=path).split("\0"))
    return {next(words): _raw(word) for word in words if word.startswith(":")}


def _raw(word: str) -> Change:
    """Parse one `:mode mode blob blob status` of git."""
    mode, new_mode, blob, new_blob, *_ = word.removeprefix(":").split()
    return Change(before=(mode, blob), after=(new_mode, new_blob))


def _began(path: Path, commit: str, run: str) -> str:
    """Return the commit at which the run began; empty if unknown, for its commits lack its name."""
    options = (*RUNS.options, "--first-parent", f"--max-count={RUN_COMMITS_AT_MOST}")
    for row in RUNS.rows(git("log", *options, commit, cwd=path)):
        if row["Run"] != run:
            return "" if row["commit"] == commit else row["commit"]
    return ""
