"""Take a run out of its change set in one repository, when the last of its todos there is undone.

The branch of the change set goes back to where it was before the run. Where a pull request has commits of the
run, the branch gets an inverse commit instead: people may have built on it. That commit is recorded as the
tip, and the end of the rollback (lua/run/_changes.lua) leaves it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from coordination.errors import GitRefused
from coordination.runs.brief import RunBrief
from coordination.runs.change_set_records import RepoChange
from coordination.runs.change_sets import ChangeSets
from coordination.runs.replies import Grant
from workers.landing.merging import merge
from workers.landing.prepare import revert_commit
from workers.landing.records import BaseBranch, Nothing, Prepared, Refused
from workers.trust.signed_results import SignedResults
from workers.workspace.branch_copy import BranchCopy
from workers.workspace.lock import Superseded
from workers.workspace.repository import common_dir_of, contains, has_commit

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TakeBack:
    """Takes runs back on this worker."""

    change_sets: ChangeSets
    signed_results: SignedResults
    checkouts: Mapping[str, Path]
    send: Callable[[Grant, str, str], None]
    """Sends a tip that builds on a commit of the base branch to other hosts."""
    until_answered: Callable[[Callable[[], object]], object]
    """Asks Redis again until it answers."""

    def carry_out(self, grant: Grant, brief: RunBrief) -> str:
        """Move the branch of the change set; return why it stays where it is. Raises GitRefused."""
        repo = grant.spec.repo.name
        if not (branch := brief.branch_of_set.get(repo)):
            return ""
        checkout, sets = self.checkouts[repo], self.change_sets
        copy = BranchCopy(checkout=checkout, common_dir=common_dir_of(repo, checkout), branch=branch)
        before = self._ask(lambda: sets.tip_before(grant.run_id, repo))
        found = self._ask(lambda: sets.read(brief.change_set))
        change = found.repos.get(repo) if found else None
        if change is None or not _is_published(grant, brief, change, before, checkout):
            return copy.follow(before)
        if self._ask(lambda: sets.inverse_of(grant.run_id, repo)) == change.tip:
            return copy.follow(change.tip)
        return copy.follow(self._inverse(grant, brief, change, before))

    def _inverse(self, grant: Grant, brief: RunBrief, change: RepoChange, before: str) -> str:
        """Add the inverse of the run to the change set; return its new tip."""
        name, repo = brief.change_set, grant.spec.repo.name
        at = BaseBranch(repo=repo, path=self.checkouts[repo], branch=change.branch)
        subject = f"Take back run {grant.run_id} of {name}"
        message = f"{subject}\n\nCoord-Plan: {name}\nCoord-Reverts-Run: {grant.run_id}\n"
        made = self._without_run(at, change, before, grant.tip or change.tip, message)
        if isinstance(made, Refused):
            hint = f"take it out by hand on {change.branch}, then: coord adopt {name} {repo} {change.branch}"
            raise GitRefused(made.words, hint)
        tip = made.base if isinstance(made, Nothing) else made.commit
        self.send(grant, tip, change.base)
        signed = self.signed_results.seal_tip(grant, tip, change.base, name)
        facts = {"tip": tip, "base": change.base, "signed": signed}
        if not self._ask(lambda: self.change_sets.note_reverted(grant, name, repo, **facts)):
            raise Superseded("another attempt undoes the todo, or has undone it", "")
        return tip

    @staticmethod
    def _without_run(
        at: BaseBranch, change: RepoChange, before: str, left: str, message: str
    ) -> Prepared | Nothing | Refused:
        """Return the commit on the tip that takes out all between `before`, with the base branch as it was
        merged last, and the commit at which the run left the repository.
        """
        began = merge(at, before or change.base, change.base)
        if isinstance(began, Refused):
            return began
        return revert_commit(at, base=change.tip, landed=left, before=began.tree, message=message)

    def _ask(self, ask: Callable[[], T]) -> T:
        answer: T = self.until_answered(ask)  # type: ignore[assignment]
        return answer


def _is_published(grant: Grant, brief: RunBrief, change: RepoChange, before: str, checkout: Path) -> bool:
    """Return whether a pull request has commits of the run, or of those that it takes up."""
    if change.request is None or not {grant.run_id, *brief.carried_from}.intersection(change.runs):
        return False
    head = change.request.head
    return not (before and has_commit(checkout, head) and contains(checkout, head, before))
