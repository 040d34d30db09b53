"""Take a landed change set out of a base branch, and open it again: the protocol of all ways.

A revert is one commit, whatever the method of the landing. It names the commit that it reverts (trailer
Coord-Reverts), so that a later attempt recognises it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from coordination.errors import NotAllowed
from coordination.models import RevertAction, RevertStep
from coordination.runs.change_sets.records import BY_PEOPLE, Landed, RepoChange, Reverted
from workers.landing.attempt import LOOKS, TROUBLE, Attempt, AttemptEnd, Way, parsed, refusal
from workers.landing.commits import REVERTS, reopen, revert_commit
from workers.landing.history import had_tree, revert_of
from workers.landing.records import BaseBranch, NoChange, Prepared, Refused
from workers.landing.remote import contains
from workers.landing.todo import LandTodo
from workers.outcome import AttemptOutcome

UNDOES = "undoes"
"""Key of the checkpoint: set if an undo has written it."""


class RevertWay(Way, Protocol):
    """The steps of a revert in which the ways differ. They raise AttemptEnd where the attempt ends."""

    def may_have_landed(self, known: Mapping[str, Any], change: RepoChange | None) -> bool:
        """Return whether the record of the todo names a landing."""

    def own_landing(
        self, at: BaseBranch, known: Mapping[str, Any], change: RepoChange | None
    ) -> Landed | None:
        """Return the landing of the record if it is in the base branch."""

    def propose(self, at: BaseBranch, made: Prepared, landed: Landed) -> str:
        """Open the pull request of the revert; return its page, empty for a way without requests."""

    def bring(self, at: BaseBranch, made: Prepared, landed: Landed) -> bool:
        """Bring the revert into the base branch. False: look again."""

    def finish(self, landed: Landed) -> None:
        """Clean up after the revert."""


class Revert(Attempt):
    """One attempt to revert."""

    def __init__(self, todo: LandTodo, action: RevertAction, way: Callable[[Revert], RevertWay]) -> None:
        super().__init__(todo, action)
        self.action = action
        self.request = ""
        """The page of the pull request that this attempt has opened or found; empty without one."""
        self.way: RevertWay = way(self)

    def outcome(self, output: str | None) -> AttemptOutcome:
        """Revert the landing that the action names; with `output`, the JSON output or record of the todo, the
        landing that the todo itself has made.
        """
        if output is None:
            return self.outcome_of(self._revert)
        return self.outcome_of(lambda: self._revert_own(parsed(output)))

    @property
    def undoes(self) -> bool:
        """Return whether it is the compensation of a todo that has landed."""
        return UNDOES in self.checkpoint

    def _revert(self) -> AttemptOutcome:
        change, commit, before = self.todo.change(), self.action.commit, self.action.before
        assert commit is not None
        assert before is not None
        if change is None or change.landed is None or change.landed.commit != commit:
            return self.done({"reverted": commit}, "it is open again already")
        landed = change.landed.model_copy(update={"tree_before": before})
        self.todo.verify_landed(landed)
        with self.way.opened() as at:
            if self.action.step is RevertStep.OPEN:
                return self._propose(at, landed)
            return self._take_out(at, change, landed)

    def _revert_own(self, known: Mapping[str, Any]) -> AttemptOutcome:
        change = self.todo.change()
        self._begin_undo(known)
        if known.get("method") == BY_PEOPLE or not self.way.may_have_landed(known, change):
            return self.done({}, "it has landed nothing itself: there is nothing to revert")
        with self.way.opened() as at:
            if (landed := self.way.own_landing(at, known, change)) is None:
                return self.done({}, f"{at.branch} has no landing of this todo: there is nothing to revert")
            return self._take_out(at, change, landed)

    def _begin_undo(self, landing: Mapping[str, Any]) -> None:
        """Begin an undo with the record of the landing; its own trouble is timed separately."""
        before = {name: value for name, value in landing.items() if name != TROUBLE}
        own = self.checkpoint.get(TROUBLE) if self.checkpoint.get(UNDOES) else None
        self.checkpoint = {**before, UNDOES: True, **({TROUBLE: own} if own else {})}

    def _propose(self, at: BaseBranch, landed: Landed) -> AttemptOutcome:
        made = self._reverting(at, self.base_tip(at).commit, landed)
        if not isinstance(made, Prepared):
            return self.done({"by": made}, f"{landed.commit[:12]} is out of {at.branch}")
        page = self.way.propose(at, made, landed)
        return self.done({"request": page}, f"{page} is open")

    def _take_out(self, at: BaseBranch, change: RepoChange | None, landed: Landed) -> AttemptOutcome:
        commit = landed.commit
        for _ in range(LOOKS):
            base = self.base_tip(at)
            made = self._reverting(at, base.commit, landed)
            if isinstance(made, Prepared) and not self.way.bring(at, made, landed):
                continue
            revert = made.commit if isinstance(made, Prepared) else made
            base = self.base_tip(at)
            self._open_again(at, change, landed, base.commit, revert)
            done = self.done({"reverted": commit, "by": revert}, f"{commit[:12]} is out of {at.branch}")
            self.way.finish(landed)
            return done
        raise self.way.keeps_moving(at)

    def _reverting(self, at: BaseBranch, base: str, landed: Landed) -> Prepared | str:
        """Return the commit that reverts the landing on top of the base, or the one in the base that already
        has. Raises AttemptEnd.
        """
        commit, before = landed.commit, landed.tree_before
        if not had_tree(at, base, commit, before):
            what = f"{at.branch} of {at.repo} never had the tree {before[:12]}, which the revert restores"
            raise refusal(what, f"take {commit[:12]} out by hand: git revert")
        if revert := revert_of(at, commit, base):
            return revert
        message = f"{self.action.title}\n\nCoord-Plan: {self.name}\n{REVERTS}: {commit}\n"
        made = revert_commit(at, base=base, landed=commit, before=before, message=message)
        if isinstance(made, Refused):
            raise self.end_after(made)
        return made.base if isinstance(made, NoChange) else made  # people took it out

    def _open_again(
        self, at: BaseBranch, change: RepoChange | None, landed: Landed, base: str, revert: str
    ) -> None:
        """Open the change set again, at a tip that has the reverted work on top of the base branch."""
        tip, commit = change.tip if change else self.action.tip, landed.commit
        if change is None or tip is None:
            return
        trailers = [("Plan", self.name), ("Run", self.todo.run_id)]
        trailers += [("Todo", todo) for todo in change.todos]
        lines = "".join(f"Coord-{name}: {value}\n" for name, value in trailers)
        message = f"Restore {self.name} after its revert\n\n{lines}"
        made = reopen(at, tip=tip, base=base, landed=commit, before=landed.tree_before, message=message)
        if isinstance(made, Refused):
            raise self.end_after(made)
        covered = commit == tip or contains(at, base, commit)
        reverted = Reverted(
            commit=commit,
            by=revert,
            via=str(self.via),
            at=self.now(),
            run=self.todo.run_id,
            request=self.request or landed.revert,
        )
        self.todo.note_reverted(made.commit, base, covered and self._is_signed(tip, change), reverted)

    def _is_signed(self, tip: str, change: RepoChange) -> bool:
        """Return whether the work of the change set is signed, where that is required: else a worker would
        sign what others have made.
        """
        try:
            self.todo.verify(tip, change.signed)
        except NotAllowed as refused:
            self.todo.log(f"the change set is open again, and not signed: {refused.message}")
            return False
        return True

    def end_of_patience(self, error: str) -> AttemptEnd | None:
        if (end := super().end_of_patience(error)) is None:
            return None
        run = self.todo.run_id
        again = f"coord rollback {run}" if self.undoes else f"coord revert {self.name}"
        answered = f"; or answer for it: coord rollback {run} --accept TODO --reason WHY"
        return refusal(
            f"{self.name} is not taken out of {self.todo.repo.name}: {end.outcome.error}",
            f"mend the cause, then: {again}{answered if self.undoes else ''}",
        )
