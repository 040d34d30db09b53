"""Find out whether the results of completed todos have reached a repository's base branch, and stayed there.

A result has reached the base if the base contains its commit, or if merging it there would change nothing:
people squash and rebase. A later commit of the same branch counts for the result as well, since it contains
it. Where later commits of the base changed the same files, such a merge conflicts; so those commits are
tried, too. `git merge-tree` exists since git 2.38: without it only a commit that the base contains counts.

A result that the base had and lost does not count (`reverted.py`).

A landing asks another question: whether the base contains the whole work now (`landing.history.has_landed`).
It gives up where lines have changed since, and does not look at the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coordination.branches import OwnBranches
from coordination.git import is_commit
from coordination.models.values import RUN_ID
from coordination.runs.landed_results import ExpectedResult, ResultFinding
from coordination.runs.write_back import UNDONE
from coordination.trailers import TrailerLog
from workers.cleanup.reverted import unchanged, was_reverted, was_whole
from workers.workspace.git import ask, git
from workers.workspace.repository import contains, has_commit, inspect

TRAILERS = TrailerLog(("Todo", "Run"))
FILES_AT_MOST, COMMITS_AT_MOST = 200, 50
"""The most files of a result, and commits of the base since, that are looked at to find it squashed."""


def has_landed(checkout: Path, commit: str, base: str) -> bool:
    """Return whether a commit of the base branch has, or had, the change of the commit. Raises GitRefused."""
    return Checkout(path=checkout, revision=base).has(commit)


@dataclass(frozen=True)
class Checkout:
    path: Path
    revision: str
    """The base: a whole ref, or HEAD."""
    recorded: tuple[str, ...] = ()
    """Commits that will be looked up: git is asked about all of them at once."""

    def why_not(self, one: ExpectedResult) -> str:
        """Return why the result does not count as landed; empty if it does. Raises GitRefused."""
        if one.commit == UNDONE:
            return f"its result was undone by run {one.run}"
        if not is_commit(one.commit):
            return f"{one.commit!r} is not a commit"
        if not self._is_repository:
            return f"its result is a commit, and {self.path} is not a git repository now"
        if self._has(one):
            return f"its result was in {one.branch}, and is no longer there" if self._has_lost(one) else ""
        if not has_commit(self.path, one.commit):
            run = f"run {one.run} in {one.repo}" if RUN_ID.fullmatch(one.run) else one.repo
            return f"its commit {one.commit[:12]} (of {run}) is not in {self.path}"
        return f"its result, {self._place_of(one)}, is not in {one.branch}"

    def _place_of(self, one: ExpectedResult) -> str:
        """Return the branch of coord that has the commit, as text; the run where none has."""
        asked = ("--count=1", "--format=%(refname:lstrip=2)", f"--contains={one.commit}", *self._ours.refs)
        if found := git("for-each-ref", *asked, cwd=self.path):
            return f"on branch {found} of {one.repo}"
        return f"of run {one.run} in {one.repo}" if RUN_ID.fullmatch(one.run) else f"in {one.repo}"

    def by_trailers(self, known: ResultFinding) -> Iterator[ResultFinding]:
        """Yield the todo's commits on branches of runs that are not in the base. Raises GitRefused."""
        for commit, run in self._named.get(known.todo, ()):
            one = ExpectedResult(
                todo=known.todo, repo=known.repo, branch=known.branch, commit=commit, run=run
            )
            if why := self.why_not(one):
                yield known.model_copy(update={"why": why, "run": run})

    def has(self, commit: str) -> bool:
        """Return whether the base has the change of the commit. Raises GitRefused if there is no base."""
        return (
            contains(self.path, commit, self._base)
            or self._adds_nothing(self._base, commit)
            or self._was_squashed(commit)
        )

    @cached_property
    def _is_repository(self) -> bool:
        return self.path.is_dir() and not inspect(self.path)[0]

    @cached_property
    def _ours(self) -> OwnBranches:
        return OwnBranches.of(self.path)

    @cached_property
    def _base(self) -> str:
        """Return the commit of the base branch. Raises GitRefused if there is none."""
        return git("rev-parse", "--verify", f"{self.revision}^{{commit}}", cwd=self.path)

    @cached_property
    def _named(self) -> Mapping[str, list[tuple[str, str]]]:
        """Return todo → its commits on branches of runs, not in the base; newest first, each with its run."""
        named: dict[str, list[tuple[str, str]]] = {}
        if self._is_repository:
            span = (*(f"--branches={prefix}*" for prefix in self._ours.prefixes), "--not", self._base)
            for row in TRAILERS.rows(git("log", *TRAILERS.options, *span, cwd=self.path)):
                named.setdefault(row["Todo"], []).append((row["commit"], row["Run"]))
        return named

    def _has(self, one: ExpectedResult) -> bool:
        """Return whether the base has the result. Raises GitRefused if there is no base branch."""
        if one.commit in self._contained:
            return True
        if not has_commit(self.path, one.commit):
            return False
        return any(map(self.has, (one.commit, *self._tips_on(one))))

    def _has_lost(self, one: ExpectedResult) -> bool:
        if one.commit in self._unchanged:
            return False
        return was_reverted(self.path, self._base, one.commit, one.run, self._tips_on(one))

    def _tips_on(self, one: ExpectedResult) -> list[str]:
        """Return the tips of runs that contain the result: a later run may have set it back."""
        tips = [tip for tip in one.tips if is_commit(tip) and contains(self.path, one.commit, tip)]
        asked = (f"--contains={one.commit}", "--format=%(objectname)", *self._ours.refs)
        heads = git("for-each-ref", *asked, cwd=self.path)
        return [tip for tip in dict.fromkeys([*tips, *heads.split()]) if tip != one.commit]

    @cached_property
    def _contained(self) -> frozenset[str]:
        """Return the commits of `recorded` that the base contains."""
        listed = "\n".join(self.recorded)
        if not listed:
            return frozenset()
        there = git(
            "cat-file", "--batch-check=%(objectname) %(objecttype)", cwd=self.path, stdin=f"{listed}\n"
        )
        commits = {line.removesuffix(" commit") for line in there.splitlines() if line.endswith(" commit")}
        words = "\n".join([*commits, f"^{self._base}"])
        beyond = git("rev-list", "--stdin", cwd=self.path, stdin=f"{words}\n") if commits else ""
        return frozenset(commits - set(beyond.split()))

    @cached_property
    def _unchanged(self) -> frozenset[str]:
        """Return the commits of `recorded` from which the base still has at least one file unchanged."""
        known = [
            commit for commit in self.recorded if commit in self._contained or has_commit(self.path, commit)
        ]
        return unchanged(self.path, self._base, known)

    def _adds_nothing(self, base: str, commit: str) -> bool:
        merged = ask("merge-tree", "--write-tree", "--no-messages", base, commit, cwd=self.path)
        return merged.returncode == 0 and merged.stdout.strip() == git(
            "rev-parse", f"{base}^{{tree}}", cwd=self.path
        )

    def _was_squashed(self, commit: str) -> bool:
        """Return whether the base had the whole change at one of its commits since."""
        fork = ask("merge-base", self._base, commit, cwd=self.path).stdout.strip()
        if not fork:
            return False
        if was_whole(self.path, self._base, fork, commit):
            return True
        files = [f for f in git("diff", "--name-only", "-z", fork, commit, cwd=self.path).split("\0") if f]
        paths = ("--", *files) if len(files) <= FILES_AT_MOST else ()
        options = ("--first-parent", f"--max-count={COMMITS_AT_MOST}")
        since = ask(
            "--literal-pathspecs", "rev-list", *options, f"{fork}..{self._base}", *paths, cwd=self.path
        )
        return any(self._adds_nothing(base, commit) for base in since.stdout.split())
