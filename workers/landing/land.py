"""Land a change set in one repository, or take it out again: one attempt of a todo of a landing run.

The checkpoint of the todo is the only state of an attempt. An attempt looks at the base branch, takes the
next step, and returns how the todo continues. After a kill at any point the next attempt therefore continues
from the true state. Commits of coord name the tip that they land (trailer Coord-Tip), or the commit that they
revert (Coord-Reverts), so that a later attempt recognises them.
"""

from __future__ import annotations

from collections.abc import Callable

from coordination.errors import NotAllowed
from coordination.models import LandAction, LandStep, Method, RevertAction, Via
from coordination.runs.change_sets.records import Landed, RepoChange
from workers.landing.attempt import BY_PEOPLE, TROUBLE, AttemptEnd, LandAttempt, parsed, refusal
from workers.landing.commits import (
    REVERTS,
    as_checked,
    commit_in,
    had_tree,
    has_landed,
    landing_of,
    lands,
    reopen,
    revert_commit,
    revert_of,
    tree_of,
)
from workers.landing.job import LandChecks, LandJob
from workers.landing.local import push_local
from workers.landing.records import (
    BaseBranch,
    BaseTip,
    HasLanded,
    NoChange,
    Prepared,
    Pushed,
    Reason,
    Refused,
)
from workers.landing.remote import contains, may_push, push, refused_large_files
from workers.outcome import AttemptOutcome, OutcomeKind

LOOKS = 5
"""Maximum number of pushes of one attempt; then it waits for a base branch that keeps moving."""

OF_PERSONS = frozenset({Reason.DIRTY, Reason.OPERATION})
"""Trouble that a person has to resolve. The check before a landing fails; the landing itself waits."""


def land(job: LandJob, action: LandAction) -> AttemptOutcome:
    """Check whether the tip can land, or land it."""
    return outcome_of(job, lambda: DirectAttempt(job, action).land(action))


def revert(job: LandJob, action: RevertAction) -> AttemptOutcome:
    """Take a landed commit out of the base branch, and open the change set again."""
    return outcome_of(job, lambda: DirectAttempt(job, action).revert(action))


def revert_own(job: LandJob, action: RevertAction, output: str) -> AttemptOutcome:
    """Take out the commit that the todo itself has landed. `output`: its JSON output or record."""
    return outcome_of(job, lambda: DirectAttempt(job, action).revert_own(action, output))


def outcome_of(job: LandJob, attempt: Callable[[], AttemptOutcome]) -> AttemptOutcome:
    """Return the outcome of an attempt, which returns it or raises AttemptEnd."""
    try:
        return attempt()
    except AttemptEnd as end:
        if end.outcome.kind is not OutcomeKind.DEFERRED:  # a wait is logged once, with its step
            job.log(end.log_text)
        return end.outcome


