"""Ask the remotes and the forges of a landing what would refuse it; nothing is changed there.

The base branches are fetched, so that a preview tries the merges with what the remotes have now. A request is
judged by the rule of the landing itself (`landing/readiness.py`). An approval counts for the head, and for
the heads from which coord made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.push import BranchRefused, remote_tips
from coordination.errors import CoordinationError
from coordination.files import is_folder
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import locate
from coordination.forges.models import Protection, PullRequest, RequestState
from coordination.git import ask_git, commit_of, contains
from coordination.landing.preview import RemoteFacts
from coordination.landing.readiness import (
    Lack,
    Missing,
    ObservedRequest,
    Requirements,
    missing_of,
)
from coordination.landing.records import Landing, RepoLanding
from coordination.models import Repo, Via
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.run_kinds import LAND
from coordination.text import counted

BY_COORD = frozenset({Lack.BEHIND, Lack.UNKNOWN})
"""Obstacles that the landing removes itself, or that end with the forge's computation."""
LASTING_ERRORS = frozenset({ForgeProblem.ARCHIVED, ForgeProblem.FORK_NEEDED, ForgeProblem.NOT_FOUND})


def ask_remotes(
    landing: Landing,
    kind: str,
    repos: Mapping[str, Repo],
    places: Mapping[str, Path | None],
    access: ForgeAccess,
) -> dict[tuple[str, str], RemoteFacts]:
    """Return (plan, repository) → the answers, for the repositories that land at a remote and have a checkout
    on this machine. `kind`: of a revert, only the base branches are fetched.
    """
    asked = [
        _Question(
            part=part, one=one, repo=repos[one.repo], checkout=place, access=access, is_landing=kind == LAND
        )
        for part in landing.parts
        for one in part.repos
        if one.via is not Via.LOCAL
        and one.repo in repos
        and (place := places.get(one.repo)) is not None
        and is_folder(place)
    ]
    with access.pool() as pool:
        answers = pool.map(_Question.answer, asked)
        return {(one.part.change_set, one.one.repo): facts for one, facts in zip(asked, answers, strict=True)}


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One repository of a landing."""

    part: Landing
    one: RepoLanding
    repo: Repo
    checkout: Path
    access: ForgeAccess
    is_landing: bool

    def answer(self) -> RemoteFacts:
        change = self.one.change
        try:
            with self.access.target(self.part.change_set, self.repo, change, self.checkout) as target:
                remote_tips(target)
                pushed = commit_of(self.checkout, target.pushed_ref)
            if not self.is_landing or self.one.via is not Via.PR:
                return RemoteFacts()
            return self._of_forge(change, pushed)
        except BranchRefused as error:
            return RemoteFacts(problem=str(error))
        except ForgeError as error:
            if error.problem in LASTING_ERRORS:
                return RemoteFacts(problem=f"{error.message}; {error.hint}")
            return RemoteFacts(not_asked=error.message)
        except CoordinationError as error:
            return RemoteFacts(not_asked=error.message)

    def _of_forge(self, change: RepoChange, pushed: str) -> RemoteFacts:
        forge = self.access.forge(self.repo.name, locate(self.repo))
        request = forge.get(change.request.number) if change.request else self._find(forge, change)
        if request is None or (request.state is RequestState.CLOSED and change.request is None):
            return RemoteFacts(missing=self._of_new(forge))
        if request.state is RequestState.MERGED:
            return RemoteFacts(request=request.url)
        if request.is_open and self._is_behind(request):
            return RemoteFacts(request=request.url, missing=self._of_new(forge))
        rules = forge.protection(self.repo.branch)
        return RemoteFacts(request=request.url, missing=self._missing(forge, request, rules, pushed))

    def _find(self, forge: Forge, change: RepoChange) -> PullRequest | None:
        return forge.find(change.branch_at_forge(self.access.branch_prefix))

    def _is_behind(self, request: PullRequest) -> bool:
        """Return whether the landing brings the request to the tip, which has all of its commits."""
        tip = self.one.change.tip
        return request.head_sha != tip and contains(self.checkout, request.head_sha, tip)

    def _of_new(self, forge: Forge) -> tuple[Missing, ...]:
        """Return what a head that is not at the forge yet will lack."""
        rules = forge.protection(self.repo.branch)
        found = list[Missing]()
        if needed := max(rules.approvals, self.part.approvals):
            found.append(Missing(lack=Lack.APPROVALS, text=f"it will need {counted(needed, 'approval')}"))
        if checks := [name for name in rules.checks if name not in self.part.after_upstream]:
            found.append(
                Missing(lack=Lack.PENDING, text=f"it will need green checks: {', '.join(checks[:3])}")
            )
        return tuple(found)

    def _missing(
        self, forge: Forge, request: PullRequest, rules: Protection, pushed: str
    ) -> tuple[Missing, ...]:
        head, tip = request.head_sha, self.one.change.tip
        recorded = self.one.change.request.head if self.one.change.request else ""
        heads = (head, *self._heads(head, tip)) if head in (tip, pushed, recorded) else ()
        seen = ObservedRequest(
            request=request.model_copy(update={"mergeable": True}),  # git on this machine knows it better
            heads=heads,
            checks=forge.checks(head) if request.is_open else (),
            reviews=forge.reviews(request.number) if request.is_open else (),
            protection=rules,
        )
        required = Requirements(approvals=self.part.approvals, ignored=self.part.after_upstream)
        return tuple(one for one in missing_of(seen, required) if one.lack not in BY_COORD)

    def _heads(self, head: str, tip: str) -> tuple[str, ...]:
        """Return the commits from `head` down to the tip: coord made them by merging the base branch in."""
        between = ask_git(self.checkout, "rev-list", "--first-parent", f"{tip}..{head}").split()
        return (*between, tip)
