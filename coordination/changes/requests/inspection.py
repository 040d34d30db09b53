"""Inspect the repositories of a change set before anything is changed: project, rights, request, branch."""

from __future__ import annotations

from dataclasses import dataclass

from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.proposal import PlannedRequests, RepoRequest
from coordination.changes.requests.push import refuse_foreign, refuse_unsent, remote_tips
from coordination.errors import Conflict, CoordinationError
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.models import PullRequest, Repository, RequestState
from coordination.runs.change_sets.records import RepoChange
from coordination.text import quoted


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A repository before anything is changed."""

    item: RepoRequest
    forge: Forge
    request: PullRequest | None
    """The request of its branch: the open one, else the newest."""
    remote_tip: str
    """The commit of the branch at the remote; empty without one."""

    @property
    def open_request(self) -> PullRequest | None:
        return self.request if self.request and self.request.is_open else None

    @property
    def is_merged(self) -> bool:
        """Return whether people have merged this tip by its request."""
        request, tip = self.request, self.item.change.tip
        return bool(request and request.state is RequestState.MERGED and request.head_sha == tip)

    @property
    def needs_push(self) -> bool:
        return self.remote_tip != self.item.change.tip


def inspect_all(planned: PlannedRequests, access: ForgeAccess) -> tuple[Inspection, ...]:
    """Inspect all repositories. Raises the first refusal, with the names of the other refused ones."""
    with access.pool() as pool:
        futures = [(item, pool.submit(inspect, planned.plan, item, access)) for item in planned.repos]
    inspections, refused = [], dict[str, CoordinationError]()
    for item, future in futures:
        try:
            inspections.append(future.result())
        except CoordinationError as error:
            refused[item.repo.name] = error
    if refused:
        first, *others = refused
        refusal = refused[first]
        also = f"; refused, too: {', '.join(others)}" if others else ""
        refusal.message = f"{first}: {refusal.message}{also}; nothing was changed"
        raise refusal
    return tuple(inspections)


def inspect(plan: str, item: RepoRequest, access: ForgeAccess) -> Inspection:
    """Inspect one repository.

    Raises Conflict, ForgeError, GitRefused, Unreachable if its change set must not be proposed.
    """
    change = item.change
    if change.set_back_by:
        raise Conflict(
            f"run {change.set_back_by} has set the work in {item.repo.name} back behind its pull request",
            f"the next run adds the inverse of it: coord sweep {quoted(plan)}; then try again",
        )
    forge = access.forge(item.repo.name, item.address)
    _refuse_repository(forge.repository())
    with access.target(item.repo, change, item.checkout) as target:
        tips = remote_tips(target)
        refuse_foreign(target, tips.branch, change.tip)
        if tips.branch != change.tip:
            refuse_unsent(target, tips.base, change.tip, change.base, plan)
    request = forge.find(change.forge_branch) if tips.branch or change.request else None
    if tips.branch != change.tip:
        refuse_unproposed(item.repo.name, change, request)
    return Inspection(item=item, forge=forge, request=request, remote_tip=tips.branch)


def refuse_unproposed(repo: str, change: RepoChange, request: PullRequest | None) -> None:
    """Raise Conflict where the change set is said to be on somebody else's branch, and the forge has no open
    request of that: a record of Redis proves nothing, and a push would move any branch.
    """
    ref = change.request
    if ref is None or change.forge_branch == change.branch:
        return
    if not (request and request.is_open and (request.number, request.head) == (ref.number, ref.branch)):
        raise Conflict(
            f"the change set is said to be on {ref.branch} of {repo}, of which {ref.name} is no open request",
            f"reopen that; or adopt another one: coord adopt PLAN {repo} --pr N",
        )


def _refuse_repository(repository: Repository) -> None:
    if repository.archived:
        raise ForgeError(
            ForgeProblem.ARCHIVED,
            f"{repository.project} is archived: nothing can be changed",
            "unarchive it at the forge; or leave it out: --repo",
        )
    if not repository.can_push:
        raise ForgeError(
            ForgeProblem.FORK_NEEDED,
            f"the token may not push to {repository.project}, and coord does not work through forks",
            "give its owner write access; see: coord credential list",
        )
