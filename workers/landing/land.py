"""Land a change set in one repository: the protocol of all ways.

The checkpoint of the todo is the only state of an attempt. An attempt looks at the base branch, takes the
next step, and returns how the todo continues. After a kill at any point the next attempt therefore continues
from the true state. Commits of coord name the tip that they land (trailer Coord-Tip), so that a later attempt
recognises them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from coordination.models import LandAction, LandStep, Method, Via
from coordination.runs.change_sets.records import BY_PEOPLE, Landed, RepoChange
from coordination.text import quoted
from workers.landing.attempt import LOOKS, Attempt, AttemptEnd, Way, parsed, refusal
from workers.landing.checks import LandChecks
from workers.landing.commits import landing_message, prepare
from workers.landing.history import as_checked, has_landed, landing_of, taken_out, tree_of
from workers.landing.records import BaseBranch, HasLanded, NoChange, Prepared, Reason, Refused
from workers.landing.remote import refused_base
from workers.landing.todo import LandTodo
from workers.outcome import AttemptOutcome
from workers.workspace.base_commit import work_taken_out


class LandWay(Way, Protocol):
    """The steps of a landing in which the ways differ. They raise AttemptEnd where the attempt ends."""

    def check(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        """Find out whether the change set can land; change nothing in the base branch."""

    def landed(self, at: BaseBranch, change: RepoChange) -> Landed | None:
        """Return the landing if an attempt of this todo, or people in this way, have made it."""

    def offered(self, at: BaseBranch, change: RepoChange) -> Prepared | NoChange:
        """Return the commit that would land. NoChange: nothing is left to land."""

    def bring(self, at: BaseBranch, change: RepoChange, made: Prepared) -> Landed | None:
        """Bring the offered commit into the base branch. None: look again."""


class Landing(Attempt):
    """One attempt to land."""

    def __init__(self, todo: LandTodo, action: LandAction, way: Callable[[Landing], LandWay]) -> None:
        super().__init__(todo, action)
        self.action = action
        self.way: LandWay = way(self)

    def outcome(self) -> AttemptOutcome:
        """Take the step of the todo; return its outcome."""
        return self.outcome_of(self._take_step)

    def _take_step(self) -> AttemptOutcome:
        change, step = self._change(), self.action.step
        with self.opened_base() if step is LandStep.LANDED else self.way.opened() as at:
            self.todo.verify(self.action.tip, change.signed)
            match step:
                case LandStep.CHECK:
                    return self.way.check(at, change)
                case LandStep.LAND:
                    return self._land(at, change)
                case LandStep.LANDED:
                    return self._still_there(at, change)

    def _change(self) -> RepoChange:
        change, tip = self.todo.change(), self.action.tip
        if change is None:
            raise self.gone()
        if change.tip != tip:
            what = f"the change set is at {change.tip[:12]}, and {tip[:12]} was to land"
            raise refusal(what, f"land it again: coord land {self.name}")
        return change

    def _land(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        checks = LandChecks(self.todo, self.action)
        for _ in range(LOOKS):
            if landed := self.way.landed(at, change):
                return self._landed(at, landed, landed.commit)
            made = self.way.offered(at, change)
            if isinstance(made, NoChange):
                return self._found_there(at, change, made.base)
            made = as_checked(at, made, checks.commit)
            if (obstacle := checks.obstacle(made.commit, made.tree)) is not None:
                raise AttemptEnd(obstacle)
            if landed := self.way.bring(at, change, made):
                return self._landed(at, landed, landed.commit)
        raise self.way.keeps_moving(at)

    def _found_there(self, at: BaseBranch, change: RepoChange, base: str) -> AttemptOutcome:
        """Record the landing of a tip that another attempt, or people, brought to the base branch."""
        tip = self.action.tip
        if own := landing_of(at, tip, self.todo.run_id, base):
            landed = self.sealed(tip, own, tree_of(at, f"{own}^1"), str(self.action.method))
        else:
            self.todo.log(f"{at.branch} has all of it already: somebody else brought it there")
            landed = self.sealed(tip, tip, tree_of(at, self.since(at, change, base)), BY_PEOPLE)
        return self._landed(at, landed, base)

    def _landed(self, at: BaseBranch, landed: Landed, commit: str) -> AttemptOutcome:
        """Record the landing; return its outcome. `commit`: the commit of the base branch with the work."""
        self.todo.note_landed(landed)
        what = "has landed" if landed.method != BY_PEOPLE else "is there"
        done = self.done(landed.model_dump(), f"{landed.commit[:12]} {what} by {self.via}")
        return self._stated(at, done, commit, commit) if self.action.stated else done

    def _still_there(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        """Check that the base branch has the tip; output the base commit for the checks after a wave."""
        base, tip = self.base_tip(at).commit, self.action.tip
        since = self.since(at, change, base)
        found = has_landed(at, base=base, tip=tip, since=since)
        is_out = found is HasLanded.NO and tree_of(at, tip) != tree_of(at, since)
        if is_out or not isinstance(self.prepared(at, change, base, Method.MERGE), NoChange):  # by content
            raise refusal(f"{at.branch} of {at.repo} has lost {tip[:12]}, which had landed")
        done = self.done({"base": base}, f"{at.branch} has all of it at {base[:12]}")
        return self._stated(at, done, base, base)

    # For the ways

    def can_land(
        self, at: BaseBranch, facts: dict[str, str], text: str, commit: str, base: str
    ) -> AttemptOutcome:
        """Return the outcome of a check that found no obstacle. `commit` is what quality checks read."""
        done = self.done({"base": base, **facts}, text)
        return self._stated(at, done, commit, base) if self.action.stated else done

    def nothing_to_land(self, at: BaseBranch, base: str) -> AttemptOutcome:
        return self.can_land(at, {}, f"{at.branch} has all of it: there is nothing to land", base, base)

    def prepared(self, at: BaseBranch, change: RepoChange, base: str, method: Method) -> Prepared | NoChange:
        """Return the commit that lands the change set on `base`. Raises AttemptEnd."""
        tip, since = self.action.tip, self.since(at, change, base)
        self.refuse_taken_out(at, change, base)
        message = self.message(base, method, change)
        made = prepare(at, base=base, tip=tip, since=since, method=method, message=message)
        if isinstance(made, Refused):
            raise self.end_after(made)
        # A local branch may be behind the remote branch on which the work began.
        if isinstance(made, Prepared) and (self.via is Via.PUSH or not self.todo.repo.url):
            self.refuse_removed(at, change, base, tip)
        return made

    def message(self, base: str, method: Method, change: RepoChange | None) -> str:
        action = self.action
        return landing_message(
            action.title,
            plan=self.name,
            run=self.todo.run_id,
            base=base,
            tip=action.tip,
            todos=change.todos if change and method is Method.SQUASH else (),
            override=f"{' '.join(action.overrides)} by {action.overridden_by}" if action.overrides else "",
        )

    def refuse_removed(self, at: BaseBranch, change: RepoChange, base: str, head: str) -> None:
        """Raise AttemptEnd if `head` would bring commits to the base branch that people have removed from it,
        or that were never there.
        """
        if (refused := refused_base(at, base, head, self.since(at, change, base))) is not None:
            raise refusal(refused.error, f"coord sweep {self.name} --fresh")

    def refuse_taken_out(self, at: BaseBranch, change: RepoChange, base: str) -> None:
        """Raise AttemptEnd if people have merged the change set and taken work of it out again."""
        if todos := taken_out(at, base=base, tip=self.action.tip, since=self.since(at, change, base)):
            raise refusal(*work_taken_out(self.name, at.repo, at.branch, todos))

    def end_after(self, refused: Refused) -> AttemptEnd:
        if refused.reason is Reason.CONFLICT:
            return refusal(refused.error, self.resolve_hint())
        return super().end_after(refused)

    def resolve_hint(self) -> str:
        return f"resolve it: coord plan resolve {quoted(self.name, self.todo.repo.name)}; then land it again"

    def gone(self) -> AttemptEnd:
        return refusal("the change set is gone", f"see: coord changes {self.name}")

    def _stated(self, at: BaseBranch, done: AttemptOutcome, commit: str, since: str) -> AttemptOutcome:
        """Return the outcome with the commit at which checks find the repository, and its tree."""
        self.todo.keep(commit)
        output = {**parsed(done.output), "repo": at.repo, "tree": tree_of(at, commit)}
        return replace(done, output=json.dumps(output), tip=commit, began=since)
