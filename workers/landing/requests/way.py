"""The common part of landing and reverting by pull requests: the forge, its refusals and waits, a merge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.push import delete_branch, push_branch
from coordination.credentials.records import Purpose
from coordination.errors import CoordinationError
from coordination.forges.errors import LIMITS, PASSING, ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress, locate
from coordination.forges.models import ForgeType, MergeMethod, Protection, PullRequest
from coordination.landing.readiness import ObservedRequest
from coordination.runs.change_sets.records import BY_PEOPLE, Landed, RepoChange
from coordination.runs.records import WaitReason
from workers.landing.attempt import Attempt, AttemptEnd, postponed, refusal
from workers.landing.commits import merge, update_commit
from workers.landing.history import tree_before
from workers.landing.records import BaseBranch, Reason, Refused, commit_in
from workers.landing.remote import contains
from workers.outcome import AwaitedRequest, OutcomeKind

SOON = timedelta(seconds=1)
"""The pause after an answer that forges give while they still compute."""
_BY_PERSONS = frozenset({ForgeProblem.UNAUTHORIZED, ForgeProblem.FORBIDDEN, ForgeProblem.NOT_MERGEABLE})
"""Refusals that a person can end while a landing is under way."""

_LOGINS = frozenset({Reason.UNAUTHENTICATED, Reason.FORBIDDEN})


class RequestWay:
    """The steps of an attempt that asks a forge. `_access`, `_forge` and `_address` are set while opened."""

    _access: ForgeAccess
    _forge: Forge
    _address: ForgeAddress

    def __init__(self, attempt: Attempt, *, begun: bool, branch_prefix: str) -> None:
        """`begun`: something may have merged, so the attempt waits where a person has to act;
        `branch_prefix`: that of the signed order.
        """
        self._attempt = attempt
        self._begun = begun
        self._branch_prefix = branch_prefix
        self._base_commit = ""
        """The base branch at the remote, as this attempt has seen it last."""

    @contextmanager
    def opened(self) -> Iterator[BaseBranch]:
        """Open the forge; turn its refusals into the end of the attempt. Yield the base branch."""
        attempt, repo, began = self._attempt, self._attempt.todo.repo, time.monotonic()
        self._access = attempt.todo.forges(self._branch_prefix)
        try:
            self._address = locate(repo)
            self._forge = self._access.forge(repo.name, self._address)
            with attempt.opened_base() as at:
                self._base_commit = attempt.base_tip(at).commit
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

    def waits_for(self, reason: Reason) -> bool:
        return self._begun and reason in _LOGINS

    def keeps_moving(self, at: BaseBranch) -> AttemptEnd:
        return self._attempt.passing_trouble(f"{at.branch} of {at.repo} keeps moving", Reason.MOVED)

    @property
    def _merging_forge(self) -> Forge:
        """The forge with the credential that may merge."""
        return self._access.forge(self._attempt.todo.repo.name, self._address, Purpose.MERGE)

    def _refuse(self, error: ForgeError) -> NoReturn:
        """Raise the end of an attempt after a refusal by the forge."""
        if error.problem in LIMITS and error.retry_at is not None:
            pause = max(error.retry_at - self._attempt.todo.now(), SOON)
            raise postponed(error.message, WaitReason.REQUEST, pause) from error
        if error.problem in PASSING or (self._begun and error.problem in _BY_PERSONS):
            raise self._forge_trouble(str(error)) from error
        self._waits_no_longer()
        raise refusal(error.message, error.hint) from error

    def _forge_trouble(self, error: str) -> AttemptEnd:
        """Return the end after temporary trouble: a wait, or a failure if the patience is over."""
        late = self._attempt.end_of_patience(error)
        return late or postponed(error, WaitReason.REQUEST, self._interval())

    def _interval(self) -> timedelta:
        """Return the pause before the next look at the request, by the budget of calls."""
        host, sibling_todos = self._address.api_host, self._attempt.todo.sibling_todos()
        return self._access.budget.interval(host, self._waiting, self._attempt.todo.now(), sibling_todos)

    def _waits_no_longer(self) -> None:
        self._access.budget.remove_waiting(self._address.api_host, self._waiting)

    @property
    def _waiting(self) -> str:
        return f"{self._address.project} {self._attempt.name}"

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
            self._attempt.todo.log(error.message)
        else:
            self._attempt.todo.log(f"{request.url} is merged")

    def _refuse_other_base(self, request: PullRequest) -> None:
        """Raise AttemptEnd for a request that leads into another branch than the order: people can change
        that at the forge, and Redis can name another request of the same commits.
        """
        repo = self._attempt.todo.repo
        if request.base != repo.branch:
            raise refusal(
                f"{request.url} is to be merged into {request.base}, and {repo.name} lands on {repo.branch}",
                "change its base branch at the forge; then land or revert again",
            )

    def _enqueue(self, request: PullRequest) -> None:
        self._refuse_other_base(request)
        if not self._forge.is_queued(request):
            self._merging_forge.enqueue(request, expected_head=request.head_sha)
            self._attempt.todo.log(f"{request.url} is in the merge queue")

    def _waits_in_queue(self, request: PullRequest) -> AttemptEnd:
        self._attempt.forget_trouble()
        return postponed(f"{request.url} is in the merge queue", WaitReason.REQUEST, self._interval())

    def _update(self, at: BaseBranch, change: RepoChange, request: PullRequest) -> Refused | None:
        """Merge the base branch into a request that must contain it; return a refusal of git, else None.
        Raises Conflict.
        """
        made = update_commit(at, head=request.head_sha, base=self._base_commit, change_set=self._attempt.name)
        if isinstance(made, Refused):
            return made
        self._push(change, made.commit)
        self._attempt.todo.log(f"{self._base_commit[:12]} of {at.branch} is merged into {change.branch}")
        return None

    def _landing_of(
        self, at: BaseBranch, method: str, change: RepoChange, request: PullRequest, known: Mapping[str, Any]
    ) -> Landed:
        """Return the landing of a merged request. Raises AttemptEnd if the base branch lacks it yet."""
        commit = request.merge_commit
        if not commit or not contains(at, self._base_commit, commit):
            raise self._attempt.passing_trouble(
                f"{request.url} is merged, and {at.branch} does not have it yet", Reason.MOVED
            )
        head, since = request.head_sha, self._attempt.since(at, change, self._base_commit)
        ours = commit_in(known, "merging") == head
        before = tree_before(at, merged=commit, head=head, tip=change.tip, since=since)
        return self._attempt.sealed(change.tip, commit, before, method if ours else BY_PEOPLE)

    def _push(self, change: RepoChange, commit: str) -> None:
        """Push the branch of a change, never over a commit of somebody else. Raises Conflict, GitRefused."""
        with self._access.target(
            self._attempt.name, self._attempt.todo.repo, change, self._attempt.todo.checkout
        ) as target:
            push_branch(target, commit)

    def _delete_branch(self, change: RepoChange, request: PullRequest) -> None:
        """Delete the branch of a merged request at the forge, unless it is another one than coord's own or is
        not at the merged head. A refusal is no failure of the landing.
        """
        prefix = self._access.branch_prefix
        branch = change.branch_at_forge(prefix)
        if not self._attempt.todo.deletes_branches or not change.is_own(branch, prefix):
            return
        try:
            with self._access.target(
                self._attempt.name, self._attempt.todo.repo, change, self._attempt.todo.checkout
            ) as target:
                if delete_branch(target, request.head_sha):
                    self._attempt.todo.log(f"{branch} is deleted at the forge")
        except CoordinationError as error:
            self._attempt.todo.log(f"{branch} could not be deleted at the forge: {error.message}")

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
