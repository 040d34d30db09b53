"""Say where the results of completed todos are: in the base branch, among what lands, or in neither.

A sweep asks about the todos that its own wait for: see `landed.py`.

A landing asks about the completed todos of its plan that no record of the change set has. A todo's commit is
the recorded one, else the newest one in any ref, `refs/coord/discarded` included, whose trailers name the
plan and the todo. It counts as there if the tip of the change set or the base branch contains it, or has its
change in another form (`landed.py`), or has that of a later commit of the same branch. If people have taken
it out of the base branch again, that is their decision: it does not count as lost.

git is asked about all todos of a repository at once; about a single one only if neither branch contains its
commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from coordination.branches import HEADS, OwnBranches, name_of_set
from coordination.errors import GitRefused
from coordination.git import base_tip, is_commit
from coordination.models.values import RUN_ID
from coordination.runs.landed_results import ExpectedResult, ResultFinding
from coordination.trailers import TrailerLog
from workers.cleanup.landed import Checkout
from workers.workspace.git import git
from workers.workspace.repository import has_commit, inspect

TRAILERS = TrailerLog(("Plan", "Todo"))
KEPT = "refs/coord/"


def findings(places: Mapping[str, Path], sought: Iterable[ExpectedResult]) -> Iterator[ResultFinding]:
    """Yield a finding for each result in a repository that this worker serves.

    Its `why` is empty if the result is in the base branch or, for a landing, in the change set.
    """
    served: dict[tuple[str, str, str], list[ExpectedResult]] = {}
    for one in sought:
        if one.repo in places:
            served.setdefault((one.repo, one.branch, one.plan), []).append(one)
    for (repo, branch, plan), results in served.items():
        if plan:
            yield from CompletedWork(places[repo], results).findings()
            continue
        commits = tuple(one.commit for one in results if is_commit(one.commit))
        checkout = Checkout(path=places[repo], revision=f"refs/heads/{branch}", recorded=commits)
        yield from (_found(checkout, one) for one in results)


def _found(checkout: Checkout, one: ExpectedResult) -> ResultFinding:
    known = ResultFinding(todo=one.todo, repo=one.repo, branch=one.branch, run=one.run)
    try:
        if one.commit:
            return known.model_copy(update={"why": checkout.why_not(one)})
        return next(checkout.by_trailers(known), known)
    except GitRefused as refused:
        why = f"its result cannot be looked for: {refused.message}"
        return known.model_copy(update={"why": why}) if one.commit else known


class CompletedWork:
    """The commits of completed todos of one plan in one repository, at one moment."""

    def __init__(self, path: Path, sought: Sequence[ExpectedResult]) -> None:
        """`sought`: of the same repository, base branch and change set."""
        self._path = path
        self._sought = sought
        self._first = sought[0]
        self._whole: dict[str, bool] = {}

    def findings(self) -> Iterator[ResultFinding]:
        """Yield a finding for each todo; without a commit if none is known."""
        for one in self._sought:
            known = ResultFinding(todo=one.todo, repo=one.repo, branch=one.branch, run=one.run)
            try:
                yield known.model_copy(update=self._finding(one))
            except GitRefused as refused:
                yield known.model_copy(update={"why": f"its commit cannot be looked for: {refused.message}"})

    def _finding(self, one: ExpectedResult) -> Mapping[str, str]:
        commit = self._commit_of(one)
        if not commit and not one.commit:
            return {}
        if not commit:
            run = f" of run {one.run}" if RUN_ID.fullmatch(one.run) else ""
            return {"commit": one.commit, "why": f"its commit {one.commit[:12]}{run} is not in {self._path}"}
        if commit in self._beyond and not self._is_there(commit):
            lands = f" nor in {one.tip[:12]}, which lands" if one.tip else ""
            ref = self._ref_of(commit)
            place = f" ({ref})" if ref else ""
            why = f"its commit {commit[:12]}{place} is neither in {one.branch}{lands}"
            return {"commit": commit, "ref": ref, "why": why if lands else why.replace("neither", "not")}
        return {"commit": commit}

    def _commit_of(self, one: ExpectedResult) -> str:
        """Return the recorded commit, else the one that trailers name; empty if neither is here."""
        return one.commit if one.commit in self._recorded else self._named.get(one.todo, "")

    @cached_property
    def _recorded(self) -> frozenset[str]:
        """Return the recorded commits that the repository has."""
        asked = "".join(f"{one.commit}\n" for one in self._sought if is_commit(one.commit))
        if not asked:
            return frozenset()
        answer = git("cat-file", "--batch-check=%(objectname) %(objecttype)", cwd=self._path, stdin=asked)
        lines = answer.splitlines()
        return frozenset(line.removesuffix(" commit") for line in lines if line.endswith(" commit"))

    @cached_property
    def _named(self) -> Mapping[str, str]:
        """Return todo → the newest commit of any ref that names it and the plan."""
        if inspect(self._path)[0]:
            return {}
        found = dict[str, str]()
        words = ("--all", "--grep=^Coord-Todo: ", *self._targets)
        for row in TRAILERS.rows(git("log", *TRAILERS.options, *words, cwd=self._path)):
            for todo in row["Todo"].split():
                if self._first.plan in (row["Plan"], todo):
                    found.setdefault(todo, row["commit"])
        return found

    @cached_property
    def _targets(self) -> tuple[str, ...]:
        """Return the commits that must have the work: the base branch, and the tip that lands."""
        first = self._first
        base = base_tip(self._path, first.branch, remote=first.remote)
        tip = first.tip if is_commit(first.tip) and has_commit(self._path, first.tip) else ""
        return tuple(filter(None, (base, tip)))

    @cached_property
    def _beyond(self) -> Collection[str]:
        """Return the commits of the todos that neither the base branch nor the tip contains."""
        commits = {commit for one in self._sought if (commit := self._commit_of(one))}
        if not commits:
            return commits
        words = "".join(f"{word}\n" for word in (*commits, *(f"^{target}" for target in self._targets)))
        return commits & set(git("rev-list", "--stdin", cwd=self._path, stdin=words).split())

    def _is_there(self, commit: str) -> bool:
        """Return whether the base branch or the tip has the change of the commit in other commits."""
        asked = ("--format=%(objectname)", f"--contains={commit}", *self._ours.refs, KEPT)
        tips = git("for-each-ref", *asked, cwd=self._path).split()
        return any(map(self._has, dict.fromkeys([*tips, commit])))

    def _has(self, commit: str) -> bool:
        if commit not in self._whole:
            places = (Checkout(path=self._path, revision=target) for target in self._targets)
            self._whole[commit] = any(place.has(commit) for place in places)
        return self._whole[commit]

    def _ref_of(self, commit: str) -> str:
        """Return a ref that has the commit: the branch of the change set if it does, else any."""
        own = {f"{HEADS}{branch}" for branch in self._ours.named(name_of_set(self._first.plan))}
        asked = ("--format=%(refname)", f"--contains={commit}")
        refs = git("for-each-ref", *asked, cwd=self._path).splitlines()
        return next((ref for ref in refs if ref in own), next(iter(refs), ""))

    @cached_property
    def _ours(self) -> OwnBranches:
        return OwnBranches.of(self._path)
