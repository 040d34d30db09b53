"""Land a change set in one repository: the protocol of all ways, and the ways that push.

The checkpoint of the todo is the only state of an attempt. An attempt looks at the base branch, takes the
next step, and returns how the todo continues. After a kill at any point the next attempt therefore continues
from the true state. Commits of coord name the tip that they land (trailer Coord-Tip), so that a later attempt
recognises them.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import replace

from coordination.errors import NotAllowed
from coordination.models import LandAction, LandStep, Method, Via
from coordination.runs.change_sets.records import BY_PEOPLE, Landed, RepoChange
from coordination.text import quoted
from workers.landing.attempt import LOOKS, TROUBLE, Attempt, AttemptEnd, parsed, refusal
from workers.landing.commits import (
    as_checked,
    commit_in,
    has_landed,
    landing_message,
    landing_of,
    lands,
    prepare,
    taken_out,
    tree_of,
)
from workers.landing.job import LandChecks
from workers.landing.records import BaseBranch, BaseTip, HasLanded, NoChange, Prepared, Reason, Refused
from workers.landing.remote import contains, refused_base
from workers.outcome import AttemptOutcome
from workers.workspace.base_commit import work_taken_out

OF_PERSONS = frozenset({Reason.DIRTY, Reason.OPERATION})
"""Trouble that a person has to resolve. The check before a landing fails; the landing itself waits."""


class LandAttempt(Attempt):
    """One attempt to land. Each way defines how it checks and how it lands."""

    _action: LandAction

    def outcome(self) -> AttemptOutcome:
        """Take the step of the todo; return its outcome."""
        return self._outcome_of(self._take_step)

    def _take_step(self) -> AttemptOutcome:
        change, step = self._change(), self._action.step
        with self._base() if step is LandStep.LANDED else self._reached() as at:
            self._job.verify(self._action.tip, change.signed)
            match step:
                case LandStep.CHECK:
                    return self._check(at, change)
                case LandStep.LAND:
                    return self._land(at, change)
                case LandStep.LANDED:
                    return self._still_there(at, change)

    def _end_after(self, refused: Refused) -> AttemptEnd:
        if refused.reason is Reason.CONFLICT:
            return refusal(refused.error, self._resolve_hint())
        return super()._end_after(refused)

    def _resolve_hint(self) -> str:
        return f"resolve it: coord plan resolve {quoted(self._name, self._job.repo.name)}; then land it again"

    @abstractmethod
    def _check(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        """Find out whether the change set can land."""

    @abstractmethod
    def _land(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        """Land the change set, if it has not landed yet."""

    def _still_there(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        """Check that the base branch has the tip; output the base commit for the checks after a wave."""
        base, tip = self._base_tip(at).commit, self._action.tip
        since = self._since(at, change, base)
        found = has_landed(at, base=base, tip=tip, since=since)
        is_out = found is HasLanded.NO and tree_of(at, tip) != tree_of(at, since)
        if is_out or not isinstance(self._prepared(at, change, base, Method.MERGE), NoChange):  # by content
            raise refusal(f"{at.branch} of {at.repo} has lost {tip[:12]}, which had landed")
        done = self._done({"base": base}, f"{at.branch} has all of it at {base[:12]}")
        return self._stated(at, done, base, base)

    def _change(self) -> RepoChange:
        change, tip = self._job.change(), self._action.tip
        if change is None:
            raise self._gone()
        if change.tip != tip:
            what = f"the change set is at {change.tip[:12]}, and {tip[:12]} was to land"
            raise refusal(what, f"land it again: coord land {self._name}")
        return change

    def _gone(self) -> AttemptEnd:
        return refusal("the change set is gone", f"see: coord changes {self._name}")

    def _message(self, base: str, method: Method, change: RepoChange | None) -> str:
        action = self._action
        return landing_message(
            action.title,
            plan=self._name,
            run=self._job.run_id,
            base=base,
            tip=action.tip,
            todos=change.todos if change and method is Method.SQUASH else (),
            override=f"{' '.join(action.overrides)} by {action.overridden_by}" if action.overrides else "",
        )

    def _prepared(self, at: BaseBranch, change: RepoChange, base: str, method: Method) -> Prepared | NoChange:
        tip, since = self._action.tip, self._since(at, change, base)
        self._refuse_taken_out(at, change, base)
        message = self._message(base, method, change)
        made = prepare(at, base=base, tip=tip, since=since, method=method, message=message)
        if isinstance(made, Refused):
            raise self._end_after(made)
        # A local branch may be behind the remote branch on which the work began.
        if isinstance(made, Prepared) and (self._via is Via.PUSH or not self._job.repo.url):
            self._refuse_removed(at, base, tip, since)
        return made

    def _refuse_removed(self, at: BaseBranch, base: str, tip: str, since: str) -> None:
        """Raise AttemptEnd if the work `since..tip` would bring commits to the base branch that people have
        removed from it, or that were never there.
        """
        if (refused := refused_base(at, base, tip, since)) is not None:
            raise refusal(refused.error, f"coord sweep {self._name} --fresh")

    def _can_land(
        self, at: BaseBranch, facts: dict[str, str], text: str, commit: str, base: str
    ) -> AttemptOutcome:
        """Return the outcome of a check that found no obstacle. `commit` is what quality checks read."""
        done = self._done({"base": base, **facts}, text)
        return self._stated(at, done, commit, base) if self._action.stated else done

    def _nothing_to_land(self, at: BaseBranch, base: str) -> AttemptOutcome:
        return self._can_land(at, {}, f"{at.branch} has all of it: there is nothing to land", base, base)

    def _found_there(self, at: BaseBranch, change: RepoChange, base: str) -> AttemptOutcome:
        """Record the landing of a tip that another attempt, or people, brought to the base branch."""
        tip = self._action.tip
        if own := landing_of(at, tip, self._job.run_id, base):
            landed = self._landing(tip, own, tree_of(at, f"{own}^1"), str(self._action.method))
        else:
            self._job.log(f"{at.branch} has all of it already: somebody else brought it there")
            landed = self._landing(tip, tip, tree_of(at, self._since(at, change, base)), BY_PEOPLE)
        return self._landed(at, landed, base)

    def _refuse_taken_out(self, at: BaseBranch, change: RepoChange, base: str) -> None:
        """Raise AttemptEnd if people have merged the change set and taken work of it out again."""
        since, tip = self._since(at, change, base), self._action.tip
        if todos := taken_out(at, base=base, tip=tip, since=since):
            raise refusal(*work_taken_out(self._name, at.repo, at.branch, todos))

    def _landed(self, at: BaseBranch, landed: Landed, commit: str) -> AttemptOutcome:
        """Record the landing; return its outcome. `commit`: the commit of the base branch with the work."""
        self._job.note_landed(landed)
        what = "has landed" if landed.method != BY_PEOPLE else "is there"
        done = self._done(landed.model_dump(), f"{landed.commit[:12]} {what} by {self._via}")
        return self._stated(at, done, commit, commit) if self._action.stated else done

    def _stated(self, at: BaseBranch, done: AttemptOutcome, commit: str, since: str) -> AttemptOutcome:
        """Return the outcome with the commit at which checks find the repository, and its tree."""
        self._job.checks.keep(commit)
        output = {**parsed(done.output), "repo": at.repo, "tree": tree_of(at, commit)}
        return replace(done, output=json.dumps(output), tip=commit, began=since)

    def _checked(self, at: BaseBranch, made: Prepared, checks: LandChecks) -> Prepared:
        """Return the commit to land, after its checks are green: the checked one if it has the same content.
        Raises AttemptEnd.
        """
        made = as_checked(at, made, checks.commit)
        if (obstacle := checks.obstacle(made.commit, made.tree)) is not None:
            raise AttemptEnd(obstacle)
        return made

    def _quality_checks(self, at: BaseBranch) -> LandChecks:
        return LandChecks(at.repo, self._action, self._job.checks, self._job.log)


class DirectLanding(LandAttempt):
    """Land by a push to the base branch, at the remote or in the checkout of this machine."""

    def _check(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        found = self._look(at)
        if isinstance(found, Refused):
            raise refusal(found.error) if found.reason in OF_PERSONS else self._end_after(found)
        base = found.commit
        made = self._prepared(at, change, base, self._action.method)
        if isinstance(made, NoChange):
            return self._nothing_to_land(at, base)
        if (refused := self._refused_push(at, made)) is not None:
            raise self._end_after(refused)
        return self._can_land(at, {}, f"it can land on {base[:12]} of {at.branch}", made.commit, base)

    def _land(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        tip, checks = self._action.tip, self._quality_checks(at)
        for _ in range(LOOKS):
            base = self._base_tip(at)
            if known := self._landed_before(at, base):
                return self._landed(at, known, known.commit)
            made = self._prepared(at, change, base.commit, self._action.method)
            if isinstance(made, NoChange):
                return self._found_there(at, change, base.commit)
            if before := landing_of(at, tip, self._job.run_id, base.commit):
                raise refusal(
                    f"this run has landed it as {before[:12]}, and it was taken out of {at.branch} since",
                    f"land it again: coord land {self._name}",
                )
            made = self._checked(at, made, checks)
            landed = self._record(at, made)
            if self._pushed(at, made):
                return self._landed(at, landed, made.commit)
        raise self._keeps_moving(at)

    def _landed_before(self, at: BaseBranch, base: BaseTip) -> Landed | None:
        """Return the landing that an attempt before this one has recorded, if its push arrived."""
        commit = commit_in(self._checkpoint, "commit")
        if not commit or not contains(at, base.commit, commit) or not lands(at, commit, self._action.tip):
            return None
        try:
            return self._recorded(self._checkpoint)
        except NotAllowed as error:
            self._job.log(f"the record of an earlier attempt does not count: {error.message}")
            return None

    def _record(self, at: BaseBranch, made: Prepared) -> Landed:
        tip, before = self._action.tip, tree_of(at, made.base)
        landed = self._landing(tip, made.commit, before, str(self._action.method))
        # Trouble stays recorded until a push succeeds: reading the base branch proves nothing about pushing.
        trouble = {name: since for name, since in self._checkpoint.items() if name == TROUBLE}
        self._save_checkpoint({**landed.model_dump(), **trouble})
        return landed
