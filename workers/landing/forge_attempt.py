"""Base of the attempts that work through a forge: its refusals and waits; the merge of a request."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NoReturn

from pydantic import ValidationError

from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.create import NO_STATUS
from coordination.changes.requests.proposal import depends_status
from coordination.changes.requests.push import delete_branch, push_branch, pushed_ref
from coordination.changes.requests.records import RequestView
from coordination.credentials.records import Purpose
from coordination.errors import CoordinationError
from coordination.forges.errors import LIMITS, PASSING, ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress, locate
from coordination.forges.models import (
    Check,
    CheckState,
    ForgeType,
    MergeMethod,
    Protection,
    PullRequest,
    Review,
    ReviewState,
)
from coordination.landing.readiness import (
    DEPENDS,
    Missing,
    ObservedRequest,
    Requirements,
    missing_of,
    without_own,
)
from coordination.models import LandAction, LandStep, RevertAction
from coordination.runs.change_sets.records import BY_PEOPLE, Landed, RepoChange
from coordination.runs.records import WaitReason
from workers.landing.attempt import Attempt, AttemptEnd, postponed, refusal
from workers.landing.commits import commit_in, heads_of, merge, tree_before, update_commit
from workers.landing.job import LandJob
from workers.landing.records import BaseBranch, Reason, Refused
from workers.landing.remote import contains
from workers.outcome import AwaitedRequest, OutcomeKind
from workers.process.trouble import describe_os_error

NO_STATUS_SET = "no_status"
"""A todo's note that its token may set no statuses."""
RULES_HOLD = timedelta(minutes=10)
"""Time for which the rules of a branch are kept while a request waits."""
SOON = timedelta(seconds=1)
"""The pause after an answer that forges give while they still compute."""
_BY_PERSONS = frozenset({ForgeProblem.UNAUTHORIZED, ForgeProblem.FORBIDDEN, ForgeProblem.NOT_MERGEABLE})
"""Refusals that a person can end while a landing is under way."""

_LOGINS = frozenset({Reason.UNAUTHENTICATED, Reason.FORBIDDEN})


