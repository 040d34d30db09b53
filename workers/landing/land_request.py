"""Land a change set in one repository by its pull request: one attempt of a todo of a landing run.

The check todo opens the request or updates it, and waits until it is ready. The land todo lets the forge
merge the request if it is still ready, at the head that this attempt has seen and at no other. Each attempt
asks the forge first, so an attempt that follows a killed one finds the true state: a request that is merged
at our head has landed.
"""

from __future__ import annotations

from typing import NoReturn

from coordination.changes.requests.access import inspect, refuse_unproposed
from coordination.changes.requests.create import RequestMaker
from coordination.changes.requests.proposal import PlannedRequests, RepoRequest
from coordination.changes.requests.records import RequestOptions
from coordination.errors import Conflict
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.models import (
    MergeMethod,
    PullRequest,
    RequestState,
)
from coordination.landing.readiness import (
    LASTING,
    Lack,
    Missing,
    is_lasting,
    missing_text,
)
from coordination.models import LandAction, LandStep
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.records import WaitReason
from coordination.runs.run_kinds import QUEUEING
from workers.landing.attempt import AttemptEnd, postponed, refusal
from workers.landing.commits import as_checked, has_landed, landing_message, prepare, update_commit
from workers.landing.forge_attempt import SOON, RequestLook
from workers.landing.job import LandChecks, LandJob
from workers.landing.land import LOOKS, outcome_of
from workers.landing.records import BaseBranch, HasLanded, Method, NoChange, Prepared, Refused
from workers.landing.remote import contains
from workers.outcome import AttemptOutcome, OutcomeKind


def land_request(job: LandJob, action: LandAction) -> AttemptOutcome:
    """Open the request and wait until it is ready, or merge it."""
    return outcome_of(job, lambda: RequestAttempt(job, action).land_by_request(action))


