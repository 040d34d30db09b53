"""Base of the attempts of a landing: the base branch, records, waits and ends."""

from __future__ import annotations

import json
from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from coordination.git import is_commit
from coordination.models import LandAction, RevertAction, Via
from coordination.runs.change_sets.records import Landed, RepoChange
from coordination.runs.records import WaitReason
from workers.landing.commits import commit_in, merge_base
from workers.landing.job import LandJob
from workers.landing.local import look_local, push_local
from workers.landing.records import BaseBranch, BaseTip, Prepared, Pushed, Reason, Refused
from workers.landing.remote import look, may_push, push, refused_large_files
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import GitInterrupted

LOOKS = 5
"""Maximum number of tries of one attempt; then it waits, as the base branch or the request keeps moving."""
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


class Attempt(ABC):
    """One attempt of a todo of a landing run, in one repository."""

    _action: LandAction | RevertAction

    def __init__(self, job: LandJob, action: LandAction | RevertAction) -> None:
        self._job = job
        self._action = action
        self._name = action.change_set
        self._via = action.via
        self._checkpoint = parsed(job.checkpoint)

    def _outcome_of(self, attempt: Callable[[], AttemptOutcome]) -> AttemptOutcome:
        """Return the outcome of an attempt, which returns it or raises AttemptEnd."""
        try:
            return attempt()
        except AttemptEnd as end:
            if end.outcome.kind is not OutcomeKind.DEFERRED:  # a wait is logged once, with its step
                self._job.log(end.log_text)
            return end.outcome

    # The base branch, at the remote or in the checkout

    def _reached(self) -> AbstractContextManager[BaseBranch]:
        """Yield the base branch, with the access that this way of landing needs to change it."""
        return self._base()

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

    def _refused_push(self, at: BaseBranch, made: Prepared) -> Refused | None:
        """Return the reason why a push would be refused, as far as it shows before; None if it shows none."""
        if self._via is not Via.PUSH:
            return None
        return may_push(at, made.base) or refused_large_files(at, made.commit, made.base)

    def _pushed(self, at: BaseBranch, made: Prepared) -> bool:
        """Push a commit; return whether it is on the base branch. False: the base has moved."""
        self._end_if_stopped("it was stopped before the push")
        if self._via is Via.LOCAL:
            found = push_local(at, made.commit, made.base, self._job.scripts)
        else:
            found = push(at, made.commit, made.base)
        if isinstance(found, Pushed):
            if found.note:
                self._job.log(found.note)
            return True
        if found.reason is Reason.MOVED:
            self._job.log(f"{at.branch} has moved: {found.error}")
            return False
        raise self._end_after(found)

    def _keeps_moving(self, at: BaseBranch) -> AttemptEnd:
        return self._passing_trouble(f"{at.branch} of {at.repo} keeps moving", Reason.MOVED)

    def _since(self, at: BaseBranch, change: RepoChange, base: str) -> str:
        """Return the commit at which the change set began, as it was signed, where that is required. Raises
        NotAllowed.
        """
        signed = self._job.verify(change.tip, change.signed)
        known = change.base if signed is None else signed
        since = known if is_commit(known) else merge_base(at, base, change.tip)
        if not since:
            raise refusal(f"{change.tip[:12]} and {at.branch} of {at.repo} have no common history")
        return since

    # Records

    def _landing(self, tip: str, commit: str, before: str, method: str) -> Landed:
        """Return the signed record of the landing of a tip."""
        landed = Landed(
            commit=commit,
            tree_before=before,
            method=method,
            via=str(self._via),
            at=self._now(),
            run=self._job.run_id,
            wave=self._action.wave if isinstance(self._action, LandAction) else None,
        )
        return self._job.seal_landing(tip, landed)

    def _recorded(self, known: Mapping[str, Any]) -> Landed | None:
        """Return the landing in a record of the todo; None without one. Raises NotAllowed for one that no
        worker has signed.
        """
        facts = {name: known[name] for name in Landed.model_fields if name in known}
        try:
            landed = Landed.model_validate(facts)
        except ValidationError:
            return None
        self._job.verify_landed(landed)
        return landed

    def _now(self) -> str:
        """Return the time of a record: UTC, ISO 8601."""
        return self._job.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _add_to_checkpoint(self, facts: dict[str, Any]) -> None:
        self._save_checkpoint({**self._checkpoint, **facts})

    def _save_checkpoint(self, known: dict[str, Any]) -> None:
        self._checkpoint = known
        self._job.record(json.dumps(known))

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
        patience = self._action.patience
        if since is None or since > now:  # a damaged record, or a clock that was set back
            self._add_to_checkpoint({TROUBLE: now.isoformat()})
        elif now - since > patience:
            return refusal(f"{error} (for more than {patience.total_seconds():g} s: land_patience)")
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


def refusal(error: str, hint: str = "") -> AttemptEnd:
    """Return a final refusal, which another attempt would not change."""
    why = f"{error}\n{hint}" if hint else error
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
