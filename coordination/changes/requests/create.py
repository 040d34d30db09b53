"""Open the pull requests of a change set, or bring them up to date.

1. All repositories are looked at: the project, its rights, the request of the branch, the remote branch.
   Whatever refuses here refuses all: nothing has been changed yet.
2. In landing order: the branch is pushed, and the request opened where there is none. It is recorded at once.
3. The text of each is brought up to date, because it names the requests of all; labels and people are added.

   The status `coord/depends` is set where a request depends on others.

Failures after 1 belong to their repository, and the others go on; the same command does the rest later.
At most 6 calls for a repository: project, opening, status, labels, text with labels and assignees, reviewers;
or, of one that is open: project, request, its reviews, labels, text, reviewers, and the status where one of
these is not needed. A landing sets it otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.proposal import (
    PlannedRequests,
    RepoRequest,
    SectionFacts,
    SetMember,
    depends_status,
    request_name,
    section_of,
    title_of,
    with_section,
    with_text,
)
from coordination.changes.requests.push import push_branch, refuse_foreign, remote_tip
from coordination.changes.requests.records import (
    RequestAction,
    RequestOptions,
    RequestResult,
    now,
    seen_now,
)
from coordination.environment import actor
from coordination.errors import Conflict, CoordinationError
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.models import (
    NewRequest,
    PullRequest,
    Repository,
    RequestChanges,
    RequestState,
)
from coordination.forges.reading import refuse_long
from coordination.runs.change_sets.records import RepoChange, RequestRef

NO_STATUS = frozenset({ForgeProblem.FORBIDDEN, ForgeProblem.NOT_FOUND})
"""Refusals of a token that may not set statuses: nothing depends on them."""
Note = Callable[[str, RequestRef, str], None]
"""(repository, request, kind of event): records a request in the change set; without a kind, its state."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A repository as it was found before anything was changed."""

    one: RepoRequest
    forge: Forge
    found: PullRequest | None
    """The request of its branch: the open one, else the newest."""
    there: str
    """The commit of the branch at the remote; empty without one."""

    @property
    def open(self) -> PullRequest | None:
        return self.found if self.found and self.found.is_open else None

    @property
    def pushes(self) -> bool:
        return self.there != self.one.change.tip


def look_at_all(planned: PlannedRequests, access: ForgeAccess) -> tuple[Looked, ...]:
    """Return all repositories as they are. Raises the first refusal, with the names of further ones."""
    with access.pool() as pool:
        waiting = [(one, pool.submit(look_at, one, access)) for one in planned.repos]
    looked, refused = [], dict[str, CoordinationError]()
    for one, future in waiting:
        try:
            looked.append(future.result())
        except CoordinationError as error:
            refused[one.repo.name] = error
    if refused:
        first, *others = refused
        refusal = refused[first]
        also = f"; refused, too: {', '.join(others)}" if others else ""
        refusal.message = f"{first}: {refusal.message}{also}; nothing was changed"
        raise refusal
    return tuple(looked)


def look_at(one: RepoRequest, access: ForgeAccess) -> Looked:
    """Return a repository as it is. Raises where nothing may be proposed."""
    if one.change.behind:
        raise Conflict(
            f"run {one.change.behind} has set the work in {one.repo.name} back behind what its request shows",
            "the next run adds the inverse of it: coord sweep PLAN; then try again",
        )
    forge = access.forge(one.repo.name, one.address)
    _refuse_repository(forge.repository())
    with access.target(one.repo, one.change, one.checkout) as target:
        there = remote_tip(target)
        refuse_foreign(target, there, one.change.tip)
    found = forge.find(one.change.forge_branch) if there or one.change.request else None
    if there != one.change.tip:
        refuse_unproposed(one.repo.name, one.change, found)
    return Looked(one=one, forge=forge, found=found, there=there)


def refuse_unproposed(repo: str, change: RepoChange, found: PullRequest | None) -> None:
    """Raise Conflict where the change set is said to be on somebody else's branch, and the forge has no open
    request of that: a record of Redis proves nothing, and a push would move any branch.
    """
    ref = change.request
    if ref is None or change.forge_branch == change.branch:
        return
    if not (found and found.is_open and (found.number, found.head) == (ref.number, ref.branch)):
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


def previewed(planned: PlannedRequests, looked: tuple[Looked, ...]) -> tuple[RequestResult, ...]:
    """Return what would be done."""
    return tuple(
        _result(
            planned,
            at.one,
            RequestAction.WOULD_UPDATE if at.open else RequestAction.WOULD_CREATE,
            at.open,
            pushed=at.pushes,
        )
        for at in looked
    )


