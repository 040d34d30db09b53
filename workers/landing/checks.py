"""The quality checks of a landing: whether their results hold for the tree that lands.

Todos that look at the base branches state the commits that would land, and the checks begin there. A green
result holds for the tree of its repository and for those of all repositories that the check needs. A base
branch that moves afterwards changes the tree to land; so does one under a needed repository that has landed
before. Then the check runs again, in the worktree of the run, as a part of the todo that lands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from coordination.models import LandAction, LandCheck
from coordination.runs.attempt_store import PredecessorOutput
from coordination.runs.change_sets.records import CheckVerdict, read_result
from workers.landing.records import commit_in
from workers.landing.todo import LandTodo
from workers.outcome import AttemptOutcome, OutcomeKind

Trees = Mapping[str, str]
"""Repository → the tree of a commit."""


class LandChecks:
    """The checks of the repository of one attempt to land."""

    def __init__(self, todo: LandTodo, action: LandAction) -> None:
        self._todo = todo
        self._repo = todo.repo.name
        self._action = action
        self._green: defaultdict[str, list[Trees]] = defaultdict(list)
        """Check → the trees for which this attempt has found it green."""

    @property
    def commit(self) -> str:
        """Return the commit that was checked; empty without checks."""
        looks = (one.commit for one in self._results if one.todo in self._looks(self._repo))
        return next(looks, None) or ""

    def obstacle(self, commit: str, tree: str) -> AttemptOutcome | None:
        """Return the outcome of a check that prevents a tree from landing; None if all are green for it.
        `commit` has the tree.
        """
        for check in self._action.checks:
            if check.todo not in self._green and not self._is_green(check):
                at = self.commit[:12] or "what would land"
                return _refused(f"{check.todo} has no green result for {at}")
            if (found := self._checked_again(check, commit, tree)) is not None:
                return found
        return None

    @cached_property
    def _results(self) -> Sequence[PredecessorOutput]:
        return self._todo.results() if self._action.checks else ()

    @cached_property
    def _statements(self) -> list[tuple[PredecessorOutput, Mapping[str, Any]]]:
        """Return the outputs of the todos that inspect base branches or land, with their parsed JSON."""
        stated = ((one, one.output) for one in self._results)
        return [(one, out) for one, out in stated if isinstance(out, dict) and commit_in(out, "tree")]

    def _looks(self, repo: str) -> set[str]:
        return {
            one.todo for one, stated in self._statements if "base" in stated and stated.get("repo") == repo
        }

    def _trees(self, *, landed: bool) -> Trees:
        """Return the trees that were checked, or, where a repository has landed by now, the landed ones."""
        stated = (stated for _, stated in self._statements if landed or "base" in stated)
        return {str(out.get("repo")): commit_in(out, "tree") for out in stated}

    def _is_green(self, check: LandCheck) -> bool:
        """Return whether the run has a green result of the check at the checked commit."""
        for one in self._results:
            result = read_result(one.json) if one.todo == check.todo else None
            if result and result.verdict is CheckVerdict.GREEN and one.commit == self.commit:
                self._green[check.todo].append(self._read(check, self._trees(landed=False)))
                return True
        return False

    def _read(self, check: LandCheck, trees: Trees) -> Trees:
        needs = check.action.needs
        names = {self._repo, *(trees if needs is None else needs)}
        return {repo: tree for repo, tree in trees.items() if repo in names}

    def _checked_again(self, check: LandCheck, commit: str, tree: str) -> AttemptOutcome | None:
        read = self._read(check, {**self._trees(landed=True), self._repo: tree})
        if read in self._green[check.todo]:
            return None
        before = self._green[check.todo][0]
        moved = sorted(repo for repo in read if read[repo] != before.get(repo))
        self._todo.log(f"{check.todo} runs again: the base branch has moved in {', '.join(moved)}")
        for _ in range(1 + check.action.retries):
            outcome = self._todo.check_again(check, commit)
            if outcome.kind is not OutcomeKind.FAILED:
                break
        result = read_result(outcome.output)
        if outcome.kind in (OutcomeKind.FAILED, OutcomeKind.REFUSED):
            return _refused(f"{check.todo} is not green for what would land now: {outcome.error}")
        if outcome.kind is not OutcomeKind.SUCCEEDED:
            return replace(outcome, output="")  # the record of the landing must stay
        if result is None or result.verdict is not CheckVerdict.GREEN:
            return _refused(f"{check.todo} is not green for what would land now")
        self._green[check.todo].append(read)
        return None


def _refused(why: str) -> AttemptOutcome:
    return AttemptOutcome(kind=OutcomeKind.REFUSED, error=why)
