"""Land a change set in one repository by its pull request.

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
from coordination.changes.requests.records import RequestOptions, seen_now
from coordination.changes.requests.repair import threads_that_count
from coordination.errors import Conflict
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.models import MergeMethod, PullRequest, RequestState
from coordination.landing.readiness import LASTING, Lack, Missing, missing_text
from coordination.models import LandStep, Method
from coordination.runs.change_sets.records import BY_PEOPLE, Landed, RepoChange
from coordination.runs.records import WaitReason
from coordination.runs.run_kinds import QUEUEING
from coordination.text import quoted
from workers.landing.attempt import AttemptEnd, postponed, refusal
from workers.landing.commits import prepare
from workers.landing.history import has_landed, tree_of
from workers.landing.land import Landing
from workers.landing.records import BaseBranch, HasLanded, NoChange, Prepared, Refused
from workers.landing.remote import contains
from workers.landing.requests.look import RequestLook
from workers.landing.requests.way import SOON
from workers.outcome import AttemptOutcome, OutcomeKind


class RequestLanding(RequestLook):
    """Land by a pull request, which the forge merges."""

    def __init__(self, landing: Landing) -> None:
        super().__init__(landing)
        self._request: PullRequest | None = None
        """The request, as this attempt has seen it last."""

    def check(self, at: BaseBranch, change: RepoChange) -> AttemptOutcome:
        """Open the request and wait until it is ready."""
        landing, action, request = self._landing, self._landing.action, self._current(at, change)
        if request and request.state is RequestState.MERGED:  # perhaps since the last look at the base
            self._base_commit = landing.base_tip(at).commit
        base = self._base_commit
        landing.refuse_taken_out(at, change, base)
        if request is None:
            return landing.nothing_to_land(at, base)
        if request.state is not RequestState.MERGED:
            landing.refuse_removed(at, change, base, request.head_sha)
            self._method(MergeMethod(action.method.value))
            self._wait_for(self._brought_up(at, change, request, action.after_upstream), request)
        self._waits_no_longer()
        made = self._would_land(at, change, request.head_sha)
        facts = {"head": request.head_sha}
        return landing.can_land(at, facts, f"{request.url} is ready", made.commit, base)

    def landed(self, at: BaseBranch, change: RepoChange) -> Landed | None:
        """Return the landing if the request is merged."""
        landing = self._landing
        request = self._request = self._request or self._current(at, change)
        if request is None or request.state is not RequestState.MERGED:
            return None
        self._waits_no_longer()
        self._note_merged(change, request)
        landed = self._landing_of(at, landing.action.method.value, change, request, landing.checkpoint)
        landing.add_to_checkpoint(landed.model_dump())
        if landed.method != BY_PEOPLE:
            self._delete_branch(change, request)
        return landed

    def offered(self, at: BaseBranch, change: RepoChange) -> Prepared | NoChange:
        """Return the commit that the merge would make, for the quality checks, if the request is ready."""
        request = self._request
        if request is None:
            return NoChange(base=self._base_commit)
        self._landing.refuse_removed(at, change, self._base_commit, request.head_sha)
        if self._landing.checkpoint.get("queued") == request.head_sha:
            raise self._in_queue(request)
        if missing := self._brought_up(at, change, request):
            raise self._forge_trouble(f"{request.url}: {missing_text(missing)}")
        return self._would_land(at, change, request.head_sha)

    def bring(self, at: BaseBranch, change: RepoChange, made: Prepared) -> None:
        """Let the forge merge the request; the next look finds out whether it has."""
        landing, request = self._landing, self._request
        assert request is not None
        landing.end_if_stopped("it was stopped before the merge")
        landing.add_to_checkpoint({"merging": request.head_sha, "number": request.number})
        self._merge(request)
        self._base_commit = landing.base_tip(at).commit
        request = self._request = self._forge.get(request.number)
        if request.is_open and not self._heads(at, change, request.head_sha):
            self._refuse_lasting(request, self._missing(at, change, request))

    def keeps_moving(self, at: BaseBranch) -> AttemptEnd:
        assert self._request is not None
        return self._forge_trouble(f"{self._request.url} keeps moving")

    def _note_merged(self, change: RepoChange, request: PullRequest) -> None:
        """Record the request as merged for `coord changes`, which showed it as open so far."""
        change = self._landing.todo.change() or change  # this attempt may have recorded reviews
        ref = change.request
        if ref is None or ref.number != request.number:
            return
        seen, before = seen_now(request, None), ref.seen
        if before is not None and before.head == seen.head:  # its checks and reviews still hold
            seen = before.model_copy(update={"state": seen.state})
        if seen != before:
            self._landing.todo.note_request(ref.model_copy(update={"seen": seen}), "")

    # Steps

    def _current(self, at: BaseBranch, change: RepoChange) -> PullRequest | None:
        """Return the request of the change set as it is: merged, or open with a head of ours. The todo that
        checks opens one, or brings it to the tip. None: nothing is left to propose.
        """
        ref, checks = change.request, self._landing.action.step is LandStep.CHECK
        request = self._forge.get(ref.number) if ref else self._find(change)
        if request and request.state is RequestState.MERGED and self._has_our_work(at, change, request):
            return request
        if ref and request and request.state is RequestState.CLOSED:
            raise self._was_closed(request)
        if request and request.is_open and self._heads(at, change, request.head_sha):
            if ref is not None and ref.number == request.number:
                if checks:
                    self._maker(change).refresh(self._repo_request(change), self._forge, request)
                return request
        elif not checks:
            what = f"its head is {request.head_sha[:12]}" if request else "there is none"
            raise refusal(f"the pull request is not as it was found ready: {what}", "see: coord changes")
        return self._made(change)

    def _find(self, change: RepoChange) -> PullRequest | None:
        return self._forge.find(change.branch_at_forge(self._access.branch_prefix))

    def _made(self, change: RepoChange) -> PullRequest | None:
        """Open the request, or bring it to the tip of the change set, as `coord pr create` does."""
        try:
            inspected = inspect(self._landing.name, self._repo_request(change), self._access)
            if inspected.closed:
                raise self._was_closed(inspected.closed)
            made = self._maker(change).make_one(inspected)
        except Conflict as error:
            raise refusal(error.message, error.hint) from error
        if made is not None:
            self._landing.todo.log(f"its pull request: {made.url}")
        return self._forge.get(made.number) if made else None

    def _was_closed(self, request: PullRequest) -> AttemptEnd:
        plan = quoted(self._landing.name)
        return refusal(
            f"{request.url} was closed without a merge",
            f"open it again: coord pr create {plan} --reopen; "
            f"or discard the work: coord pr close {plan}, then: coord sweep {plan} --fresh",
        )

    def _maker(self, change: RepoChange) -> RequestMaker:
        known, text = self._landing.todo.change_set(), self._landing.action.request
        if known is None or text is None:
            raise self._landing.gone()
        planned = PlannedRequests(
            plan=self._landing.name,
            title=text.title,
            issues=text.issues,
            todos=dict(text.todos),
            criteria=text.criteria,
            change_set=known,
            repos=(self._repo_request(change),),
            branch_prefix=self._access.branch_prefix,
        )
        note = self._landing.todo.note_request
        return RequestMaker(planned, RequestOptions(), self._access, lambda _, ref, kind: note(ref, kind))

    def _repo_request(self, change: RepoChange) -> RepoRequest:
        todo, text = self._landing.todo, self._landing.action.request
        return RepoRequest(
            repo=todo.repo,
            change=change,
            checkout=todo.checkout,
            address=self._address,
            after=text.after if text else (),
            followers=text.followers if text else (),
        )

    def _has_our_work(self, at: BaseBranch, change: RepoChange, request: PullRequest) -> bool:
        """Return whether a merged request is the one of this tip, and not of an earlier one."""
        if self._heads(at, change, request.head_sha):
            return True
        since = self._landing.since(at, change, self._base_commit)
        found = has_landed(at, base=self._base_commit, tip=change.tip, since=since)
        return found is HasLanded.YES and contains(at, self._base_commit, request.merge_commit)

    def _wait_for(self, missing: tuple[Missing, ...], request: PullRequest) -> None:
        """Raise AttemptEnd if the request lacks something: a wait with `when_ready`, else a refusal."""
        if not missing:
            self._landing.forget_trouble()
            return
        error, computes = f"{request.url}: {missing_text(missing)}", _passes(missing)
        if computes:  # the forge cannot say yet whether the request merges
            pause = self._interval() if self._landing.has_trouble else SOON
            raise self._landing.end_of_patience(error) or postponed(error, WaitReason.REQUEST, pause)
        if self._landing.action.repair and self._is_reparable(missing, request):
            name, repo = self._landing.name, self._landing.todo.repo.name
            raise refusal(error, f"let an agent repair it: coord pr fix {quoted(name, repo)}")
        if not self._landing.action.when_ready:
            raise refusal(
                f"{request.url} is not ready: {missing_text(missing)}",
                f"wait for it: coord land {self._landing.name} --when-ready",
            )
        self._landing.forget_trouble()
        raise postponed(error, WaitReason.REQUEST, self._interval())

    def _is_reparable(self, missing: tuple[Missing, ...], request: PullRequest) -> bool:
        """Return whether a check has failed, or a reviewer who may push asks for a change of a line."""
        lacks = {one.lack for one in missing}
        if Lack.RED in lacks:
            return True
        return Lack.CHANGES_REQUESTED in lacks and bool(threads_that_count(self._forge, request))

    def _merge(self, request: PullRequest) -> None:
        """Let the forge merge the request, or put it into the merge queue."""
        if self._rules_seen.queue:
            self._wait_in_queue(request)
        landing, form = self._landing, self._landing.action.method
        words = landing.message(self._base_commit, form, landing.todo.change())
        title, _, message = words.partition("\n\n")
        method = MergeMethod(form.value)
        try:
            self._merge_at_head(request, method, title=title, message=message)
        except ForgeError as error:
            if error.problem is ForgeProblem.QUEUE_ONLY:
                self._wait_in_queue(request)
            if error.problem is not ForgeProblem.NOT_MERGEABLE:
                raise
            self._landing.add_to_checkpoint({"merging": ""})
            raise self._forge_trouble(f"{request.url}: {error.message}") from error

    def _wait_in_queue(self, request: PullRequest) -> NoReturn:
        # With this record, the run is no longer cancelled.
        self._landing.add_to_checkpoint({QUEUEING: request.url})
        if self._landing.todo.cancelled():
            self._landing.add_to_checkpoint({QUEUEING: ""})
            raise AttemptEnd(
                AttemptOutcome(kind=OutcomeKind.CANCELLED, error="it was cancelled before the merge queue")
            )
        self._enqueue(request)
        self._landing.add_to_checkpoint({"queued": request.head_sha})
        if (stopped := self._landing.todo.stopped()) is not None:
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
                f"see its page; then land it again: coord land {self._landing.name}",
            )
        return self._waits_in_queue(request)

    # Facts

    def _brought_up(
        self, at: BaseBranch, change: RepoChange, request: PullRequest, ignored: tuple[str, ...] = ()
    ) -> tuple[Missing, ...]:
        """Merge the base branch into a request that must contain it; return what the request lacks.
        Raises AttemptEnd for obstacles that only a person can remove.
        """
        missing = self._missing(at, change, request, ignored=ignored)
        self._refuse_lasting(request, missing)
        if Lack.BEHIND not in {one.lack for one in missing}:
            return missing
        try:
            refuse_unproposed(self._landing.name, at.repo, change, request, self._access.branch_prefix)
            refused = self._update(at, change, request)
        except Conflict as error:
            raise refusal(error.message, error.hint) from error
        if refused is not None:
            raise self._landing.end_after(refused)
        others = tuple(one for one in missing if one.lack is not Lack.BEHIND)
        return (*others, Missing(lack=Lack.UNKNOWN, text="the forge looks at its new commit"))

    def _refuse_lasting(self, request: PullRequest, missing: tuple[Missing, ...]) -> None:
        lasting = tuple(one for one in missing if one.lack in LASTING)
        if not lasting:
            return
        name, repo = self._landing.name, self._landing.todo.repo.name
        adopt = f"coord plan adopt {quoted(name, repo)} --pr {request.number}"
        hint = {
            Lack.CONFLICT: self._landing.resolve_hint(),
            Lack.FOREIGN: f"take it over: {adopt}",
        }.get(lasting[0].lack, f"open it again: coord pr create {name} --reopen")
        raise refusal(f"{request.url}: {missing_text(lasting)}", hint)

    def _would_land(self, at: BaseBranch, change: RepoChange, head: str) -> Prepared:
        """Return a commit with the tree that the merge will have, for the quality checks; without any, or
        where it would change nothing, the base.
        """
        base, landing = self._base_commit, self._landing
        unchanged = Prepared(commit=base, tree=tree_of(at, base), base=base)
        if not landing.action.stated:
            return unchanged
        since, title = landing.since(at, change, base), landing.action.title
        made = prepare(at, base=base, tip=head, since=since, method=Method.MERGE, message=title)
        if isinstance(made, Refused):
            raise landing.end_after(made)
        return unchanged if isinstance(made, NoChange) else made


def _passes(missing: tuple[Missing, ...]) -> bool:
    """Return whether the request lacks only the end of the forge's computation."""
    return all(one.lack is Lack.UNKNOWN for one in missing)
