"""The branches `coord/<run>` of one repository, and which of them can go without anybody's work being lost.

One goes only if every commit on it is one that the run recorded, and if it is checked out nowhere. Somebody who went on working
on a run's branch keeps it; so does a run of which nothing is recorded any more, unless its commits are in another branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from coordination.errors import GitRefused
from coordination.runs.cleaning import RUN_ID, Kind, Remnant
from workers.git import ask, git
from workers.repository import branch_of, look, worktrees

REFS = ("refs/heads", "refs/remotes", "refs/tags")
_OF_A_RUN = re.compile(rf"refs/(heads|remotes/[^/]+)/{branch_of('')}{RUN_ID.pattern}")


class RunBranches:
    """As they are when they are first looked at. Raises GitRefused."""

    def __init__(self, repo: str, checkout: Path) -> None:
        self._repo = repo
        self._checkout = checkout

    @cached_property
    def heads(self) -> Mapping[str, str]:
        """Run → the commit that its branch is at."""
        local = {ref: commit for ref, commit in self._refs.items() if ref.startswith("refs/heads/")}
        return {ref.rpartition("/")[2]: commit for ref, commit in local.items() if _OF_A_RUN.fullmatch(ref)}

    @cached_property
    def places(self) -> Mapping[Path, str]:
        """Each worktree that git knows, the checkout among them, and the branch that it is on (empty if none)."""
        return dict(worktrees(self._checkout)) if self._has_git else {}

    def of(self, run: str, *, tip: str | None, base: str | None, own: Path) -> Remnant | None:
        """The run's branch, if there is one. `tip`: what it recorded; `base`: where it began; `own`: its worktree."""
        head = self.heads.get(run)
        if head is None:
            return None
        return Remnant(
            run=run,
            kind=Kind.BRANCH,
            repo=self._repo,
            path=str(self._checkout),
            unmerged=head in self._unmerged,
            stays=self._foreign(head, tip, base) or self._checked_out(run, self.places, own),
        )

    def remove(self, remnant: Remnant) -> Remnant:
        """The branch gone, unless somebody has moved it or checked it out meanwhile."""
        stays = self._checked_out(remnant.run, dict(worktrees(self._checkout)))
        try:
            if not stays:
                ref = f"refs/heads/{branch_of(remnant.run)}"
                git("update-ref", "-d", ref, self.heads[remnant.run], cwd=self._checkout)
        except GitRefused as refused:
            stays = refused.message
        return remnant.model_copy(update={"stays": stays, "gone": not stays})

    def _foreign(self, head: str, tip: str | None, base: str | None) -> str:
        if head not in self._unmerged or head in (tip, base):
            return ""
        if tip and ask("merge-base", "--is-ancestor", head, tip, cwd=self._checkout).returncode == 0:
            return ""
        return "it has commits that the run did not record"

    def _checked_out(self, run: str, places: Mapping[Path, str], own: Path | None = None) -> str:
        branch = f"refs/heads/{branch_of(run)}"
        place = next((place for place, on in places.items() if on == branch and place != own), None)
        return f"it is checked out in {place}" if place else ""

    @cached_property
    def _has_git(self) -> bool:
        return not look(self._checkout)[0]

    @cached_property
    def _refs(self) -> Mapping[str, str]:
        if not self._has_git:
            return {}
        listing = git("for-each-ref", "--format=%(refname) %(objectname)", *REFS, cwd=self._checkout)
        return {ref: commit for ref, _, commit in (line.rpartition(" ") for line in listing.splitlines())}

    @cached_property
    def _unmerged(self) -> frozenset[str]:
        """Heads with a commit that no branch or tag has but those of runs."""
        if not self.heads:
            return frozenset()
        others = [f"^{commit}" for ref, commit in self._refs.items() if not _OF_A_RUN.fullmatch(ref)]
        alone = git("rev-list", "--stdin", cwd=self._checkout, stdin="\n".join([*self.heads.values(), *others])).split()
        return frozenset(self.heads.values()) & frozenset(alone)