class ForgeAttempt(Attempt):
    """An attempt that asks a forge. `_access` and `_forge` are set within `_reached`."""

    def __init__(self, job: LandJob, action: LandAction | RevertAction) -> None:
        super().__init__(job, action)
        self._access: ForgeAccess
        self._forge: Forge
        self._address: ForgeAddress
        self._base_commit = ""
        """The base branch at the remote, as this attempt has seen it last."""
        self._begun = False
        """True if something may have merged: the attempt then waits where a person has to act."""

    @contextmanager
    def _reached(self) -> Iterator[BaseBranch]:
        """Open the forge; turn its refusals into the end of the attempt. Yield the base branch."""
        self._access, began = self._job.forges(self._action.branch_prefix), time.monotonic()
        try:
            repo = self._job.repo
            self._address = locate(repo)
            self._forge = self._access.forge(repo.name, self._address)
            with self._base() as at:
                self._base_commit = self._base_tip(at).commit
                yield at
        except AttemptEnd as end:
            if end.outcome.kind is not OutcomeKind.DEFERRED:
                self._waits_no_longer()
            elif end.outcome.reason is WaitReason.REQUEST:
                awaited = AwaitedRequest(address=self._address, looked_at=began)
                end.outcome = replace(end.outcome, request=awaited)
            raise
        except ForgeError as error:
            self._refuse(error)
        except CoordinationError as error:
            if self._begun:  # no credential, or git refuses the branch
                raise self._forge_trouble(str(error)) from error
            raise
        finally:
            self._access.close()

    @property
    def _merging_forge(self) -> Forge:
        """The forge with the credential that may merge."""
        return self._access.forge(self._job.repo.name, self._address, Purpose.MERGE)

    def _refuse(self, error: ForgeError) -> NoReturn:
        """Raise the end of an attempt after a refusal by the forge."""
        if error.problem in LIMITS and error.retry_at is not None:
            pause = max(error.retry_at - self._job.now(), SOON)
            raise postponed(error.message, WaitReason.REQUEST, pause) from error
        if error.problem in PASSING or (self._begun and error.problem in _BY_PERSONS):
            raise self._forge_trouble(str(error)) from error
        self._waits_no_longer()
        raise refusal(error.message, error.hint) from error

    def _forge_trouble(self, error: str) -> AttemptEnd:
        """Return the end after temporary trouble: a wait, or a failure if the patience is over."""
        return self._end_of_patience(error) or postponed(error, WaitReason.REQUEST, self._interval())

    def _end_after(self, refused: Refused) -> AttemptEnd:
        """Return the end after a refusal by git: a login that a person can mend is waited for."""
        if self._begun and refused.reason in _LOGINS:
            return self._forge_trouble(refused.error)
        return super()._end_after(refused)

    def _interval(self) -> timedelta:
        """Return the pause before the next look at the request, by the budget of calls."""
        host, sibling_todos = self._address.api_host, self._job.sibling_todos()
        return self._access.budget.interval(host, self._waiting, self._job.now(), sibling_todos)

    def _waits_no_longer(self) -> None:
        self._access.budget.remove_waiting(self._address.api_host, self._waiting)

    @property
    def _waiting(self) -> str:
        return f"{self._address.project} {self._name}"

    def _by_git(self, at: BaseBranch, request: PullRequest, rules: Protection) -> PullRequest:
        """Return a request of Gitea with what git knows better; any other as it is. Gitea says that a request
        does not merge also while it computes, and never that it must contain the tip of its base.
        """
        if self._address.type is not ForgeType.GITEA:
            return request
        if rules.up_to_date and not contains(at, request.head_sha, self._base_commit):
            return request.model_copy(update={"blocked": "behind"})
        if request.mergeable is not False:
            return request
        merged = merge(at, self._base_commit, request.head_sha)
        return request if isinstance(merged, Refused) else request.model_copy(update={"mergeable": None})

    def _observed(
        self,
        at: BaseBranch,
        request: PullRequest,
        heads: tuple[str, ...],
        rules: Protection,
        *,
        again: bool = False,
    ) -> ObservedRequest:
        """Return the present facts about a request. `heads`: the commits whose approvals hold; none if
        somebody else pushed the head. `again`: read a blocked request again after its checks, as a check that
        has ended since then no longer explains why the forge refuses it.
        """
        reviews, checks = self._forge.reviews(request.number), self._forge.checks(request.head_sha)
        if again and request.blocked:
            request = self._forge.get(request.number)
        return ObservedRequest(
            request=self._by_git(at, request, rules) if heads else request,
            heads=heads,
            checks=checks,
            reviews=reviews,
            protection=rules,
        )

    def _merge_at_head(self, request: PullRequest, method: MergeMethod, *, title: str, message: str) -> None:
        """Let the forge merge a request at the seen head. If the head has moved or the request is closed, do
        nothing: the caller looks again. Raises ForgeError.
        """
        self._refuse_other_base(request)
        try:
            self._merging_forge.merge(
                request.number,
                expected_head=request.head_sha,
                method=method,
                title=title,
                message=message,
            )
        except ForgeError as error:
            if error.problem not in (ForgeProblem.HEAD_MOVED, ForgeProblem.CLOSED):
                raise
            self._job.log(error.message)
        else:
            self._job.log(f"{request.url} is merged")

    def _refuse_other_base(self, request: PullRequest) -> None:
        """Raise AttemptEnd for a request that leads into another branch than the order: people can change
        that at the forge, and Redis can name another request of the same commits.
        """
        if request.base != self._job.repo.branch:
            raise refusal(
                f"{request.url} is to be merged into {request.base}, and {self._job.repo.name} lands on "
                f"{self._job.repo.branch}",
                "change its base branch at the forge; then land or revert again",
            )

    def _enqueue(self, request: PullRequest) -> None:
        self._refuse_other_base(request)
        if not self._forge.is_queued(request):
            self._merging_forge.enqueue(request, expected_head=request.head_sha)
            self._job.log(f"{request.url} is in the merge queue")

    def _waits_in_queue(self, request: PullRequest) -> AttemptEnd:
        self._forget_trouble()
        return postponed(f"{request.url} is in the merge queue", WaitReason.REQUEST, self._interval())

    def _update(self, at: BaseBranch, change: RepoChange, request: PullRequest) -> Refused | None:
        """Merge the base branch into a request that must contain it; return a refusal of git, else None.
        Raises Conflict.
        """
        made = update_commit(at, head=request.head_sha, base=self._base_commit, change_set=self._name)
        if isinstance(made, Refused):
            return made
        self._push(change, made.commit)
        self._job.log(f"{self._base_commit[:12]} of {at.branch} is merged into {change.branch}")
        return None

    def _landing_of(
        self, at: BaseBranch, method: str, change: RepoChange, request: PullRequest, known: Mapping[str, Any]
    ) -> Landed:
        """Return the landing of a merged request. Raises AttemptEnd if the base branch lacks it yet."""
        commit = request.merge_commit
        if not commit or not contains(at, self._base_commit, commit):
            raise self._passing_trouble(
                f"{request.url} is merged, and {at.branch} does not have it yet", Reason.MOVED
            )
        head, since = request.head_sha, self._since(at, change, self._base_commit)
        ours = commit_in(known, "merging") == head
        before = tree_before(at, merged=commit, head=head, tip=change.tip, since=since)
        return self._landing(change.tip, commit, before, method if ours else BY_PEOPLE)

    def _push(self, change: RepoChange, commit: str) -> None:
        """Push the branch of a change, never over a commit of somebody else. Raises Conflict, GitRefused."""
        with self._access.target(self._name, self._job.repo, change, self._job.checkout) as target:
            push_branch(target, commit)

    def _delete_branch(self, change: RepoChange, request: PullRequest) -> None:
        """Delete the branch of a merged request at the forge, unless it is another one than coord's own or is
        not at the merged head. A refusal is no failure of the landing.
        """
        prefix = self._access.branch_prefix
        branch = change.branch_at_forge(prefix)
        if not self._job.deletes_branches or not change.is_own(branch, prefix):
            return
        try:
            with self._access.target(self._name, self._job.repo, change, self._job.checkout) as target:
                if delete_branch(target, request.head_sha):
                    self._job.log(f"{branch} is deleted at the forge")
        except CoordinationError as error:
            self._job.log(f"{branch} could not be deleted at the forge: {error.message}")

    def _method(self, method: MergeMethod | None) -> MergeMethod:
        """Return `method` if the repository allows it; for None, its first method. Raises AttemptEnd."""
        allowed = self._forge.repository().methods
        if method in allowed:
            return method
        if method is None and allowed:
            return allowed[0]
        raise refusal(
            f"{self._address.project} allows {', '.join(allowed) or 'no'} merges, not {method}",
            f"land it with --method {allowed[0] if allowed else 'NAME'}, or allow it at the forge",
        )


