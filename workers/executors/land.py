"""Land a change set in one repository, or take it out again: one attempt of a todo of a landing run.

An attempt keeps no state but the todo's checkpoint: it looks at the base branch, does the next thing, and
says how the todo goes on. So one that was killed anywhere is followed by one that goes on from what is true.
Our commits name the tip that they land (trailer Coord-Tip), or the commit that they revert (Coord-Reverts),
by which a later attempt knows them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from coordination.models import LandAction, LandStep, RevertAction, Via
from coordination.runs.change_sets import Landed, RepoChange
from coordination.runs.records import WaitReason
from workers.executors.land_checks import LandChecks
from workers.executors.land_job import LandJob
from workers.executors.landed_commits import (
    COMMIT,
    REVERTS,
    as_checked,
    commit_in,
    contains,
    landing_of,
    lands,
    merge_base,
    revert_of,
    tree_of,
)
from workers.landing.local import look_local, push_local
from workers.landing.prepare import landing_message, prepare, reopen, revert_commit
from workers.landing.records import (
    BaseBranch,
    BaseTip,
    Method,
    Nothing,
    Prepared,
    Pushed,
    Reason,
    Refused,
)
from workers.landing.remote import look, may_push, push
from workers.outcome import AttemptOutcome, OutcomeKind

LOOKS = 5
"""Pushes after which a base branch that keeps moving is waited for."""
OF_PERSONS = frozenset({Reason.DIRTY, Reason.OPERATION})
"""Trouble that a person has to end: a check before the landing refuses it, a landing waits."""
BY_PEOPLE = "people"
"""The method of a landing that coord found done."""


class _Ends(Exception):
    """The attempt ends with this outcome."""

    def __init__(self, outcome: AttemptOutcome) -> None:
        super().__init__(outcome.why)
        self.outcome = outcome


def land(job: LandJob, action: LandAction) -> AttemptOutcome:
    """Check whether the tip can land, or land it."""
    return _ended(job, lambda: _Attempt(job, action).land(action))


def revert(job: LandJob, action: RevertAction) -> AttemptOutcome:
    """Take a landed commit out of the base branch, and open the change set again."""
    return _ended(job, lambda: _Attempt(job, action).revert(action))


def revert_own(job: LandJob, action: RevertAction, output: str) -> AttemptOutcome:
    """Take out what the todo itself has landed. `output`: the JSON that it has handed over or recorded."""
    return _ended(job, lambda: _Attempt(job, action).revert_own(action, output))


def _ended(job: LandJob, attempt: Callable[[], AttemptOutcome]) -> AttemptOutcome:
    try:
        return attempt()
    except _Ends as end:
        job.say(end.outcome.why)
        return end.outcome


class _Attempt:
    def __init__(self, job: LandJob, action: LandAction | RevertAction) -> None:
        self._job = job
        self._name = action.change_set
        self._via = action.via
        self._patience = action.patience
        self._known = _parsed(job.checkpoint)

    def land(self, action: LandAction) -> AttemptOutcome:
        change = self._change(action.tip)
        with self._base() as at:
            self._verified(action.tip, change)
            if action.step is LandStep.CHECK:
                return self._check(at, action, change)
            checks = LandChecks(at.repo, action, self._job.checks, self._job.say)
            for _ in range(LOOKS):
                base = self._seen(at)
                if known := self._landed_before(at, base, action):
                    return self._landed(at, action, known, known.commit)
                made = self._prepared(at, action, change, base.commit)
                if isinstance(made, Nothing):
                    there = self._there_already(at, action, change, base.commit)
                    return self._landed(at, action, there, base.commit)
                made = as_checked(at, made, checks.commit)
                if (hindrance := checks.hindrance(made.commit, made.tree)) is not None:
                    raise _Ends(hindrance)
                landed = self._record(at, made, action)
                if self._pushed(at, made):
                    return self._landed(at, action, landed, made.commit)
            raise self._waits(f"{at.branch} of {at.repo} keeps moving", Reason.MOVED)

    def revert(self, action: RevertAction) -> AttemptOutcome:
        change = self._job.change()
        if change is None or change.landed is None or change.landed.commit != action.commit:
            return self._done({"reverted": action.commit}, "it is open again already")
        assert action.commit is not None
        assert action.before is not None
        with self._base() as at:
            return self._reverted(at, action, change, action.commit, action.before)

    def revert_own(self, action: RevertAction, output: str) -> AttemptOutcome:
        known, change = _parsed(output), self._job.change()
        commit, before = commit_in(known, "commit"), commit_in(known, "tree_before")
        if not commit or not before or known.get("method") == BY_PEOPLE:
            return self._done({}, "it has landed nothing itself: there is nothing to revert")
        with self._base() as at:
            base = self._seen(at)
            if not contains(at, base.commit, commit) or not lands(at, commit, action.tip or ""):
                return self._done({}, f"{commit[:12]} did not come into {at.branch}")
            return self._reverted(at, action, change, commit, before)

    # Steps

    def _change(self, tip: str) -> RepoChange:
        change = self._job.change()
        if change is None:
            raise _refuses("the change set is gone", f"see: coord changes {self._name}")
        if change.tip != tip:
            what = f"the change set is at {change.tip[:12]}, and {tip[:12]} was to land"
            raise _refuses(what, f"land it again: coord land {self._name}")
        return change

    def _verified(self, tip: str, change: RepoChange) -> None:
        self._job.verify(tip, change.signed)

    @contextmanager
    def _base(self) -> Iterator[BaseBranch]:
        repo = self._job.repo
        if self._via is Via.LOCAL:
            yield BaseBranch(repo=repo.name, path=self._job.checkout, branch=repo.branch)
            return
        with self._job.access() as variables:
            yield BaseBranch(
                repo=repo.name,
                path=self._job.checkout,
                branch=repo.branch,
                url=repo.url or "",
                variables=variables,
            )

    def _look(self, at: BaseBranch) -> BaseTip | Refused:
        if self._via is Via.LOCAL:
            return look_local(at, pending=commit_in(self._known, "commit"))
        return look(at)

    def _seen(self, at: BaseBranch) -> BaseTip:
        if (stopped := self._job.stopped()) is not None:
            raise _Ends(AttemptOutcome(kind=stopped, why="it was stopped"))
        found = self._look(at)
        if isinstance(found, Refused):
            raise self._refused(found)
        return found

    def _check(self, at: BaseBranch, action: LandAction, change: RepoChange) -> AttemptOutcome:
        found = self._look(at)
        if isinstance(found, Refused) and found.reason in OF_PERSONS:
            raise _refuses(found.words)
        if isinstance(found, Refused):
            raise self._refused(found)
        made = self._prepared(at, action, change, found.commit)
        words = f"it can land on {found.commit[:12]} of {at.branch}"
        if isinstance(made, Nothing):
            words = f"{at.branch} has all of it: there is nothing to land"
        elif self._via is Via.PUSH and (refused := may_push(at, found.commit)) is not None:
            raise self._refused(refused)
        done = self._done({"base": found.commit}, words)
        commit = made.base if isinstance(made, Nothing) else made.commit
        return self._stated(at, done, commit, found.commit) if action.stated else done

    def _prepared(
        self, at: BaseBranch, action: LandAction, change: RepoChange, base: str
    ) -> Prepared | Nothing:
        message = landing_message(
            action.title, plan=action.change_set, run=self._job.run_id, base=base, tip=action.tip
        )
        since = self._since(at, change, base)
        made = prepare(
            at, base=base, tip=action.tip, since=since, method=Method(action.method), message=message
        )
        if isinstance(made, Refused):
            raise self._refused(made)
        return made

    def _landed_before(self, at: BaseBranch, base: BaseTip, action: LandAction) -> Landed | None:
        """Return the landing that an attempt before this one has recorded, if its push arrived."""
        commit = commit_in(self._known, "commit")
        if not commit or not contains(at, base.commit, commit) or not lands(at, commit, action.tip):
            return None
        before = commit_in(self._known, "tree_before")
        return self._landing(commit, before, str(action.method)) if before else None

    def _record(self, at: BaseBranch, made: Prepared, action: LandAction) -> Landed:
        landed = self._landing(made.commit, tree_of(at, made.base), str(action.method))
        self._remember(landed.model_dump())
        return landed

    def _there_already(self, at: BaseBranch, action: LandAction, change: RepoChange, base: str) -> Landed:
        """Return the landing of a tip that the base branch has: by another attempt, or by people."""
        if own := landing_of(at, action.tip, self._job.run_id, base):
            return self._landing(own, tree_of(at, f"{own}^1"), str(action.method))
        self._job.say(f"{at.branch} has all of it already: somebody else brought it there")
        since = self._since(at, change, base)
        return self._landing(action.tip, tree_of(at, since), BY_PEOPLE)

    def _since(self, at: BaseBranch, change: RepoChange, base: str) -> str:
        """Return the commit at which the change set began."""
        since = change.base if COMMIT.fullmatch(change.base) else merge_base(at, base, change.tip)
        if not since:
            raise _refuses(f"{change.tip[:12]} and {at.branch} of {at.repo} have no common history")
        return since

    def _landing(self, commit: str, before: str, method: str) -> Landed:
        return Landed(
            commit=commit,
            tree_before=before,
            method=method,
            via=str(self._via),
            at=self._job.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            run=self._job.run_id,
        )

    def _pushed(self, at: BaseBranch, made: Prepared) -> bool:
        """Push a commit; return whether it is on the base branch. False: the base has moved."""
        if (stopped := self._job.stopped()) is not None:
            raise _Ends(AttemptOutcome(kind=stopped, why="it was stopped before the push"))
        local = self._via is Via.LOCAL
        found = push_local(at, made.commit, made.base) if local else push(at, made.commit, made.base)
        if isinstance(found, Pushed):
            return True
        if found.reason is Reason.MOVED:
            self._job.say(f"{at.branch} has moved: {found.words}")
            return False
        raise self._refused(found)

    def _landed(self, at: BaseBranch, action: LandAction, landed: Landed, stands: str) -> AttemptOutcome:
        """`stands`: the commit of the base branch that has the work."""
        self._job.note_landed(landed)
        what = "has landed" if landed.method != BY_PEOPLE else "is there"
        done = self._done(landed.model_dump(), f"{landed.commit[:12]} {what} by {self._via}")
        return self._stated(at, done, stands, stands) if action.stated else done

    def _stated(self, at: BaseBranch, done: AttemptOutcome, commit: str, since: str) -> AttemptOutcome:
        """Return the outcome with the commit at which checks find the repository, and its tree."""
        self._job.checks.keep(commit)
        output = {**_parsed(done.output), "repo": at.repo, "tree": tree_of(at, commit)}
        return replace(done, output=json.dumps(output), tip=commit, since=since)

    def _reverted(
        self, at: BaseBranch, action: RevertAction, change: RepoChange | None, commit: str, before: str
    ) -> AttemptOutcome:
        for _ in range(LOOKS):
            base = self._seen(at)
            revert = revert_of(at, commit, base.commit)
            if not revert:
                message = f"{action.title}\n\nCoord-Plan: {action.change_set}\n{REVERTS}: {commit}\n"
                made = revert_commit(at, base=base.commit, landed=commit, before=before, message=message)
                if isinstance(made, Refused):
                    raise self._refused(made)
                if isinstance(made, Nothing):  # people took it out
                    revert = made.base
                elif not self._pushed(at, made):
                    continue
                else:
                    revert = made.commit
                base = self._seen(at)
            self._open_again(at, action, change, (commit, before), base.commit)
            return self._done({"reverted": commit, "by": revert}, f"{commit[:12]} is out of {at.branch}")
        raise self._waits(f"{at.branch} of {at.repo} keeps moving", Reason.MOVED)

    def _open_again(
        self,
        at: BaseBranch,
        action: RevertAction,
        change: RepoChange | None,
        reverted: tuple[str, str],
        base: str,
    ) -> None:
        """`reverted`: the landed commit, and the tree before it."""
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
            raise self._refused(made)
        self._job.note_reverted(made.commit, base)

    # Ends

    def _done(self, output: dict[str, Any], words: str) -> AttemptOutcome:
        self._job.say(words)
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0, output=json.dumps(output))

    def _refused(self, refused: Refused) -> _Ends:
        return _refuses(refused.words) if refused.lasting else self._waits(refused.words, refused.reason)

    def _waits(self, words: str, reason: Reason) -> _Ends:
        """Wait for the end of passing trouble; fail when that has taken longer than the patience."""
        now = self._job.now()
        since = self._known.get("trouble_since")
        began = _moment(since) or now
        if now - began > self._patience:
            why = f"{words} (for more than {self._patience.total_seconds():g} s: land_patience)"
            return _refuses(why)
        if not since:
            self._remember({**self._known, "trouble_since": now.isoformat()})
        why = f"the base branch: {words} ({reason})"
        return _Ends(AttemptOutcome(kind=OutcomeKind.HINDERED, why=why, reason=WaitReason.BASE))

    def _remember(self, known: dict[str, Any]) -> None:
        self._known = known
        self._job.record(json.dumps(known))


FAILPOINTS = ((_Attempt, "_record", "land.record"), (_Attempt, "_pushed", "land.push"))
"""Methods at which tests make a worker fail: the commit is recorded; it is pushed."""


def _refuses(words: str, hint: str = "") -> _Ends:
    why = f"{words}; {hint}" if hint else words
    return _Ends(AttemptOutcome(kind=OutcomeKind.REFUSED, why=why))


def _parsed(text: str) -> dict[str, Any]:
    try:
        known = json.loads(text or "{}")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    except ValueError:
        return None
