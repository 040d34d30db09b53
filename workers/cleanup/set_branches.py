"""Remove the branch of a change set that has landed or is discarded, in the repository of this host.

The name is made here from the change set's id: a job removes no other branch. A branch with a commit that the
change set does not have is a person's, and one that is checked out is in use: both stay. A discarded tip
stays reachable as `refs/coord/discarded/<branch>/<commit>`, with such commits of a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordination.errors import GitRefused
from coordination.runs.change_sets import PREFIX, branch_name, copy_ref
from coordination.runs.cleanup_jobs import Artifact, BranchOfSet, Kind
from workers.workspace.git import ask, git
from workers.workspace.repository import contains, has_commit, worktrees

DISCARDED = "refs/coord/discarded"
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class SetBranch:
    """The branch of a change set in one repository."""

    wanted: BranchOfSet
    checkout: Path

    def artifact(self) -> Artifact | None:
        """Return the branch, if there is one, or, of a discarded change set, its tip."""
        head, known = self._head, has_commit(self.checkout, self.wanted.tip)
        if not head and not (self.wanted.keep and known):
            return None
        return Artifact(
            run=self.wanted.run,
            kind=Kind.BRANCH,
            repo=self.wanted.repo,
            path=str(self.checkout),
            branch=self._name,
            stays=self._stays(head) if head else "",
        )

    def remove(self) -> Artifact | None:
        """Keep the tip of a discarded change set, and remove the branch; return it as gone, or with the
        reason why it stays.
        """
        found = self.artifact()
        if found is None or found.stays:
            return found
        head = self._head
        try:
            for commit in {self.wanted.tip, head} if self.wanted.keep else ():
                if has_commit(self.checkout, commit):
                    git("update-ref", self._kept(commit), commit, cwd=self.checkout)
            if head:
                git("update-ref", "--no-deref", "-d", self._ref, head, cwd=self.checkout)
            git("update-ref", "-d", copy_ref(self._name), cwd=self.checkout)
        except GitRefused as refused:
            return found.model_copy(update={"stays": refused.message})
        return found.model_copy(update={"gone": True})

    @property
    def _name(self) -> str:
        return branch_name(self.wanted.change_set)

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self._name}"

    def _kept(self, commit: str) -> str:
        return f"{DISCARDED}/{self._name.removeprefix(PREFIX)}/{commit[:SHOWN]}"

    @property
    def _head(self) -> str:
        found = ask("rev-parse", "--verify", "--quiet", f"{self._ref}^{{commit}}", cwd=self.checkout)
        return found.stdout.strip()

    def _stays(self, head: str) -> str:
        if place := next((place for place, on in worktrees(self.checkout) if on == self._ref), None):
            return f"it is checked out in {place}"
        if not self.wanted.keep and not contains(self.checkout, head, self.wanted.tip):
            return "it has commits that the change set does not have"
        return ""
