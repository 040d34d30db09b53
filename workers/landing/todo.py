"""A todo of a landing run during one attempt: what the engine knows of its change set, and is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.branches import HEADS, claim, run_branch
from coordination.credentials.records import Purpose
from coordination.files import below
from coordination.models import LandAction, LandCheck, RevertAction
from coordination.runs.attempt_store import AttemptStore, Grant, PredecessorOutput
from coordination.runs.change_sets.records import ChangeSet, Landed, RepoChange, RequestRef, Reverted
from coordination.runs.change_sets.store import ChangeSets
from coordination.settings import Settings
from workers.credentials import Access
from workers.landing.approvals import SeenApprovals
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import until_answered
from workers.trust.signed_results import SignedResults
from workers.workspace.change_set import BranchCopy
from workers.workspace.git import git
from workers.workspace.lock import Superseded
from workers.workspace.repository import common_dir_of

if TYPE_CHECKING:
    from coordination.changes.requests.access import ForgeAccess

FORGE_PAUSE = timedelta(seconds=5)
"""The longest pause for which an attempt keeps its worker when a forge limits its calls."""
Check = Callable[[LandCheck, str], AttemptOutcome]
"""Runs a check once more, at a commit."""


@dataclass(frozen=True, kw_only=True)
class LandServices:
    """The services of a worker that the todos of landing runs use."""

    store: AttemptStore
    change_sets: ChangeSets
    signed_results: SignedResults
    checkouts: Mapping[str, Path]
    access: Access
    results: Callable[[Grant], Sequence[PredecessorOutput]]
    """Reads the verified results of the todos before one."""
    send: Callable[[Grant, str, str], None]
    """Sends a tip that builds on a commit of the base branch to other hosts."""
    settings: Settings
    state: Path
    """The state folder of this machine."""
    remember: Callable[[Grant, str], None]
    """Remembers on this machine that the order of the todo has landed or reverted this change set."""


class LandTodo:
    """A todo of a landing run, with the records of its change set in one repository."""

    def __init__(
        self,
        grant: Grant,
        services: LandServices,
        stopped: Callable[[], OutcomeKind | None],
        log: Callable[[str], None],
        check: Check,
    ) -> None:
        """`stopped` reports a stop, `log` writes a line of the todo's log, `check` runs a check again."""
        self._grant = grant
        self._services = services
        self._change_set = _change_set_of(grant)
        self.run_id = grant.run_id
        self.repo = grant.spec.repo
        self.checkout = services.checkouts[self.repo.name]
        self.checkpoint = grant.checkpoint or ""
        """The JSON that the last attempt has recorded; empty for the first."""
        self.stopped = stopped
        self.log = log
        self.check_again = check
        self.approvals = SeenApprovals(services.state)
        self.deletes_branches = services.settings.delete_merged_branches
        """True if the branch of a merged request is deleted at the forge."""
        self.scripts = below(services.state, "hooks", self.repo.name)
        """The folder for scripts that start the hooks of the checkout when it receives a push."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def cancelled(self) -> bool:
        """Ask Redis whether the run is cancelled; `stopped` returns that somewhat later."""
        return until_answered(lambda: self._services.store.is_cancelled(self.run_id))

    def sibling_todos(self) -> int:
        """Return the number of todos whose ids differ from this one only in the repository."""
        brief = until_answered(lambda: self._services.store.brief(self.run_id))
        prefix = self._grant.todo_id.removesuffix(self.repo.name)
        return sum(name == f"{prefix}{repo}" for name, repo in brief.repo_of.items()) or 1

    def access(self) -> AbstractContextManager[dict[str, str]]:
        """Give git access to the remote."""
        return self._services.access(self.run_id, self.repo.name, self.repo.url or "", Purpose.WRITE)

    def forges(self, prefix: str) -> ForgeAccess:
        """Open the access to forges, with the credentials of this machine, for branches with this beginning
        of their names; the caller closes it.
        """
        from coordination.changes.requests.access import ForgeAccess  # its HTTP client costs 0.1 s of a start

        own = self._services
        return ForgeAccess(own.store, own.settings, own.state, patience=FORGE_PAUSE, branch_prefix=prefix)

    # The change set

    def change_set(self) -> ChangeSet | None:
        return until_answered(lambda: self._services.change_sets.read(self._change_set))

    def change(self) -> RepoChange | None:
        """Read the change set's part in this repository."""
        found = self.change_set()
        return found.repos.get(self.repo.name) if found else None

    def verify(self, tip: str, signed: str) -> str | None:
        """Check that the signed result states this tip. Return the commit at which the change set began, as
        it was signed, perhaps empty; None where nothing must be signed. Raises NotAllowed.
        """
        return self._services.signed_results.check_landing(self._grant, tip, signed, self._change_set)

    def seal_landing(self, tip: str, landed: Landed) -> Landed:
        """Add the signed record to the landing of this tip."""
        return self._services.signed_results.seal_landing(self._grant, self._change_set, tip, landed)

    def verify_landed(self, landed: Landed) -> None:
        """Check that a worker has signed the landing. Raises NotAllowed."""
        self._services.signed_results.check_landed(self._grant, self._change_set, landed)

    def note_landed(self, landed: Landed) -> None:
        own, name = self._services, self._change_set
        own.remember(self._grant, name)
        self._note(lambda: own.change_sets.note_landed(self._grant, name, self.repo.name, landed))

    def note_reverted(self, tip: str, base: str, sign: bool, reverted: Reverted) -> None:
        """Open the change set again: new tip, base, and whether the tip may be signed."""
        own, name, repo = self._services, self._change_set, self.repo.name
        own.remember(self._grant, name)
        own.send(self._grant, tip, base)
        signed = own.signed_results.seal_tip(self._grant, tip, base, name) if sign else ""
        self._note(
            lambda: own.change_sets.note_reverted(
                self._grant, name, repo, tip=tip, base=base, signed=signed, reverted=reverted
            )
        )
        if (found := self.change()) is None:
            return
        copy = BranchCopy(
            checkout=self.checkout, common_dir=common_dir_of(repo, self.checkout), branch=found.branch
        )
        if why := copy.move(tip):
            self.log(why)

    def note_request(self, ref: RequestRef, kind: str) -> None:
        """Record the pull request, with an event of this kind; without one: how it was seen last."""
        own, name, repo = self._services.change_sets, self._change_set, self.repo.name
        if kind:
            until_answered(lambda: own.note_request(name, repo, ref, kind))
        elif (seen := ref.seen) is not None:
            until_answered(lambda: own.note_seen(name, {repo: (ref.number, seen)}))

    # The attempt

    def record(self, json: str) -> None:
        """Record what the next attempt must know, before the base branch changes. Raises Superseded."""
        self._note(lambda: self._services.store.checkpoint(self._grant, json).word == "kept")

    def results(self) -> Sequence[PredecessorOutput]:
        """Read the verified results of its predecessors, in the order of the run. Raises NotAllowed."""
        return until_answered(lambda: self._services.results(self._grant))

    def keep(self, commit: str) -> None:
        """Put a commit on the branch of the run, so that it reaches the hosts of other todos."""
        prefix = until_answered(lambda: self._services.store.brief(self.run_id)).branch_prefix
        ref = f"{HEADS}{run_branch(self.run_id, prefix)}"
        claim(self.repo.name, self.checkout, prefix)
        git("update-ref", "--no-deref", ref, commit, cwd=self.checkout)

    @staticmethod
    def _note(note: Callable[[], bool]) -> None:
        if not until_answered(note):
            raise Superseded("another attempt holds the todo, or has settled it", "")


def _change_set_of(grant: Grant) -> str:
    todo = grant.spec.todo
    action = todo.action if grant.undo is None else todo.compensate
    return action.change_set if isinstance(action, LandAction | RevertAction) else ""
