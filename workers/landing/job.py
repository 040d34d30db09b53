"""The job of a landing: the functions of the worker that an attempt calls, and its quality checks.

Todos that look at the base branches state the commits that would land, and the checks begin there. A green
result holds for the tree of its repository and for those of all repositories that the check needs. A base
branch that moves afterwards changes the tree to land; so does one under a needed repository that has landed
before. Then the check runs again, in the worktree of the run, as a part of the todo that lands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordination.branches import HEADS, claim, run_branch
from coordination.credentials.records import Purpose
from coordination.files import below
from coordination.models import LandAction, LandCheck, Repo, RevertAction
from coordination.runs.attempt_store import AttemptStore, Grant, PredecessorOutput
from coordination.runs.change_sets.records import (
    ChangeSet,
    CheckVerdict,
    Landed,
    RepoChange,
    RequestRef,
    Reverted,
    read_result,
)
from coordination.runs.change_sets.store import ChangeSets
from coordination.settings import Settings
from workers.credentials import Access
from workers.landing.approvals import SeenApprovals
from workers.landing.commits import commit_in
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


@dataclass(frozen=True, kw_only=True)
class LandJob:
    """A todo of a landing run, and the functions that its attempt may call."""

    run_id: str
    repo: Repo
    checkout: Path
    change: Callable[[], RepoChange | None]
    """Reads the change set's part in this repository."""
    verify: Callable[[str, str], str | None]
    """Checks that the signed result states this tip. Returns the commit at which the change set began, as it
    was signed, perhaps empty; None where nothing must be signed. Raises NotAllowed.
    """
    seal_landing: Callable[[str, Landed], Landed]
    """Adds the signed record to the landing of this tip."""
    verify_landed: Callable[[Landed], None]
    """Checks that a worker has signed the landing. Raises NotAllowed."""
    checkpoint: str
    """The JSON that the last attempt has recorded; empty for the first."""
    record: Callable[[str], None]
    """Records JSON for the next attempt."""
    note_landed: Callable[[Landed], None]
    note_reverted: Callable[[str, str, bool, Reverted], None]
    """Opens the change set again: new tip, base, and whether the tip may be signed."""
    access: Callable[[], AbstractContextManager[dict[str, str]]]
    """Gives git access to the remote."""
    stopped: Callable[[], OutcomeKind | None]
    cancelled: Callable[[], bool]
    """Asks Redis whether the run is cancelled; `stopped` returns that somewhat later."""
    log: Callable[[str], None]
    checks: CheckRuns
    forges: Callable[[str], ForgeAccess]
    """Opens the access to forges, with the credentials of this machine, for branches with this beginning of
    their names; the caller closes it.
    """
    change_set: Callable[[], ChangeSet | None]
    note_request: Callable[[RequestRef, str], None]
    """Records the pull request, with an event of this kind; without one: how it was seen last."""
    approvals: SeenApprovals
    """Remembers at which commits approvals were seen first."""
    deletes_branches: bool = True
    """True if the branch of a merged request is deleted at the forge."""
    sibling_todos: Callable[[], int] = lambda: 1
    """Counts the todos that do the same in other repositories, and this one."""
    scripts: Path
    """The folder for scripts that start the hooks of the checkout when it receives a push."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class LandJobs:
    """Makes the jobs of a worker."""

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

    def of(
        self,
        grant: Grant,
        stopped: Callable[[], OutcomeKind | None],
        log: Callable[[str], None],
        check: Callable[[LandCheck, str], AttemptOutcome],
    ) -> LandJob:
        """Return the job of a todo. `stopped` reports a stop, `log` writes a line of its log, `check` runs a
        check at a commit.
        """
        repo, name = grant.spec.repo, _change_set_of(grant)

        def change_set() -> ChangeSet | None:
            return until_answered(lambda: self.change_sets.read(name))

        def change() -> RepoChange | None:
            found = change_set()
            return found.repos.get(repo.name) if found else None

        def note_landed(landed: Landed) -> None:
            self.remember(grant, name)
            self._note(lambda: self.change_sets.note_landed(grant, name, repo.name, landed))

        def note_reverted(tip: str, base: str, sign: bool, reverted: Reverted) -> None:
            self.remember(grant, name)
            self.send(grant, tip, base)
            signed = self.signed_results.seal_tip(grant, tip, base, name) if sign else ""
            self._note(
                lambda: self.change_sets.note_reverted(
                    grant, name, repo.name, tip=tip, base=base, signed=signed, reverted=reverted
                )
            )
            if (found := change()) is not None and (why := self._follow(repo.name, found.branch, tip)):
                log(why)

        def note_request(ref: RequestRef, kind: str) -> None:
            if kind:
                until_answered(lambda: self.change_sets.note_request(name, repo.name, ref, kind))
            elif (seen := ref.seen) is not None:
                until_answered(lambda: self.change_sets.note_seen(name, {repo.name: (ref.number, seen)}))

        return LandJob(
            run_id=grant.run_id,
            repo=repo,
            checkout=self.checkouts[repo.name],
            change=change,
            verify=lambda tip, signed: self.signed_results.check_landing(grant, tip, signed, name),
            seal_landing=lambda tip, landed: self.signed_results.seal_landing(grant, name, tip, landed),
            verify_landed=lambda landed: self.signed_results.check_landed(grant, name, landed),
            checkpoint=grant.checkpoint or "",
            record=lambda json: self._record(grant, json),
            note_landed=note_landed,
            note_reverted=note_reverted,
            access=lambda: self.access(grant.run_id, repo.name, repo.url or "", Purpose.WRITE),
            stopped=stopped,
            cancelled=lambda: until_answered(lambda: self.store.is_cancelled(grant.run_id)),
            log=log,
            forges=self._forges,
            change_set=change_set,
            note_request=note_request,
            deletes_branches=self.settings.delete_merged_branches,
            sibling_todos=lambda: self._sibling_todos(grant),
            approvals=SeenApprovals(self.state),
            scripts=below(self.state, "hooks", repo.name),
            checks=CheckRuns(
                results=lambda: until_answered(lambda: self.results(grant)),
                again=check,
                keep=lambda commit: self._keep(grant, commit),
            ),
        )

    def _sibling_todos(self, grant: Grant) -> int:
        """Return the number of todos whose ids differ from this one only in the repository."""
        brief = until_answered(lambda: self.store.brief(grant.run_id))
        prefix = grant.todo_id.removesuffix(grant.spec.repo.name)
        return sum(name == f"{prefix}{repo}" for name, repo in brief.repo_of.items()) or 1

    def _follow(self, repo: str, branch: str, tip: str) -> str:
        """Move the branch of the change set to its tip; if it stays, return the reason."""
        checkout = self.checkouts[repo]
        return BranchCopy(checkout=checkout, common_dir=common_dir_of(repo, checkout), branch=branch).move(
            tip
        )

    def _forges(self, prefix: str) -> ForgeAccess:
        from coordination.changes.requests.access import ForgeAccess  # its HTTP client costs 0.1 s of a start

        return ForgeAccess(self.store, self.settings, self.state, patience=FORGE_PAUSE, branch_prefix=prefix)

    def _keep(self, grant: Grant, commit: str) -> None:
        prefix = until_answered(lambda: self.store.brief(grant.run_id)).branch_prefix
        repo, ref = grant.spec.repo.name, f"{HEADS}{run_branch(grant.run_id, prefix)}"
        claim(repo, self.checkouts[repo], prefix)
        git("update-ref", "--no-deref", ref, commit, cwd=self.checkouts[repo])

    def _record(self, grant: Grant, json: str) -> None:
        """Record what the next attempt must know, before the base branch changes. Raises Superseded."""
        self._note(lambda: self.store.checkpoint(grant, json).word == "kept")

    def _note(self, note: Callable[[], bool]) -> None:
        if not until_answered(note):
            raise Superseded("another attempt holds the todo, or has settled it", "")


def _change_set_of(grant: Grant) -> str:
    todo = grant.spec.todo
    action = todo.action if grant.undo is None else todo.compensate
    return action.change_set if isinstance(action, LandAction | RevertAction) else ""


Trees = Mapping[str, str]
"""Repository → the tree of a commit."""


@dataclass(frozen=True, kw_only=True)
class CheckRuns:
    """Functions with which a land todo judges its checks."""

    results: Callable[[], Sequence[PredecessorOutput]]
    """Reads the verified results of the todo's predecessors, in the order of the run. Raises NotAllowed."""
    again: Callable[[LandCheck, str], AttemptOutcome]
    """Runs a check once more, at this commit."""
    keep: Callable[[str], None]
    """Puts a commit on the branch of the run, so that it reaches the hosts of other todos."""


