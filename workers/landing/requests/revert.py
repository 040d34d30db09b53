"""Take a landed change set out of a base branch by a pull request of its own.

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
from coordination.runs.change_sets.records import Landed, RepoChange
from coordination.runs.records import WaitReason
from workers.landing.attempt import AttemptEnd, postponed, refusal
from workers.landing.records import BaseBranch, Prepared, commit_in
from workers.landing.requests.way import SOON, RequestWay
from workers.landing.revert import Revert
from workers.workspace.git import ask
from workers.workspace.repository import commit_at

QUEUED = "queued"
"""Key of the checkpoint: the head that was put into the merge queue."""
_PASSING = frozenset({Lack.PENDING, Lack.UNKNOWN})
"""States that end without a person."""


class RequestRevert(RequestWay):
    """Revert by a pull request, which the forge merges."""

    def __init__(self, revert: Revert) -> None:
        super().__init__(revert, begun=True, branch_prefix=revert.action.branch_prefix)
        self._revert = revert
        self._record: Landed | None = None
        """The record of the todo's own landing."""

    def may_have_landed(self, known: Mapping[str, Any], change: RepoChange | None) -> bool:
        recorded = commit_in(known, "commit") or commit_in(known, "merging")
        return bool(recorded and change and change.request)

    def own_landing(
        self, at: BaseBranch, known: Mapping[str, Any], change: RepoChange | None
    ) -> Landed | None:
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
        self._record = change.landed or landed
        return landed.model_copy(update={"revert": self._record.revert})

    def propose(self, at: BaseBranch, made: Prepared, landed: Landed) -> str:
        _, request = self._proposed(at, made, landed)
        return request.url

    def bring(self, at: BaseBranch, made: Prepared, landed: Landed) -> bool:
        """Merge the request of the revert. Return False: the caller looks at the base branch again."""
        change, request = self._proposed(at, made, landed)
        missing = self._missing(at, change, request)
        if Lack.BEHIND in {one.lack for one in missing}:
            if (refused := self._update(at, change, request)) is not None:
                raise self._left(request, refused.error)
            raise postponed(f"{request.url}: the forge looks at its new commit", WaitReason.REQUEST, SOON)
        if missing:
            raise self._waits_for(at, request, missing)
        self._merge(at, request)
        self._base_commit = self._revert.base_tip(at).commit
        return False

    def finish(self, landed: Landed) -> None:
        """Delete the branch of the revert at the forge, if its request is merged."""
        change = self._branch_of(landed, "")
        request = self._forge.find(change.branch_at_forge(self._access.branch_prefix))
        if request is not None and request.state is RequestState.MERGED:
            self._delete_branch(change, request)

    def _branch_of(self, landed: Landed, tip: str) -> RepoChange:
        """Return the branch of the revert, as a change of the repository."""
        name = f"revert-{landed.commit[:12]}-{name_of_set(self._revert.name)}"
        todo, prefix = self._revert.todo, self._access.branch_prefix
        return RepoChange(repo=todo.repo.name, branch=f"{prefix}{name}", tip=tip, run=todo.run_id)

    def _out_of_queue(self, change: RepoChange) -> PullRequest:
        """Return the request of the change set, after it was taken out of the merge queue."""
        assert change.request is not None
        request = self._forge.get(change.request.number)
        if request.is_open and self._forge.is_queued(request):
            self._merging_forge.dequeue(request)
            self._revert.todo.log(f"{request.url} is out of the merge queue")
            request = self._forge.get(request.number)
        return request

    def _proposed(self, at: BaseBranch, made: Prepared, landed: Landed) -> tuple[RepoChange, PullRequest]:
        """Return the branch of the revert and its request, which is opened if there is none."""
        change = self._branch_of(landed, made.commit)
        request = self._forge.find(change.branch_at_forge(self._access.branch_prefix))
        if request is not None and request.state is RequestState.MERGED:
            raise self._forge_trouble(f"{request.url} is merged, and {at.branch} does not have it yet")
        if request is None or not request.is_open:
            request = self._open(at, change, made, request)
        else:
            request = self._forge.get(request.number)
        self._note(request, landed)
        return change, request

    def _open(
        self, at: BaseBranch, change: RepoChange, made: Prepared, before: PullRequest | None
    ) -> PullRequest:
        if before is not None:
            raise self._left(before, "somebody has closed it: reopen it")
        self._push(change, made.commit)
        message = ask("show", "-s", "--format=%b", made.commit, cwd=at.path).stdout.strip()
        at_forge = change.branch_at_forge(self._access.branch_prefix)
        new = NewRequest(head=at_forge, base=at.branch, title=self._revert.action.title, body=message)
        opened = self._forge.create(new)
        self._revert.todo.log(f"its revert: {opened.url}")
        return self._forge.get(opened.number)

    def _missing(self, at: BaseBranch, change: RepoChange, request: PullRequest) -> tuple[Missing, ...]:
        pushed = pushed_ref(change.branch_at_forge(self._access.branch_prefix))
        heads = (request.head_sha,) if request.head_sha == commit_at(at.path, pushed) else ()
        seen = self._observed(at, request, heads, self._forge.protection(at.branch), again=True)
        return missing_of(seen, Requirements())

    def _waits_for(self, at: BaseBranch, request: PullRequest, missing: tuple[Missing, ...]) -> AttemptEnd:
        error, lacks = missing_text(missing), {one.lack for one in missing}
        if self._revert.action.when_ready and not lacks & LASTING:
            if lacks == {Lack.UNKNOWN}:
                why = f"{request.url}: {error}"
                return self._revert.end_of_patience(why) or postponed(why, WaitReason.REQUEST, SOON)
            self._revert.forget_trouble()
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
        if self._revert.action.when_ready:
            return False
        committed = ask("show", "-s", "--format=%ct", request.head_sha, cwd=at.path).stdout.strip()
        now = self._revert.todo.now()
        made = datetime.fromtimestamp(int(committed), UTC) if committed.isdecimal() else now
        return now - made > self._revert.action.patience

    def _merge(self, at: BaseBranch, request: PullRequest) -> None:
        if self._forge.protection(at.branch).queue:
            was_queued = self._revert.checkpoint.get(QUEUED) == request.head_sha
            if not self._forge.is_queued(request) and (was_queued or self._is_late(at, request)):
                raise self._left(request, "the merge queue has thrown it out")
            self._enqueue(request)
            if self._revert.action.when_ready:
                self._revert.add_to_checkpoint({QUEUED: request.head_sha})
            raise self._waits_in_queue(request)
        message = ask("show", "-s", "--format=%b", request.head_sha, cwd=at.path).stdout.strip()
        has_merges = MergeMethod.MERGE in self._forge.repository().methods
        method = MergeMethod.MERGE if has_merges else self._method(None)
        try:
            self._merge_at_head(request, method, title=self._revert.action.title, message=message)
        except ForgeError as error:
            if error.problem is ForgeProblem.NOT_MERGEABLE:
                raise self._left(request, error.message) from error
            raise

    def _note(self, request: PullRequest, landed: Landed) -> None:
        """Note in the record of the landing that the request of its revert is open, so that people see it."""
        if request.url not in (landed.revert, self._revert.request):
            record = self._record or landed
            self._revert.todo.note_landed(record.model_copy(update={"revert": request.url}))
        self._revert.request = request.url

    def _left(self, request: PullRequest, error: str) -> AttemptEnd:
        """Return the end of an attempt that leaves the request to people."""
        revert = self._revert
        again = f"coord rollback {revert.todo.run_id}, or " if revert.undoes else ""
        return refusal(
            f"the revert of {revert.todo.repo.name} needs a person to merge it: {request.url}: {error}",
            f"merge it; then: {again}coord revert {revert.name}; or let coord merge all of them when they "
            f"are approved: coord revert {revert.name} --when-ready",
        )
