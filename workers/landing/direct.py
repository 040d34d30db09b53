"""Land and revert by a push to the base branch, at the remote or in the checkout of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from coordination.errors import NotAllowed
from coordination.runs.change_sets.records import Landed, RepoChange
from workers.landing.attempt import TROUBLE, Attempt, AttemptEnd, refusal
from workers.landing.history import landing_of, lands, tree_of
from workers.landing.land import Landing
from workers.landing.records import BaseBranch, NoChange, Prepared, Reason, Refused, commit_in
from workers.landing.remote import contains
from workers.landing.revert import Revert
from workers.outcome import AttemptOutcome

OF_PERSONS = frozenset({Reason.DIRTY, Reason.OPERATION})
"""Trouble that a person has to resolve. The check before a landing fails; the landing itself waits."""


class _DirectWay:
    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def opened(self) -> AbstractContextManager[BaseBranch]:
        return self._attempt.opened_base()

    def waits_for(self, reason: Reason) -> bool:
        return False

    def keeps_moving(self, at: BaseBranch) -> AttemptEnd:
        return self._attempt.passing_trouble(f"{at.branch} of {at.repo} keeps moving", Reason.MOVED)


class DirectLanding(_DirectWay):
    """Land by a push."""

    def __init__(self, landing: Landing) -> None:
        super().__init__(landing)
        self._landing = landing
        self._base_commit = ""

    def check(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        landing, found = self._landing, self._landing.look(at)
        if isinstance(found, Refused):
            raise refusal(found.error) if found.reason in OF_PERSONS else landing.end_after(found)
        base = found.commit
        made = landing.prepared(at, change, base, landing.action.method)
        if isinstance(made, NoChange):
            return landing.nothing_to_land(at, base)
        if (refused := landing.base.refused(at, made)) is not None:
            raise landing.end_after(refused)
        return landing.can_land(at, {}, f"it can land on {base[:12]} of {at.branch}", made.commit, base)

    def landed(self, at: BaseBranch, change: RepoChange) -> Landed | None:
        """Return the landing that an attempt before this one has recorded, if its push arrived."""
        landing, known = self._landing, self._landing.checkpoint
        self._base_commit, commit = landing.base_tip(at).commit, commit_in(known, "commit")
        if not commit or not contains(at, self._base_commit, commit):
            return None
        if not lands(at, commit, landing.action.tip):
            return None
        try:
            return landing.recorded(known)
        except NotAllowed as error:
            landing.todo.log(f"the record of an earlier attempt does not count: {error.message}")
            return None

    def offered(self, at: BaseBranch, change: RepoChange) -> Prepared | NoChange:
        landing, base = self._landing, self._base_commit
        made = landing.prepared(at, change, base, landing.action.method)
        if isinstance(made, NoChange):
            return made
        if before := landing_of(at, landing.action.tip, landing.todo.run_id, base):
            raise refusal(
                f"this run has landed it as {before[:12]}, and it was taken out of {at.branch} since",
                f"land it again: coord land {landing.name}",
            )
        return made

    def bring(self, at: BaseBranch, change: RepoChange, made: Prepared) -> Landed | None:
        landed = self._record(at, made)
        return landed if self._landing.pushed(at, made) else None

    def _record(self, at: BaseBranch, made: Prepared) -> Landed:
        landing, before = self._landing, tree_of(at, made.base)
        landed = landing.sealed(landing.action.tip, made.commit, before, str(landing.action.method))
        # Trouble stays recorded until a push succeeds: reading the base branch proves nothing about pushing.
        trouble = {name: since for name, since in landing.checkpoint.items() if name == TROUBLE}
        landing.save_checkpoint({**landed.model_dump(), **trouble})
        return landed


class DirectRevert(_DirectWay):
    """Revert by a push."""

    def __init__(self, revert: Revert) -> None:
        super().__init__(revert)
        self._revert = revert

    def may_have_landed(self, known: Mapping[str, Any], change: RepoChange | None) -> bool:
        return bool(commit_in(known, "commit") and commit_in(known, "tree_before"))

    def own_landing(
        self, at: BaseBranch, known: Mapping[str, Any], change: RepoChange | None
    ) -> Landed | None:
        revert = self._revert
        commit, base = commit_in(known, "commit"), revert.base_tip(at).commit
        if not contains(at, base, commit) or not lands(at, commit, revert.action.tip or ""):
            return None
        return revert.recorded(known)

    def propose(self, at: BaseBranch, made: Prepared, landed: Landed) -> str:
        return ""

    def bring(self, at: BaseBranch, made: Prepared, landed: Landed) -> bool:
        return self._revert.pushed(at, made)

    def finish(self, landed: Landed) -> None:
        pass