class DirectAttempt(LandAttempt):
    """An attempt that pushes to the base branch itself."""

    def land(self, action: LandAction) -> AttemptOutcome:
        change = self._change(action.tip)
        with self._reached() as at:
            self._verified(action.tip, change)
            if action.step is LandStep.CHECK:
                return self._check(at, action, change)
            if action.step is LandStep.LANDED:
                return self._still_there(at, action, change)
            checks = LandChecks(at.repo, action, self._job.checks, self._job.log)
            for _ in range(LOOKS):
                base = self._base_tip(at)
                if known := self._landed_before(at, base, action):
                    return self._landed(at, action, known, known.commit)
                made = self._prepared(at, action, change, base.commit)
                if isinstance(made, NoChange):
                    there = self._there_already(at, action, change, base.commit)
                    return self._landed(at, action, there, base.commit)
                if before := landing_of(at, action.tip, self._job.run_id, base.commit):
                    raise refusal(
                        f"this run has landed it as {before[:12]}, and it was taken out of {at.branch} since",
                        f"land it again: coord land {self._name}",
                    )
                made = as_checked(at, made, checks.commit)
                if (obstacle := checks.obstacle(made.commit, made.tree)) is not None:
                    raise AttemptEnd(obstacle)
                landed = self._record(at, made, action)
                if self._pushed(at, made):
                    return self._landed(at, action, landed, made.commit)
            raise self._passing_trouble(f"{at.branch} of {at.repo} keeps moving", Reason.MOVED)

    def revert(self, action: RevertAction) -> AttemptOutcome:
        change = self._job.change()
        if change is None or change.landed is None or change.landed.commit != action.commit:
            return self._done({"reverted": action.commit}, "it is open again already")
        assert action.commit is not None
        assert action.before is not None
        with self._reached() as at:
            return self._reverted(at, action, change, action.commit, action.before)

    def revert_own(self, action: RevertAction, output: str) -> AttemptOutcome:
        known, change = parsed(output), self._job.change()
        self._begin_undo(known)
        commit, before = commit_in(known, "commit"), commit_in(known, "tree_before")
        if not commit or not before or known.get("method") == BY_PEOPLE:
            return self._done({}, "it has landed nothing itself: there is nothing to revert")
        with self._reached() as at:
            base = self._base_tip(at)
            if not contains(at, base.commit, commit) or not lands(at, commit, action.tip or ""):
                return self._done({}, f"{commit[:12]} did not come into {at.branch}")
            return self._reverted(at, action, change, commit, before)

    # Steps

    def _check(self, at: BaseBranch, action: LandAction, change: RepoChange) -> AttemptOutcome:
        found = self._look(at)
        if isinstance(found, Refused) and found.reason in OF_PERSONS:
            raise refusal(found.error)
        if isinstance(found, Refused):
            raise self._end_after(found)
        made = self._prepared(at, action, change, found.commit)
        error = f"it can land on {found.commit[:12]} of {at.branch}"
        if isinstance(made, NoChange):
            error = f"{at.branch} has all of it: there is nothing to land"
        elif self._via is Via.PUSH:
            refused = may_push(at, found.commit) or refused_large_files(at, made.commit, found.commit)
            if refused is not None:
                raise self._end_after(refused)
        done = self._done({"base": found.commit}, error)
        commit = made.base if isinstance(made, NoChange) else made.commit
        return self._stated(at, done, commit, found.commit) if action.stated else done

    def _still_there(self, at: BaseBranch, action: LandAction, change: RepoChange) -> AttemptOutcome:
        """Check that the base branch has the tip; output the base commit for the checks after a wave."""
        base = self._base_tip(at)
        since = self._since(at, change, base.commit)
        found = has_landed(at, base=base.commit, tip=action.tip, since=since)
        is_out = found is HasLanded.NO and tree_of(at, action.tip) != tree_of(at, since)
        action = action.model_copy(update={"method": Method.MERGE})  # by content
        if is_out or not isinstance(self._prepared(at, action, change, base.commit), NoChange):
            raise refusal(f"{at.branch} of {at.repo} has lost {action.tip[:12]}, which had landed")
        done = self._done({"base": base.commit}, f"{at.branch} has all of it at {base.commit[:12]}")
        return self._stated(at, done, base.commit, base.commit)

    def _landed_before(self, at: BaseBranch, base: BaseTip, action: LandAction) -> Landed | None:
        """Return the landing that an attempt before this one has recorded, if its push arrived."""
        commit = commit_in(self._checkpoint, "commit")
        if not commit or not contains(at, base.commit, commit) or not lands(at, commit, action.tip):
            return None
        before = commit_in(self._checkpoint, "tree_before")
        return self._landing(commit, before, str(action.method)) if before else None

    def _record(self, at: BaseBranch, made: Prepared, action: LandAction) -> Landed:
        landed = self._landing(made.commit, tree_of(at, made.base), str(action.method))
        # Trouble stays recorded until a push succeeds: reading the base branch proves nothing about pushing.
        trouble = {name: since for name, since in self._checkpoint.items() if name == TROUBLE}
        self._save_checkpoint({**landed.model_dump(), **trouble})
        return landed

    def _there_already(self, at: BaseBranch, action: LandAction, change: RepoChange, base: str) -> Landed:
        """Return the landing of a tip that another attempt, or people, brought to the base branch."""
        if own := landing_of(at, action.tip, self._job.run_id, base):
            return self._landing(own, tree_of(at, f"{own}^1"), str(action.method))
        self._job.log(f"{at.branch} has all of it already: somebody else brought it there")
        since = self._since(at, change, base)
        return self._landing(action.tip, tree_of(at, since), BY_PEOPLE)

    def _pushed(self, at: BaseBranch, made: Prepared) -> bool:
        """Push a commit; return whether it is on the base branch. False: the base has moved."""
        self._end_if_stopped("it was stopped before the push")
        local = self._via is Via.LOCAL
        found = push_local(at, made.commit, made.base) if local else push(at, made.commit, made.base)
        if isinstance(found, Pushed):
            return True
        if found.reason is Reason.MOVED:
            self._job.log(f"{at.branch} has moved: {found.error}")
            return False
        raise self._end_after(found)

    def _reverted(
        self, at: BaseBranch, action: RevertAction, change: RepoChange | None, commit: str, before: str
    ) -> AttemptOutcome:
        for _ in range(LOOKS):
            base = self._base_tip(at)
            if not had_tree(at, base.commit, commit, before):
                what = f"{at.branch} of {at.repo} never had the tree {before[:12]}, which the revert restores"
                raise refusal(what, f"take {commit[:12]} out by hand: git revert")
            revert = revert_of(at, commit, base.commit)
            if not revert:
                message = f"{action.title}\n\nCoord-Plan: {action.change_set}\n{REVERTS}: {commit}\n"
                made = revert_commit(at, base=base.commit, landed=commit, before=before, message=message)
                if isinstance(made, Refused):
                    raise self._end_after(made)
                if isinstance(made, NoChange):  # people took it out
                    revert = made.base
                elif not self._pushed(at, made):
                    continue
                else:
                    revert = made.commit
                base = self._base_tip(at)
            self._open_again(at, action, change, (commit, before), base.commit)
            return self._done({"reverted": commit, "by": revert}, f"{commit[:12]} is out of {at.branch}")
        raise self._passing_trouble(f"{at.branch} of {at.repo} keeps moving", Reason.MOVED)

    def _open_again(
        self,
        at: BaseBranch,
        action: RevertAction,
        change: RepoChange | None,
        reverted: tuple[str, str],
        base: str,
    ) -> None:
        """Open the change set again. `reverted`: the landed commit, and the tree before it."""
        tip = change.tip if change else action.tip
        if change is None or tip is None:
            return
        trailers = [("Plan", action.change_set), ("Run", self._job.run_id)]
        trailers += [("Todo", todo) for todo in (change.todos if change else ())]
        lines = "".join(f"Coord-{name}: {value}\n" for name, value in trailers)
        message = f"Restore {action.change_set} after its revert\n\n{lines}"
        landed, before = reverted
        made = reopen(at, tip=tip, base=base, landed=landed, before=before, message=message)
        if isinstance(made, Refused):
            raise self._end_after(made)
        covered = landed == tip or contains(at, base, landed)
        self._job.note_reverted(made.commit, base, covered and self._is_signed(tip, change))

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
