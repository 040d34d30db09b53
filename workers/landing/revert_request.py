"""Take a landed change set out of a base branch by a pull request of its own: one attempt.

The revert is a commit on a branch `coord/revert-…`, for which coord opens a request. coord merges the request
as soon as the forge allows it. If the rules of the branch require people, the request stays open: the attempt
fails with its address, the change set names it, and the same command continues after its merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from coordination.branches import name_of_set
from coordination.changes.requests.push import pushed_ref
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.models import MergeMethod, NewRequest, PullRequest, RequestState
from coordination.landing.readiness import LASTING, Lack, Missing, Requirements, missing_of, missing_text
from coordination.models import RevertAction, RevertStep
from coordination.runs.change_sets.records import Landed, RepoChange, Reverted
from coordination.runs.records import WaitReason
from workers.landing.attempt import UNDOES, AttemptEnd, postponed, refusal
from workers.landing.commits import commit_in
from workers.landing.forge_attempt import SOON, ForgeAttempt
from workers.landing.job import LandJob
from workers.landing.records import BaseBranch, Prepared
from workers.landing.revert import LandedCommit, RevertAttempt
from workers.outcome import AttemptOutcome
from workers.workspace.git import ask
from workers.workspace.repository import commit_at

QUEUED = "queued"
"""Key of the checkpoint: the head that was put into the merge queue."""
_PASSING = frozenset({Lack.PENDING, Lack.UNKNOWN})
"""States that end without a person."""


class RequestRevert(ForgeAttempt, RevertAttempt):
    """Revert by a pull request of its own."""

    def __init__(self, job: LandJob, action: RevertAction) -> None:
        super().__init__(job, action)
        self._begun = True
        self._landing_to_revert: Landed | None = None

    def _revert(self) -> AttemptOutcome:
        change = self._job.change()
        self._landing_to_revert = change.landed if change else None
        return super()._revert()

    def _may_have_landed(self, known: Mapping[str, Any], change: RepoChange | None) -> bool:
        recorded = commit_in(known, "commit") or commit_in(known, "merging")
        return bool(recorded and change and change.request)

    def _own_landing(
        self, at: BaseBranch, known: Mapping[str, Any], change: RepoChange | None
    ) -> LandedCommit | None:
        """Return the merge of the request, if the todo has merged it. A request that is still in the merge
        queue leaves it.
        """
        assert change is not None
        request, merged = self._out_of_queue(change), commit_in(known, "commit")
        own = (merged, request.merge_commit) if merged else (commit_in(known, "merging"), request.head_sha)
        if request.state is not RequestState.MERGED or own[0] != own[1]:
            return None
        recorded = {"merging": request.head_sha}
        landed = self._landing_of(at, str(known.get("method") or "merge"), change, request, recorded)
        self._landing_to_revert = change.landed or landed
        return LandedCommit(landed.commit, landed.tree_before)

    def _out_of_queue(self, change: RepoChange) -> PullRequest:
        """Return the request of the change set, after it was taken out of the merge queue."""
        assert change.request is not None
        request = self._forge.get(change.request.number)
        if request.is_open and self._forge.is_queued(request):
            self._merging_forge.dequeue(request)
            self._job.log(f"{request.url} is out of the merge queue")
            request = self._forge.get(request.number)
        return request

    def _take_out(self, at: BaseBranch, change: RepoChange | None, landed: LandedCommit) -> AttemptOutcome:
        if self._action.step is RevertStep.REVERT:
            done = super()._take_out(at, change, landed)
            self._delete_merged(at)
            return done
        made = self._reverting(at, self._base_commit, landed)
        if not isinstance(made, Prepared):
            return self._done({"by": made}, f"{landed.commit[:12]} is out of {at.branch}")
        _, request = self._proposed(at, made)
        return self._done({"request": request.url}, f"{request.url} is open")

    def _delete_merged(self, at: BaseBranch) -> None:
        """Delete the branch of the revert at the forge, if this attempt has found or merged its request."""
        if not (branch := self._branch()):
            return
        change = RepoChange(repo=at.repo, branch=branch, tip="", run=self._job.run_id)
        request = self._forge.find(change.branch_at_forge(self._access.branch_prefix))
        if request is not None and request.state is RequestState.MERGED:
            self._delete_branch(change, request)

    def _branch(self) -> str:
        """Return the branch of the revert; empty before the landing is known."""
        if self._landing_to_revert is None:
            return ""
        reverted = self._landing_to_revert.commit
        return f"{self._access.branch_prefix}revert-{reverted[:12]}-{name_of_set(self._name)}"

    def _pushed(self, at: BaseBranch, made: Prepared) -> bool:
        """Merge the request of the revert. Return False: the caller looks at the base branch again."""
        change, request = self._proposed(at, made)
        missing = self._missing(at, change, request)
        if Lack.BEHIND in {one.lack for one in missing}:
            if (refused := self._update(at, change, request)) is not None:
                raise self._left(request, refused.error)
            raise postponed(f"{request.url}: the forge looks at its new commit", WaitReason.REQUEST, SOON)
        if missing:
            raise self._waits_for(at, request, missing)
        self._merge(at, request)
        self._base_commit = self._base_tip(at).commit
        return False

    def _proposed(self, at: BaseBranch, made: Prepared) -> tuple[RepoChange, PullRequest]:
        """Return the request of the revert, which is opened if there is none, and its branch."""
        branch = self._branch()
        assert branch
        change = RepoChange(repo=at.repo, branch=branch, tip=made.commit, run=self._job.run_id)
        request = self._forge.find(change.branch_at_forge(self._access.branch_prefix))
        if request is not None and request.state is RequestState.MERGED:
            raise self._forge_trouble(f"{request.url} is merged, and {at.branch} does not have it yet")
        if request is None or not request.is_open:
            request = self._open(at, change, made, request)
        else:
            request = self._forge.get(request.number)
        self._note(request)
        return change, request

    def _open(
        self, at: BaseBranch, change: RepoChange, made: Prepared, before: PullRequest | None
    ) -> PullRequest:
        if before is not None:
            raise self._left(before, "somebody has closed it: reopen it")
        self._push(change, made.commit)
        message = ask("show", "-s", "--format=%b", made.commit, cwd=at.path).stdout.strip()
        at_forge = change.branch_at_forge(self._access.branch_prefix)
        new = NewRequest(head=at_forge, base=at.branch, title=self._action.title, body=message)
        opened = self._forge.create(new)
        self._job.log(f"its revert: {opened.url}")
        return self._forge.get(opened.number)

    def _missing(self, at: BaseBranch, change: RepoChange, request: PullRequest) -> tuple[Missing, ...]:
        pushed = pushed_ref(change.branch_at_forge(self._access.branch_prefix))
        heads = (request.head_sha,) if request.head_sha == commit_at(at.path, pushed) else ()
        seen = self._observed(at, request, heads, self._forge.protection(at.branch), again=True)
        return missing_of(seen, Requirements())

    def _waits_for(self, at: BaseBranch, request: PullRequest, missing: tuple[Missing, ...]) -> AttemptEnd:
        error, lacks = missing_text(missing), {one.lack for one in missing}
        if self._action.when_ready and not lacks & LASTING:
            if lacks == {Lack.UNKNOWN}:
                why = f"{request.url}: {error}"
                return self._end_of_patience(why) or postponed(why, WaitReason.REQUEST, SOON)
            self._forget_trouble()
            return postponed(f"{request.url}: {error}", WaitReason.REQUEST, self._interval())
        if not lacks <= _PASSING:
            return self._left(request, error)
        if self._is_late(at, request):
            return self._left(request, f"{error}, for longer than land_patience")
        pause = SOON if lacks == {Lack.UNKNOWN} else self._interval()
        return postponed(f"{request.url}: {error}", WaitReason.REQUEST, pause)

    def _is_late(self, at: BaseBranch, request: PullRequest) -> bool:
        """Return whether its commit is older than the patience: an undo keeps no record of its own. One that
        waits until people approve it may be old.
        """
        if self._action.when_ready:
            return False
        committed = ask("show", "-s", "--format=%ct", request.head_sha, cwd=at.path).stdout.strip()
        made = datetime.fromtimestamp(int(committed), UTC) if committed.isdecimal() else self._job.now()
        return self._job.now() - made > self._action.patience

    def _merge(self, at: BaseBranch, request: PullRequest) -> None:
        if self._forge.protection(at.branch).queue:
            is_out = not self._forge.is_queued(request)
            if is_out and (self._checkpoint.get(QUEUED) == request.head_sha or self._is_late(at, request)):
                raise self._left(request, "the merge queue has thrown it out")
            self._enqueue(request)
            if self._action.when_ready:
                self._add_to_checkpoint({QUEUED: request.head_sha})
            raise self._waits_in_queue(request)
        message = ask("show", "-s", "--format=%b", request.head_sha, cwd=at.path).stdout.strip()
        has_merges = MergeMethod.MERGE in self._forge.repository().methods
        method = MergeMethod.MERGE if has_merges else self._method(None)
        try:
            self._merge_at_head(request, method, title=self._action.title, message=message)
        except ForgeError as error:
            if error.problem is ForgeProblem.NOT_MERGEABLE:
                raise self._left(request, error.message) from error
            raise

    def _end_of_patience(self, error: str) -> AttemptEnd | None:
        if (end := super()._end_of_patience(error)) is None:
            return None
        run = self._job.run_id
        undoes = UNDOES in self._checkpoint
        again = f"coord rollback {run}" if undoes else f"coord revert {self._name}"
        answered = f"; or answer for it: coord rollback {run} --accept TODO --reason WHY"
        return refusal(
            f"{self._name} is not taken out of {self._job.repo.name}: {end.outcome.error}",
            f"mend the cause, then: {again}{answered if undoes else ''}",
        )

    def _note(self, request: PullRequest) -> None:
        """Note in the record of the landing that the request of its revert is open, so that people see it."""
        landed = self._landing_to_revert
        if landed is not None and landed.revert != request.url:
            self._landing_to_revert = landed.model_copy(update={"revert": request.url})
            self._job.note_landed(self._landing_to_revert)

    def _reverted(self, commit: str, revert: str) -> Reverted:
        page = self._landing_to_revert.revert if self._landing_to_revert else ""
        return super()._reverted(commit, revert).model_copy(update={"request": page})

    def _left(self, request: PullRequest, error: str) -> AttemptEnd:
        """Return the end of an attempt that leaves the request to people."""
        again = f"coord rollback {self._job.run_id}, or " if UNDOES in self._checkpoint else ""
        return refusal(
            f"the revert of {self._job.repo.name} needs a person to merge it: {request.url}: {error}",
            f"merge it; then: {again}coord revert {self._name}; or let coord merge all of them when they are "
            f"approved: coord revert {self._name} --when-ready",
        )
