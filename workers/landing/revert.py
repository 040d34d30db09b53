"""Take a landed change set out of a base branch, and open it again: the protocol of all ways.

A revert is one commit, whatever the method of the landing. It names the commit that it reverts (trailer
Coord-Reverts), so that a later attempt recognises it. `_pushed` brings it to the base branch: by a push, or
by a pull request (`revert_request.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from coordination.errors import NotAllowed
from coordination.models import RevertAction
from coordination.runs.change_sets.records import BY_PEOPLE, RepoChange, Reverted
from workers.landing.attempt import LOOKS, TROUBLE, UNDOES, Attempt, parsed, refusal
from workers.landing.commits import REVERTS, commit_in, had_tree, lands, reopen, revert_commit, revert_of
from workers.landing.records import BaseBranch, NoChange, Prepared, Refused
from workers.landing.remote import contains
from workers.outcome import AttemptOutcome


class LandedCommit(NamedTuple):
    """A commit to take out, and the tree of the base branch before it."""

    commit: str
    before: str


class RevertAttempt(Attempt):
    """One attempt to revert, which pushes the revert to the base branch."""

    _action: RevertAction

    def outcome(self, output: str | None) -> AttemptOutcome:
        """Revert the landing that the action names; with `output`, the JSON output or record of the todo, the
        landing that the todo itself has made.
        """
        if output is None:
            return self._outcome_of(self._revert)
        return self._outcome_of(lambda: self._revert_own(parsed(output)))

    def _revert(self) -> AttemptOutcome:
        change, commit, before = self._job.change(), self._action.commit, self._action.before
        assert commit is not None
        assert before is not None
        if change is None or change.landed is None or change.landed.commit != commit:
            return self._done({"reverted": commit}, "it is open again already")
        self._job.verify_landed(change.landed.model_copy(update={"tree_before": before}))
        with self._reached() as at:
            return self._take_out(at, change, LandedCommit(commit, before))

    def _revert_own(self, known: Mapping[str, Any]) -> AttemptOutcome:
        change = self._job.change()
        self._begin_undo(known)
        if known.get("method") == BY_PEOPLE or not self._may_have_landed(known, change):
            return self._done({}, "it has landed nothing itself: there is nothing to revert")
        with self._reached() as at:
            if (landed := self._own_landing(at, known, change)) is None:
                return self._done({}, f"{at.branch} has no landing of this todo: there is nothing to revert")
            return self._take_out(at, change, landed)

    def _begin_undo(self, landing: Mapping[str, Any]) -> None:
        """Begin an undo with the record of the landing; its own trouble is timed separately."""
        before = {name: value for name, value in landing.items() if name != TROUBLE}
        own = self._checkpoint.get(TROUBLE) if self._checkpoint.get(UNDOES) else None
        self._checkpoint = {**before, UNDOES: True, **({TROUBLE: own} if own else {})}

    def _may_have_landed(self, known: Mapping[str, Any], change: RepoChange | None) -> bool:
        """Return whether the record of the todo names a landing."""
        return bool(commit_in(known, "commit") and commit_in(known, "tree_before"))

    def _own_landing(
        self, at: BaseBranch, known: Mapping[str, Any], change: RepoChange | None
    ) -> LandedCommit | None:
        """Return the landing of the record if it is in the base branch."""
        commit, base = commit_in(known, "commit"), self._base_tip(at).commit
        if not contains(at, base, commit) or not lands(at, commit, self._action.tip or ""):
            return None
        landed = self._recorded(known)
        return LandedCommit(landed.commit, landed.tree_before) if landed else None

    def _take_out(self, at: BaseBranch, change: RepoChange | None, landed: LandedCommit) -> AttemptOutcome:
        commit = landed.commit
        for _ in range(LOOKS):
            base = self._base_tip(at)
            made = self._reverting(at, base.commit, landed)
            if isinstance(made, Prepared) and not self._pushed(at, made):
                continue
            revert = made.commit if isinstance(made, Prepared) else made
            base = self._base_tip(at)
            self._open_again(at, change, landed, base.commit, revert)
            return self._done({"reverted": commit, "by": revert}, f"{commit[:12]} is out of {at.branch}")
        raise self._keeps_moving(at)

    def _reverting(self, at: BaseBranch, base: str, landed: LandedCommit) -> Prepared | str:
        """Return the commit that reverts the landing on top of the base, or the one in the base that already
        has. Raises AttemptEnd.
        """
        commit, before = landed
        if not had_tree(at, base, commit, before):
            what = f"{at.branch} of {at.repo} never had the tree {before[:12]}, which the revert restores"
            raise refusal(what, f"take {commit[:12]} out by hand: git revert")
        if revert := revert_of(at, commit, base):
            return revert
        message = f"{self._action.title}\n\nCoord-Plan: {self._name}\n{REVERTS}: {commit}\n"
        made = revert_commit(at, base=base, landed=commit, before=before, message=message)
        if isinstance(made, Refused):
            raise self._end_after(made)
        return made.base if isinstance(made, NoChange) else made  # people took it out

    def _open_again(
        self, at: BaseBranch, change: RepoChange | None, landed: LandedCommit, base: str, revert: str
    ) -> None:
        """Open the change set again, at a tip that has the reverted work on top of the base branch."""
        tip = change.tip if change else self._action.tip
        if change is None or tip is None:
            return
        trailers = [("Plan", self._name), ("Run", self._job.run_id)]
        trailers += [("Todo", todo) for todo in change.todos]
        lines = "".join(f"Coord-{name}: {value}\n" for name, value in trailers)
        message = f"Restore {self._name} after its revert\n\n{lines}"
        made = reopen(at, tip=tip, base=base, landed=landed.commit, before=landed.before, message=message)
        if isinstance(made, Refused):
            raise self._end_after(made)
        covered = landed.commit == tip or contains(at, base, landed.commit)
        signs = covered and self._is_signed(tip, change)
        self._job.note_reverted(made.commit, base, signs, self._reverted(landed.commit, revert))

    def _reverted(self, commit: str, revert: str) -> Reverted:
        via, run = str(self._via), self._job.run_id
        return Reverted(commit=commit, by=revert, via=via, at=self._now(), run=run)

    def _is_signed(self, tip: str, change: RepoChange) -> bool:
        """Return whether the work of the change set is signed, where that is required: else a worker would
        sign what others have made.
        """
        try:
            self._job.verify(tip, change.signed)
        except NotAllowed as refused:
            self._job.log(f"the change set is open again, and not signed: {refused.message}")
            return False
        return True
