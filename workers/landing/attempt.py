"""One attempt of a todo of a landing run: the base branch, records, waits and ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from coordination.git import is_commit
from coordination.models import LandAction, RevertAction, Via
from coordination.runs.change_sets.records import Landed, RepoChange
from coordination.runs.records import WaitReason
from workers.landing.history import merge_base
from workers.landing.local import LocalBase
from workers.landing.records import BaseBranch, BaseTip, Prepared, Pushed, Reason, Refused, commit_in
from workers.landing.remote import RemoteBase
from workers.landing.todo import LandTodo
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import GitInterrupted

LOOKS = 5
"""Maximum number of tries of one attempt; then it waits, as the base branch or the request keeps moving."""
TROUBLE = "trouble_since"
"""Key of the checkpoint: the time at which trouble began."""


class Base(Protocol):
    """The place of the base branch: the remote, or the checkout of this machine."""

    def opened(self) -> AbstractContextManager[BaseBranch]:
        """Yield the base branch, with access to it."""

    def look(self, at: BaseBranch, pending: str = "") -> BaseTip | Refused:
        """Return its tip. `pending`: the commit of a landing that may have been cut off."""

    def refused(self, at: BaseBranch, made: Prepared) -> Refused | None:
        """Return why a push would be refused, as far as that shows before; None if nothing does."""

    def push(self, at: BaseBranch, made: Prepared) -> Pushed | Refused:
        """Push a commit, never forced."""


class Way(Protocol):
    """The steps that landing and reverting share, and in which the ways differ."""

    def opened(self) -> AbstractContextManager[BaseBranch]:
        """Yield the base branch, with all that a change of it needs."""

    def waits_for(self, reason: Reason) -> bool:
        """Return whether a lasting refusal by git is waited for, as a person can end it in time."""

    def keeps_moving(self, at: BaseBranch) -> AttemptEnd:
        """Return the end of an attempt after too many tries."""


class AttemptEnd(Exception):
    """The attempt ends with this outcome. `log_text` is written to the log of the todo."""

    def __init__(self, outcome: AttemptOutcome, log_text: str = "") -> None:
        super().__init__(outcome.error)
        self.outcome = outcome
        self.log_text = log_text or outcome.error


class Attempt:
    """One attempt of a todo of a landing run, in one repository."""

    way: Way

    def __init__(self, todo: LandTodo, action: LandAction | RevertAction) -> None:
        self.todo = todo
        self.name = action.change_set
        self.via = action.via
        self.checkpoint = parsed(todo.checkpoint)
        self._patience = action.patience
        self._wave = action.wave if isinstance(action, LandAction) else None
        self.base: Base = (
            LocalBase(todo.repo, todo.checkout, todo.scripts)
            if self.via is Via.LOCAL
            else RemoteBase(todo.repo, todo.checkout, todo.access)
        )

    def outcome_of(self, attempt: Callable[[], AttemptOutcome]) -> AttemptOutcome:
        """Return the outcome of an attempt, which returns it or raises AttemptEnd."""
        try:
            return attempt()
        except AttemptEnd as end:
            if end.outcome.kind is not OutcomeKind.DEFERRED:  # a wait is logged once, with its step
                self.todo.log(end.log_text)
            return end.outcome

    # The base branch

    @contextmanager
    def opened_base(self) -> Iterator[BaseBranch]:
        try:
            with self.base.opened() as at:
                yield at
        except GitInterrupted as trouble:  # of this machine, such as a full disk
            raise self.passing_trouble(trouble.message, Reason.UNKNOWN) from trouble

    def look(self, at: BaseBranch) -> BaseTip | Refused:
        return self.base.look(at, pending=commit_in(self.checkpoint, "commit"))

    def base_tip(self, at: BaseBranch) -> BaseTip:
        self.end_if_stopped("it was stopped")
        found = self.look(at)
        if isinstance(found, Refused):
            raise self.end_after(found)
        return found

    def pushed(self, at: BaseBranch, made: Prepared) -> bool:
        """Push a commit; return whether it is on the base branch. False: the base has moved."""
        self.end_if_stopped("it was stopped before the push")
        found = self.base.push(at, made)
        if isinstance(found, Pushed):
            if found.note:
                self.todo.log(found.note)
            return True
        if found.reason is Reason.MOVED:
            self.todo.log(f"{at.branch} has moved: {found.error}")
            return False
        raise self.end_after(found)

    def since(self, at: BaseBranch, change: RepoChange, base: str) -> str:
        """Return the commit at which the change set began, as it was signed, where that is required. Raises
        NotAllowed.
        """
        signed = self.todo.verify(change.tip, change.signed)
        known = change.base if signed is None else signed
        since = known if is_commit(known) else merge_base(at, base, change.tip)
        if not since:
            raise refusal(f"{change.tip[:12]} and {at.branch} of {at.repo} have no common history")
        return since

    # Records

    def sealed(self, tip: str, commit: str, before: str, method: str) -> Landed:
        """Return the signed record of the landing of a tip."""
        landed = Landed(
            commit=commit,
            tree_before=before,
            method=method,
            via=str(self.via),
            at=self.now(),
            run=self.todo.run_id,
            wave=self._wave,
        )
        return self.todo.seal_landing(tip, landed)

    def recorded(self, known: Mapping[str, Any]) -> Landed | None:
        """Return the landing in a record of the todo; None without one. Raises NotAllowed for one that no
        worker has signed.
        """
        facts = {name: known[name] for name in Landed.model_fields if name in known}
        try:
            landed = Landed.model_validate(facts)
        except ValidationError:
            return None
        self.todo.verify_landed(landed)
        return landed

    def now(self) -> str:
        """Return the time of a record: UTC, ISO 8601."""
        return self.todo.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def add_to_checkpoint(self, facts: dict[str, Any]) -> None:
        self.save_checkpoint({**self.checkpoint, **facts})

    def save_checkpoint(self, known: dict[str, Any]) -> None:
        self.checkpoint = known
        self.todo.record(json.dumps(known))

    # Ends

    def end_if_stopped(self, error: str) -> None:
        if (stopped := self.todo.stopped()) is not None:
            raise AttemptEnd(AttemptOutcome(kind=stopped, error=error))

    def done(self, output: dict[str, Any], error: str) -> AttemptOutcome:
        self.todo.log(error)
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0, output=json.dumps(output))

    def end_after(self, refused: Refused) -> AttemptEnd:
        """Return the end after a refusal by git or the remote."""
        if refused.lasting and not self.way.waits_for(refused.reason):
            return refusal(refused.error)
        return self.passing_trouble(refused.error, refused.reason)

    def passing_trouble(self, error: str, reason: Reason) -> AttemptEnd:
        """Return the end after temporary trouble: a wait, or a failure if the patience is over."""
        why = f"the base branch: {error} ({reason})"
        return self.end_of_patience(error) or postponed(why, WaitReason.BASE)

    def end_of_patience(self, error: str) -> AttemptEnd | None:
        """Return the failure if the trouble has lasted longer than the patience; else None."""
        now, since = self.todo.now(), _moment(self.checkpoint.get(TROUBLE))
        if since is None or since > now:  # a damaged record, or a clock that was set back
            self.add_to_checkpoint({TROUBLE: now.isoformat()})
        elif now - since > self._patience:
            return refusal(f"{error} (for more than {self._patience.total_seconds():g} s: land_patience)")
        return None

    @property
    def has_trouble(self) -> bool:
        return TROUBLE in self.checkpoint

    def forget_trouble(self) -> None:
        """Remove the recorded trouble, so that the patience is counted from the next one."""
        if self.has_trouble:
            self.save_checkpoint({name: value for name, value in self.checkpoint.items() if name != TROUBLE})


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