class RequestAttempt(RequestLook):
    def land_by_request(self, action: LandAction) -> AttemptOutcome:
        change = self._change(action.tip)
        self._begun = action.step is LandStep.LAND
        with self._reached() as at:
            self._verified(action.tip, change)
            request = self._current(at, action, change)
            if request is None:
                return self._nothing_left(at, action, change)
            if action.step is LandStep.CHECK:
                return self._wait_until_ready(at, action, change, request)
            return self._merge_when_ready(at, action, change, request)

    # Steps

    def _current(self, at: BaseBranch, action: LandAction, change: RepoChange) -> PullRequest | None:
        """Return the request of the change set as it is: merged, or open with a head of ours. The todo that
        checks opens one, or brings it to the tip. None: nothing is left to propose.
        """
        ref = change.request
        request = self._forge.get(ref.number) if ref else self._forge.find(change.forge_branch)
        if request and request.state is RequestState.MERGED and self._has_our_work(at, change, request):
            return request
        if ref and request and request.state is RequestState.CLOSED:
            raise refusal(
                f"{ref.name} was closed without a merge",
                f"reopen it: {ref.url}; open another one: coord pr create {self._name}; or discard the work: "
                f"coord pr close {self._name}, then: coord sweep {self._name} --fresh",
            )
        if request and request.is_open and self._heads(at, change, request.head_sha):
            if ref is not None and ref.number == request.number:
                if action.step is LandStep.CHECK:
                    self._maker(action, change).refresh(
                        self._repo_request(action, change), self._forge, request
                    )
                return request
        elif action.step is LandStep.LAND:
            what = f"its head is {request.head_sha[:12]}" if request else "there is none"
            raise refusal(f"the pull request is not as it was found ready: {what}", "see: coord changes")
        return self._made(action, change)

    def _made(self, action: LandAction, change: RepoChange) -> PullRequest | None:
        """Open the request, or bring it to the tip of the change set, as `coord pr create` does."""
        try:
            inspected = inspect(self._name, self._repo_request(action, change), self._access)
            made = self._maker(action, change).make_one(inspected)
        except Conflict as error:
            raise refusal(error.message, error.hint) from error
        if made is not None:
            self._job.log(f"its pull request: {made.url}")
        return self._forge.get(made.number) if made else None

    def _maker(self, action: LandAction, change: RepoChange) -> RequestMaker:
        known, facts = self._job.change_set(), action.request
        if known is None or facts is None:
            raise refusal("the change set is gone", f"see: coord changes {self._name}")
        planned = PlannedRequests(
            plan=self._name,
            title=facts.title,
            issues=facts.issues,
            todos=dict(facts.todos),
            change_set=known,
            repos=(self._repo_request(action, change),),
        )
        return RequestMaker(
            planned, RequestOptions(), self._access, lambda _, ref, kind: self._job.note_request(ref, kind)
        )

    def _repo_request(self, action: LandAction, change: RepoChange) -> RepoRequest:
        return RepoRequest(
            repo=self._job.repo,
            change=change,
            checkout=self._job.checkout,
            address=self._address,
            after=action.request.after if action.request else (),
        )

    def _has_our_work(self, at: BaseBranch, change: RepoChange, request: PullRequest) -> bool:
        """Return whether a merged request is the one of this tip, and not of an earlier one."""
        if self._heads(at, change, request.head_sha):
            return True
        since = self._since(at, change, self._base_commit)
        found = has_landed(at, base=self._base_commit, tip=change.tip, since=since)
        return found is HasLanded.YES and contains(at, self._base_commit, request.merge_commit)

    def _nothing_left(self, at: BaseBranch, action: LandAction, change: RepoChange) -> AttemptOutcome:
        base = self._base_commit
        if action.step is LandStep.CHECK:
            done = self._done({"base": base}, f"{at.branch} has all of it: there is nothing to land")
            return self._stated(at, done, base, base) if action.stated else done
        return self._landed(at, action, self._there_already(at, action, change, base), base)

    def _wait_until_ready(
        self, at: BaseBranch, action: LandAction, change: RepoChange, request: PullRequest
    ) -> AttemptOutcome:
        if request.state is not RequestState.MERGED:
            self._refuse_removed_by(at, change, request)
            self._method(MergeMethod(action.method.value))
            missing = self._missing(at, action, change, request, ignored=action.after_upstream)
            missing = self._brought_up(at, change, request, missing)
            self._refuse_lasting(request, missing)
            if missing and not action.when_ready and not _passes(missing):
                raise refusal(
                    f"{request.url} is not ready: {missing_text(missing)}",
                    f"wait for it: coord land {self._name} --when-ready",
                )
            if missing and _passes(missing):
                raise self._computes(request, missing)
            self._forget_trouble()
            if missing:
                error = f"{request.url}: {missing_text(missing)}"
                raise postponed(error, WaitReason.REQUEST, self._interval())
        self._waits_no_longer()
        base = self._base_commit
        done = self._done({"base": base, "head": request.head_sha}, f"{request.url} is ready")
        if not action.stated:
            return done
        made = self._would_land(at, action, change, request.head_sha)
        return self._stated(at, done, made.base if isinstance(made, NoChange) else made.commit, base)

    def _refuse_removed_by(self, at: BaseBranch, change: RepoChange, request: PullRequest) -> None:
        """Refuse a request that would bring removed commits back: people may rewrite the base at any time."""
        base = self._base_commit
        self._refuse_removed(at, base, request.head_sha, self._since(at, change, base))

    def _computes(self, request: PullRequest, missing: tuple[Missing, ...]) -> AttemptEnd:
        """Return the end of an attempt for which the forge cannot say yet whether the request merges."""
        error, pause = (
            f"{request.url}: {missing_text(missing)}",
            self._interval() if self._has_trouble else SOON,
        )
        return self._end_of_patience(error) or postponed(error, WaitReason.REQUEST, pause)

    def _merge_when_ready(
        self, at: BaseBranch, action: LandAction, change: RepoChange, request: PullRequest
    ) -> AttemptOutcome:
        checks = LandChecks(at.repo, action, self._job.checks, self._job.log)
        for _ in range(LOOKS):
            if request.state is RequestState.MERGED:
                self._waits_no_longer()
                return self._landed_by(at, action, change, request)
            self._refuse_removed_by(at, change, request)
            if self._checkpoint.get("queued") == request.head_sha:
                raise self._in_queue(request)
            missing = self._missing(at, action, change, request, ignored=())
            missing = self._brought_up(at, change, request, missing)
            self._refuse_lasting(request, missing)
            if missing:
                raise self._forge_trouble(f"{request.url}: {missing_text(missing)}")
            made = self._would_land(at, action, change, request.head_sha)
            if isinstance(made, Prepared):
                made = as_checked(at, made, checks.commit)
                if (obstacle := checks.obstacle(made.commit, made.tree)) is not None:
                    raise AttemptEnd(obstacle)
            self._end_if_stopped("it was stopped before the merge")
            self._add_to_checkpoint({"merging": request.head_sha, "number": request.number})
            self._merge(action, request)
            self._base_commit = self._base_tip(at).commit
            request = self._forge.get(request.number)
            if request.is_open and not self._heads(at, change, request.head_sha):
                self._refuse_lasting(request, self._missing(at, action, change, request, ignored=()))
        raise self._forge_trouble(f"{request.url} keeps moving")

    def _merge(self, action: LandAction, request: PullRequest) -> None:
        """Let the forge merge the request, or put it into the merge queue. A head that has moved is looked at
        again by the caller.
        """
        subject, _, message = landing_message(
            action.title,
            plan=action.change_set,
            run=self._job.run_id,
            base=self._base_commit,
            tip=action.tip,
        ).partition("\n\n")
        if self._rules_seen.queue:
            self._wait_in_queue(request)
        try:
            self._merging_forge.merge(
                request.number,
                expected_head=request.head_sha,
                method=MergeMethod(action.method.value),
                title=subject,
                message=message,
            )
        except ForgeError as error:
            match error.problem:
                case ForgeProblem.QUEUE_ONLY:
                    self._wait_in_queue(request)
                case ForgeProblem.HEAD_MOVED | ForgeProblem.CLOSED:
                    self._job.log(error.message)
                case ForgeProblem.NOT_MERGEABLE:
                    self._add_to_checkpoint({"merging": ""})
                    raise self._forge_trouble(f"{request.url}: {error.message}") from error
                case _:
                    raise

    def _wait_in_queue(self, request: PullRequest) -> NoReturn:
        # With this record, the run is no longer cancelled.
        self._add_to_checkpoint({QUEUEING: request.url})
        if self._job.cancelled():
            self._add_to_checkpoint({QUEUEING: ""})
            raise AttemptEnd(
                AttemptOutcome(kind=OutcomeKind.CANCELLED, error="it was cancelled before the merge queue")
            )
        self._enqueue(request)
        self._add_to_checkpoint({"queued": request.head_sha})
        if (stopped := self._job.stopped()) is not None:
            self._merging_forge.dequeue(request)
            raise AttemptEnd(
                AttemptOutcome(kind=stopped, error="it was stopped, and is out of the merge queue")
            )
        raise self._in_queue(request)

    def _in_queue(self, request: PullRequest) -> AttemptEnd:
        """Return the end of an attempt whose request was put into the merge queue."""
        if not self._forge.is_queued(request):
            now = self._forge.get(request.number)
            if now.state is RequestState.MERGED:
                return postponed(f"{request.url} has just been merged", WaitReason.REQUEST, SOON)
            return refusal(
                f"the merge queue has thrown {request.url} out",
                f"see its page; then land it again: coord land {self._name}",
            )
        self._forget_trouble()
        return postponed(f"{request.url} is in the merge queue", WaitReason.REQUEST, self._interval())

    # Facts

    def _brought_up(
        self, at: BaseBranch, change: RepoChange, request: PullRequest, missing: tuple[Missing, ...]
    ) -> tuple[Missing, ...]:
        """Merge the base branch into a request that must contain it; return what it lacks then."""
        if Lack.BEHIND not in {one.lack for one in missing} or is_lasting(missing):
            return missing
        made = update_commit(at, head=request.head_sha, base=self._base_commit, change_set=self._name)
        if isinstance(made, Refused):
            raise self._end_after(made)
        try:
            refuse_unproposed(at.repo, change, request)
            self._push(change, made.commit)
        except Conflict as error:
            raise refusal(error.message, error.hint) from error
        self._job.log(f"{self._base_commit[:12]} of {at.branch} is merged into {change.branch}")
        others = tuple(one for one in missing if one.lack is not Lack.BEHIND)
        return (*others, Missing(lack=Lack.UNKNOWN, text="the forge looks at its new commit"))

    def _refuse_lasting(self, request: PullRequest, missing: tuple[Missing, ...]) -> None:
        lasting = tuple(one for one in missing if one.lack in LASTING)
        if not lasting:
            return
        hint = {
            Lack.CONFLICT: f"merge the base branch: coord sweep {self._name}, or coord changes",
            Lack.FOREIGN: f"take it over: coord adopt {self._name} {self._job.repo.name} BRANCH",
        }.get(lasting[0].lack, f"reopen it, or open another one: coord pr create {self._name}")
        raise refusal(f"{request.url}: {missing_text(lasting)}", hint)

    def _would_land(
        self, at: BaseBranch, action: LandAction, change: RepoChange, head: str
    ) -> Prepared | NoChange:
        """Return a commit with the tree that the merge will have, for the quality checks."""
        if not action.stated:
            return NoChange(base=self._base_commit)
        made = prepare(
            at,
            base=self._base_commit,
            tip=head,
            since=self._since(at, change, self._base_commit),
            method=Method.MERGE,
            message=action.title,
        )
        if isinstance(made, Refused):
            raise self._end_after(made)
        return made

    def _landed_by(
        self, at: BaseBranch, action: LandAction, change: RepoChange, request: PullRequest
    ) -> AttemptOutcome:
        landed = self._landing_of(at, action.method.value, change, request, self._checkpoint)
        self._add_to_checkpoint(landed.model_dump())
        return self._landed(at, action, landed, landed.commit)


def _passes(missing: tuple[Missing, ...]) -> bool:
    """Return whether the request lacks only the end of the forge's computation."""
    return all(one.lack is Lack.UNKNOWN for one in missing)