class LandChecks:
    """The checks of the repository of one attempt to land."""

    def __init__(self, repo: str, action: LandAction, runs: CheckRuns, log: Callable[[str], None]) -> None:
        self._repo = repo
        self._action = action
        self._runs = runs
        self._log = log
        self._green: defaultdict[str, list[Trees]] = defaultdict(list)
        """Check → the trees for which this attempt has found it green."""

    @property
    def commit(self) -> str:
        """Return the commit that was checked; empty without checks."""
        looks = (one.commit for one in self._results if one.todo in self._looks(self._repo))
        return next(looks, None) or ""

    def obstacle(self, commit: str, tree: str) -> AttemptOutcome | None:
        """Return the outcome of a check that prevents a tree from landing; None if all are green for it.
        `commit` has the tree.
        """
        for check in self._action.checks:
            if check.todo not in self._green and not self._is_green(check):
                at = self.commit[:12] or "what would land"
                return _refused(f"{check.todo} has no green result for {at}")
            if (found := self._checked_again(check, commit, tree)) is not None:
                return found
        return None

    @cached_property
    def _results(self) -> Sequence[PredecessorOutput]:
        return self._runs.results() if self._action.checks else ()

    @cached_property
    def _statements(self) -> list[tuple[PredecessorOutput, Mapping[str, Any]]]:
        """Return the outputs of the todos that inspect base branches or land, with their parsed JSON."""
        stated = ((one, one.output) for one in self._results)
        return [(one, out) for one, out in stated if isinstance(out, dict) and commit_in(out, "tree")]

    def _looks(self, repo: str) -> set[str]:
        return {
            one.todo for one, stated in self._statements if "base" in stated and stated.get("repo") == repo
        }

    def _trees(self, *, landed: bool) -> Trees:
        """Return the trees that were checked, or, where a repository has landed by now, the landed ones."""
        stated = (stated for _, stated in self._statements if landed or "base" in stated)
        return {str(out.get("repo")): commit_in(out, "tree") for out in stated}

    def _is_green(self, check: LandCheck) -> bool:
        """Return whether the run has a green result of the check at the checked commit."""
        for one in self._results:
            result = read_result(one.json) if one.todo == check.todo else None
            if result and result.verdict is CheckVerdict.GREEN and one.commit == self.commit:
                self._green[check.todo].append(self._read(check, self._trees(landed=False)))
                return True
        return False

    def _read(self, check: LandCheck, trees: Trees) -> Trees:
        needs = check.action.needs
        names = {self._repo, *(trees if needs is None else needs)}
        return {repo: tree for repo, tree in trees.items() if repo in names}

    def _checked_again(self, check: LandCheck, commit: str, tree: str) -> AttemptOutcome | None:
        read = self._read(check, {**self._trees(landed=True), self._repo: tree})
        if read in self._green[check.todo]:
            return None
        before = self._green[check.todo][0]
        moved = sorted(repo for repo in read if read[repo] != before.get(repo))
        self._log(f"{check.todo} runs again: the base branch has moved in {', '.join(moved)}")
        for _ in range(1 + check.action.retries):
            outcome = self._runs.again(check, commit)
            if outcome.kind is not OutcomeKind.FAILED:
                break
        result = read_result(outcome.output)
        if outcome.kind in (OutcomeKind.FAILED, OutcomeKind.REFUSED):
            return _refused(f"{check.todo} is not green for what would land now: {outcome.error}")
        if outcome.kind is not OutcomeKind.SUCCEEDED:
            return replace(outcome, output="")  # the record of the landing must stay
        if result is None or result.verdict is not CheckVerdict.GREEN:
            return _refused(f"{check.todo} is not green for what would land now")
        self._green[check.todo].append(read)
        return None


def _refused(why: str) -> AttemptOutcome:
    return AttemptOutcome(kind=OutcomeKind.REFUSED, error=why)