class RequestMaker:
    """Opens and updates the requests of one change set."""

    def __init__(
        self, planned: PlannedRequests, options: RequestOptions, access: ForgeAccess, note: Note
    ) -> None:
        self._planned = planned
        self._options = options
        self._access = access
        self._note = note
        self._members = {
            name: SetMember(repo=name, name=ref.name, url=ref.url, state=ref.seen.state if ref.seen else "")
            if (ref := one.request)
            else SetMember(repo=name)
            for name, one in planned.change_set.repos.items()
        }

    def refuse_long(self, looked: tuple[Looked, ...]) -> None:
        """Raise ForgeError (TOO_LONG) where a forge would not take the text of a request."""
        for at in looked:
            body = self._body(at.open.body if at.open else "", at.one)
            refuse_long(f"text of the request of {at.one.repo.name}", body, at.forge.longest_body)

    def make(self, looked: tuple[Looked, ...]) -> tuple[RequestResult, ...]:
        """Push, open and update; return a result for each repository."""
        results: dict[str, RequestResult] = {}
        opened: dict[str, PullRequest] = {}
        for at in looked:
            name = at.one.repo.name
            try:
                request, results[name] = self._open(at)
            except CoordinationError as error:
                results[name] = self._failed(at.one, error, at.open)
                continue
            if request is not None:
                opened[name] = request
                self._members[name] = SetMember(
                    repo=name,
                    name=request_name(at.one.address, request.number),
                    url=request.url,
                    state=request.state,
                )
        for at in looked:
            name = at.one.repo.name
            if request := opened.get(name):
                try:
                    results[name] = self._bring_up_to_date(at, request, results[name])
                except CoordinationError as error:
                    results[name] = self._failed(at.one, error, request)
        return tuple(results[at.one.repo.name] for at in looked)

    def make_one(self, at: Looked) -> PullRequest | None:
        """Push, open and update the request of one repository; None: the branch has nothing to propose.

        Raises ForgeError, Conflict, GitRefused, Unreachable.
        """
        request, result = self._open(at)
        if request is not None:
            self._bring_up_to_date(at, request, result)
        return request

    def refresh(self, one: RepoRequest, forge: Forge, request: PullRequest) -> None:
        """Bring the section of a request's text up to date, by what the change set records of the others."""
        at = Looked(one=one, forge=forge, found=request, there=one.change.tip)
        self._bring_up_to_date(
            at, request, _result(self._planned, one, RequestAction.UPDATED, request, pushed=False)
        )

    def _open(self, at: Looked) -> tuple[PullRequest | None, RequestResult]:
        one = at.one
        with self._access.target(one.repo, one.change, one.checkout) as target:
            pushed = push_branch(target, one.change.tip)
        if at.open:
            request = self._as_draft(at.forge, at.open.model_copy(update={"head_sha": one.change.tip}))
            is_changed = pushed or request.state is not at.open.state
            action = RequestAction.UPDATED if is_changed else RequestAction.UNCHANGED
            self._record(one, request, "request.updated" if is_changed else "")
            return request, _result(self._planned, one, action, request, pushed=pushed)
        new = NewRequest(
            head=one.change.forge_branch,
            base=one.repo.branch,
            title=title_of(self._planned.title),
            body=self._body("", one),
            draft=self._options.draft,
        )
        try:
            request = at.forge.create(new)
        except ForgeError as error:
            if error.problem is ForgeProblem.NO_DIFFERENCE:
                self._note_end(at)
                return None, _result(self._planned, one, RequestAction.NOTHING, None, pushed=pushed)
            exists = error.problem is ForgeProblem.ALREADY_EXISTS
            found = at.forge.find(new.head) if exists else None
            if found is None or not found.is_open:
                raise
            request = self._as_draft(at.forge, found)
        self._record(one, request, "request.opened")
        return request, _result(self._planned, one, RequestAction.CREATED, request, pushed=pushed)

    def _as_draft(self, forge: Forge, request: PullRequest) -> PullRequest:
        """Make it a draft, or ready for review, as the options say."""
        if self._options.draft and request.state is RequestState.OPEN:
            return forge.set_draft(request, draft=True)
        if self._options.ready and request.state is RequestState.DRAFT:
            return forge.set_draft(request, draft=False)
        return request

    def _note_end(self, at: Looked) -> None:
        """Record that people have merged or closed the request of a branch which has nothing new."""
        ref = at.one.change.request
        if at.found is None or ref is None or ref.number != at.found.number:
            return
        name, seen = at.one.repo.name, seen_now(at.found, ref.seen)
        self._note(name, ref.model_copy(update={"seen": seen}), "")
        self._members[name] = replace(self._members[name], state=seen.state)

    def _bring_up_to_date(self, at: Looked, request: PullRequest, result: RequestResult) -> RequestResult:
        options = self._options
        body = self._body(request.body, at.one)
        changes = RequestChanges(
            body=body if body != request.body else None,
            base=at.one.repo.branch if request.base != at.one.repo.branch else None,
            labels=_missing(options.labels, request.labels),
            assignees=_missing(options.assignees, request.assignees),
            reviewers=self._reviewers(at, request),
            teams=_missing(options.teams, request.teams),
        )
        is_changed = changes != RequestChanges()
        has_news = changes.body is not None and result.action is RequestAction.UNCHANGED
        if has_news or result.pushed or result.action is RequestAction.CREATED:
            asks = bool(changes.reviewers or changes.teams)
            if not (at.open and changes.labels and asks):  # see the number of calls above
                result = result.model_copy(update={"warning": self._tell_depends(at, request.head_sha)})
        if is_changed:
            request = at.forge.update(request, changes)
        if is_changed and result.action is RequestAction.UNCHANGED:
            self._record(at.one, request, "request.updated")
            return result.model_copy(update={"action": RequestAction.UPDATED})
        return result

    def _tell_depends(self, at: Looked, head: str) -> str:
        """Set the status `coord/depends` of a head; return why the forge does not let coord."""
        status = depends_status(self._planned.change_set, at.one.after)
        try:
            if status is not None:
                at.forge.set_status(head, status)
        except ForgeError as error:
            if error.problem not in NO_STATUS:
                raise
            return f"the status {status.context} could not be set: {error.message}" if status else ""
        return ""

    def _reviewers(self, at: Looked, request: PullRequest) -> tuple[str, ...]:
        """Return the people to ask: without those who are asked, or have answered, already."""
        missing = _missing(self._options.reviewers, request.reviewers)
        if not missing or at.open is None:
            return missing
        return _missing(missing, tuple(review.author for review in at.forge.reviews(request.number)))

    def _body(self, body: str, one: RepoRequest) -> str:
        if self._options.body is not None:
            body = with_text(body, self._options.body)
        planned = self._planned
        facts = SectionFacts(
            plan=planned.plan,
            title=planned.title,
            issues=planned.issues,
            todos=[(todo, planned.todos.get(todo, "")) for todo in one.change.todos],
            after=[self._members[name] for name in one.after if not planned.change_set.repos[name].landed],
            members=[
                replace(member, state="landed") if planned.change_set.repos[name].landed else member
                for name, member in sorted(self._members.items())
            ],
        )
        return with_section(body, section_of(facts))

    def _record(self, one: RepoRequest, request: PullRequest, kind: str) -> None:
        before = one.change.request
        same = before is not None and before.number == request.number
        ref = RequestRef(
            number=request.number,
            url=request.url,
            name=request_name(one.address, request.number),
            head=one.change.tip,
            by=before.by if before and same else actor(),
            at=before.at if before and same else now(),
            branch=before.branch if before and same else "",
            seen=seen_now(request, before.seen if before and same else None),
        )
        if ref != before or kind:
            self._note(one.repo.name, ref, kind or "request.updated")

    def _failed(
        self, one: RepoRequest, error: CoordinationError, request: PullRequest | None
    ) -> RequestResult:
        failed = _result(self._planned, one, RequestAction.FAILED, request, pushed=False)
        return failed.model_copy(update={"error": str(error), "code": error.exit_code})


def _missing(wanted: tuple[str, ...], there: tuple[str, ...]) -> tuple[str, ...]:
    known = {name.casefold() for name in there}
    return tuple(name for name in dict.fromkeys(wanted) if name.casefold() not in known)


def _result(
    planned: PlannedRequests,
    one: RepoRequest,
    action: RequestAction,
    request: PullRequest | None,
    *,
    pushed: bool,
) -> RequestResult:
    return RequestResult(
        plan=planned.plan,
        repo=one.repo.name,
        action=action,
        number=request.number if request else None,
        url=request.url if request else "",
        branch=one.change.branch,
        base=one.repo.branch,
        head=one.change.tip,
        pushed=pushed,
    )