class RequestLook(ForgeAttempt):
    """An attempt that looks at the request of a change set before it decides."""

    _action: LandAction
    _rules_seen = Protection()
    """The rules of the base branch, as this attempt has read them."""

    def _heads(self, at: BaseBranch, change: RepoChange, head: str) -> tuple[str, ...]:
        pushed = pushed_ref(change.branch_at_forge(self._access.branch_prefix))
        return heads_of(at, tip=change.tip, head=head, pushed=pushed, base=self._base_commit)

    def _missing(
        self, at: BaseBranch, change: RepoChange, request: PullRequest, *, ignored: tuple[str, ...] = ()
    ) -> tuple[Missing, ...]:
        """Return what the request lacks according to the present answers of the forge."""
        action, head = self._action, request.head_sha
        heads = self._heads(at, change, head)
        self._rules_seen = self._rules(request.base, fresh=action.step is LandStep.LAND)
        seen = self._observed(at, request, heads, self._rules_seen)
        reviews, checks = seen.reviews or (), seen.checks or ()
        if heads:
            self._tell_depends(head, checks)
        approving = [one for one in reviews if one.state is ReviewState.APPROVED and not one.head]
        seen = replace(seen, first_seen=self._first_seen(approving, request))
        self._note_seen(change, request, checks, reviews)
        return missing_of(seen, Requirements(approvals=action.approvals, ignored=ignored))

    def _tell_depends(self, head: str, checks: Sequence[Check]) -> None:
        """Set the status `coord/depends` of a head, unless the forge already shows this value."""
        action, known = self._action, self._job.change_set()
        after = action.request.after if action.request else ()
        if not after or known is None or self._checkpoint.get(NO_STATUS_SET):
            return
        if action.step is LandStep.LAND:  # its predecessors have landed, perhaps by people
            known = known.model_copy(update={"repos": {}})
        status = depends_status(known, after)
        shown = next((one.state for one in checks if one.name == DEPENDS), None)
        if status is None or status.state is shown:
            return
        try:
            self._forge.set_status(head, status)
        except ForgeError as error:
            if error.problem not in NO_STATUS:
                raise
            self._job.log(f"the status {DEPENDS} could not be set: {error.message}")
            self._add_to_checkpoint({NO_STATUS_SET: True})

    def _note_seen(
        self, change: RepoChange, request: PullRequest, checks: Sequence[Check], reviews: Sequence[Review]
    ) -> None:
        """Record the observed state of the request for `coord changes`."""
        ref = change.request
        if ref is None:
            return
        view = RequestView(
            plan=self._name,
            repo=change.repo,
            number=request.number,
            url=request.url,
            state=request.state,
            head=request.head_sha,
            checks=without_own(checks),
            failing=tuple(one.name for one in without_own(checks) if one.state is CheckState.FAILURE),
            reviews=tuple(reviews),
        )
        seen, before = view.seen(), ref.seen
        if seen and (before is None or seen != before.model_copy(update={"at": seen.at})):
            self._job.note_request(ref.model_copy(update={"seen": seen}), "")

    def _first_seen(self, approving: Sequence[Review], request: PullRequest) -> Mapping[str, str]:
        """Return for each person whose approval names no commit the head at which it was seen first."""
        times = {one.author: one.at for one in approving}
        with describe_os_error(self._job.checkout):
            return self._job.approvals.first_seen(request.url, request.head_sha, times)

    def _rules(self, branch: str, *, fresh: bool) -> Protection:
        """Return the rules of the base branch; `fresh` False: as they were some minutes ago. A wrong record
        of them could only delay the merge, or have the forge refuse it.
        """
        known, now = self._checkpoint.get("rules"), self._job.now()
        if not fresh and isinstance(known, dict):
            try:
                if now - datetime.fromisoformat(str(known.get("at"))) < RULES_HOLD:
                    return Protection.model_validate_json(str(known.get("value")))
            except (ValueError, TypeError, ValidationError):
                self._job.log("the record of the branch's rules is damaged: they are read again")
        found = self._forge.protection(branch)
        if not fresh:
            record = {"at": now.isoformat(), "value": found.model_dump_json()}
            self._add_to_checkpoint({"rules": record})
        return found
