"""Base of the attempts of a landing: the base branch, records, waits and ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from coordination.git import is_commit
from coordination.models import LandAction, RevertAction, Via
from coordination.runs.change_sets.records import Landed, RepoChange
from coordination.runs.records import WaitReason
from workers.landing.commits import commit_in, landing_message, merge_base, prepare, tree_of
from workers.landing.job import LandJob
from workers.landing.local import look_local
from workers.landing.records import BaseBranch, BaseTip, Method, NoChange, Prepared, Reason, Refused
from workers.landing.remote import look, refused_base
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import GitInterrupted

BY_PEOPLE = "people"
"""The method of a landing that coord found done."""


TROUBLE = "trouble_since"
"""Key of the checkpoint: the time at which trouble began."""
UNDOES = "undoes"
"""Key of the checkpoint: set if an undo has written it."""


class AttemptEnd(Exception):
    """The attempt ends with this outcome. `log_text` is written to the log of the todo."""

    def __init__(self, outcome: AttemptOutcome, log_text: str = "") -> None:
        super().__init__(outcome.error)
        self.outcome = outcome
        self.log_text = log_text or outcome.error


class LandAttempt:
    """One attempt of a todo of a landing run, in one repository."""

    def __init__(self, job: LandJob, action: LandAction | RevertAction) -> None:
        self._job = job
        self._name = action.change_set
        self._via = action.via
        self._patience = action.patience
        self._wave = action.wave if isinstance(action, LandAction) else None
        self._checkpoint = parsed(job.checkpoint)

    def _change(self, tip: str) -> RepoChange:
        change = self._job.change()
        if change is None:
            raise refusal("the change set is gone", f"see: coord changes {self._name}")
        if change.tip != tip:
            what = f"the change set is at {change.tip[:12]}, and {tip[:12]} was to land"
            raise refusal(what, f"land it again: coord land {self._name}")
        return change

    def _verified(self, tip: str, change: RepoChange) -> None:
        self._job.verify(tip, change.signed)

    @contextmanager
    def _base(self) -> Iterator[BaseBranch]:
        repo, is_remote = self._job.repo, self._via is not Via.LOCAL
        try:
            with self._job.access() if is_remote else nullcontext({}) as variables:
                yield BaseBranch(
                    repo=repo.name,
                    path=self._job.checkout,
                    branch=repo.branch,
                    url=(repo.url or "") if is_remote else "",
                    variables=variables,
                )
        except GitInterrupted as trouble:  # of this machine, such as a full disk
            raise self._passing_trouble(trouble.message, Reason.UNKNOWN) from trouble

    def _reached(self) -> AbstractContextManager[BaseBranch]:
        """Yield the base branch, with the access that this way of landing needs to change it."""
        return self._base()

    def _look(self, at: BaseBranch) -> BaseTip | Refused:
        if self._via is Via.LOCAL:
            return look_local(at, pending=commit_in(self._checkpoint, "commit"))
        return look(at)

    def _base_tip(self, at: BaseBranch) -> BaseTip:
        self._end_if_stopped("it was stopped")
        found = self._look(at)
        if isinstance(found, Refused):
            raise self._end_after(found)
        return found

    def _prepared(
        self, at: BaseBranch, action: LandAction, change: RepoChange, base: str
    ) -> Prepared | NoChange:
        message = landing_message(
            action.title, plan=action.change_set, run=self._job.run_id, base=base, tip=action.tip
        )
        since = self._since(at, change, base)
        made = prepare(
            at, base=base, tip=action.tip, since=since, method=Method(action.method), message=message
        )
        if isinstance(made, Refused):
            raise self._end_after(made)
        # A local branch may be behind the remote branch on which the work began.
        if isinstance(made, Prepared) and (self._via is Via.PUSH or not self._job.repo.url):
            self._refuse_removed(at, base, action.tip, since)
        return made

    def _refuse_removed(self, at: BaseBranch, base: str, tip: str, since: str) -> None:
        """Raise AttemptEnd if the work `since..tip` would bring commits to the base branch that people have
        removed from it, or that were never there.
        """
        if (refused := refused_base(at, base, tip, since)) is not None:
            raise refusal(refused.error, f"coord sweep {self._name} --fresh")

    def _since(self, at: BaseBranch, change: RepoChange, base: str) -> str:
        """Return the commit at which the change set began."""
        since = change.base if is_commit(change.base) else merge_base(at, base, change.tip)
        if not since:
            raise refusal(f"{change.tip[:12]} and {at.branch} of {at.repo} have no common history")
        return since

    def _landing(self, commit: str, before: str, method: str) -> Landed:
        return Landed(
            commit=commit,
            tree_before=before,
            method=method,
            via=str(self._via),
            at=self._job.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            run=self._job.run_id,
            wave=self._wave,
        )

    def _landed(self, at: BaseBranch, action: LandAction, landed: Landed, stands: str) -> AttemptOutcome:
        """Record the landing; return its outcome. `stands`: the commit of the base branch with the work."""
        self._job.note_landed(landed)
        what = "has landed" if landed.method != BY_PEOPLE else "is there"
        done = self._done(landed.model_dump(), f"{landed.commit[:12]} {what} by {self._via}")
        return self._stated(at, done, stands, stands) if action.stated else done

    def _stated(self, at: BaseBranch, done: AttemptOutcome, commit: str, since: str) -> AttemptOutcome:
        """Return the outcome with the commit at which checks find the repository, and its tree."""
        self._job.checks.keep(commit)
        output = {**parsed(done.output), "repo": at.repo, "tree": tree_of(at, commit)}
        return replace(done, output=json.dumps(output), tip=commit, began=since)

    # Ends

    def _end_if_stopped(self, error: str) -> None:
        if (stopped := self._job.stopped()) is not None:
            raise AttemptEnd(AttemptOutcome(kind=stopped, error=error))

    def _done(self, output: dict[str, Any], error: str) -> AttemptOutcome:
        self._job.log(error)
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0, output=json.dumps(output))

    def _end_after(self, refused: Refused) -> AttemptEnd:
        return (
            refusal(refused.error)
            if refused.lasting
            else self._passing_trouble(refused.error, refused.reason)
        )

    def _passing_trouble(self, error: str, reason: Reason) -> AttemptEnd:
        """Return the end after temporary trouble: a wait, or a failure if the patience is over."""
        why = f"the base branch: {error} ({reason})"
        return self._end_of_patience(error) or postponed(why, WaitReason.BASE)

    def _end_of_patience(self, error: str) -> AttemptEnd | None:
        """Return the failure if the trouble has lasted longer than the patience; else None."""
        now, since = self._job.now(), _moment(self._checkpoint.get(TROUBLE))
        if since is None or since > now:  # a damaged record, or a clock that was set back
            self._add_to_checkpoint({TROUBLE: now.isoformat()})
        elif now - since > self._patience:
            return refusal(f"{error} (for more than {self._patience.total_seconds():g} s: land_patience)")
        return None

    @property
    def _has_trouble(self) -> bool:
        return TROUBLE in self._checkpoint

    def _forget_trouble(self) -> None:
        """Remove the recorded trouble, so that the patience is counted from the next one."""
        if self._has_trouble:
            self._save_checkpoint(
                {name: value for name, value in self._checkpoint.items() if name != TROUBLE}
            )

    def _begin_undo(self, landing: dict[str, Any]) -> None:
        """Begin an undo with the record of the landing; its own trouble is timed separately."""
        before = {name: value for name, value in landing.items() if name != TROUBLE}
        own = self._checkpoint.get(TROUBLE) if self._checkpoint.get(UNDOES) else None
        self._checkpoint = {**before, UNDOES: True, **({TROUBLE: own} if own else {})}

    def _add_to_checkpoint(self, facts: dict[str, Any]) -> None:
        self._save_checkpoint({**self._checkpoint, **facts})

    def _save_checkpoint(self, known: dict[str, Any]) -> None:
        self._checkpoint = known
        self._job.record(json.dumps(known))


def refusal(error: str, hint: str = "") -> AttemptEnd:
    """Return a final refusal, which another attempt would not change."""
    why = f"{error}; {hint}" if hint else error
    log_text = f"{error}\nnext: {hint}" if hint else error
    return AttemptEnd(AttemptOutcome(kind=OutcomeKind.REFUSED, error=why), log_text)


def parsed(text: str) -> dict[str, Any]:
    """Return a JSON object; empty for anything else."""
    try:
        known = json.loads(text or "{}")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def postponed(why: str, reason: WaitReason, again: timedelta | None = None) -> AttemptEnd:
    """Return the end after which another attempt follows: after a time that doubles, or after `again`."""
    return AttemptEnd(AttemptOutcome(kind=OutcomeKind.DEFERRED, error=why, reason=reason, again=again))


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None
