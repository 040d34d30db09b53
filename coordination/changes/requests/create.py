"""Open the pull requests of a change set, or bring them up to date.

1. Inspect all repositories: the project, its rights, the request of the branch, the remote branch. A refusal
   here refuses all repositories, before anything is changed.
2. In landing order: push the branches; then open a request where there is none. Record it at once.
3. Update the text of each request, because it names the requests of all repositories; add labels and people.
   Set the status `coord/depends` of a request that depends on others.

A failure after step 1 affects its repository only; the same command completes it later.

A repository takes at most 6 calls: project, opening, status, labels, text with labels and assignees,
reviewers. One with an open request takes: project, request, its reviews, labels, text, reviewers; and the
status if one of these is not needed. Otherwise a landing sets the status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from coordination.changes.requests.access import ForgeAccess, Inspection
from coordination.changes.requests.proposal import (
    HIGHEST_NUMBER,
    PlannedRequests,
    RepoRequest,
    SectionContent,
    SetMember,
    depends_status,
    request_name,
    section_of,
    title_of,
    with_section,
    with_text,
)
from coordination.changes.requests.push import BranchRefused, push_branch
from coordination.changes.requests.records import (
    RequestAction,
    RequestOptions,
    RequestResult,
    now,
    seen_now,
)
from coordination.environment import actor
from coordination.errors import Blocked, CoordinationError
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.models import (
    NewRequest,
    PullRequest,
    RequestChanges,
    RequestState,
)
from coordination.forges.reading import refuse_long
from coordination.runs.change_sets.records import RequestRef

NO_STATUS = frozenset({ForgeProblem.FORBIDDEN, ForgeProblem.NOT_FOUND})
"""Refusals for a token that may not set statuses. They are ignored: coord does not need the status."""
Note = Callable[[str, RequestRef, str], None]
"""Records a request in the change set: repository, request, kind of the event. An empty kind records only the
state of the request, without an event.
"""


def previewed(
    planned: PlannedRequests, inspections: tuple[Inspection, ...], *, reopen: bool
) -> tuple[RequestResult, ...]:
    """Return the results that `make` would have, without changing anything. Raises ForgeError."""
    return tuple(
        _result(
            planned,
            inspected.item,
            _action_of(inspected),
            inspected.open_request or inspected.closed,
            pushed=inspected.needs_push and not inspected.is_merged,
        )
        if reopen or not inspected.closed
        else _left(planned, inspected, inspected.closed)
        for inspected in inspections
    )


def _action_of(inspected: Inspection) -> RequestAction:
    if inspected.is_merged:
        return RequestAction.NOTHING
    if inspected.closed:
        return RequestAction.WOULD_REOPEN
    return RequestAction.WOULD_UPDATE if inspected.open_request else RequestAction.WOULD_CREATE


class RequestMaker:
    """Opens and updates the requests of one change set."""

    def __init__(
        self, planned: PlannedRequests, options: RequestOptions, access: ForgeAccess, note: Note
    ) -> None:
        self._planned = planned
        self._options = options
        self._access = access
        self._note = note
        self._pushed: set[str] = set()
        self._members = {
            name: SetMember(repo=name, name=ref.name, url=ref.url, state=ref.seen.state if ref.seen else "")
            if (ref := change.request)
            else SetMember(repo=name)
            for name, change in planned.change_set.repos.items()
        }

    def refuse_long(self, inspections: tuple[Inspection, ...]) -> None:
        """Raise ForgeError (TOO_LONG) if the text of a request is longer than its forge takes, also once it
        names the requests that are still to be opened.
        """
        opened = {
            item.repo.name: SetMember(
                repo=item.repo.name,
                name=request_name(item.address, HIGHEST_NUMBER),
                url=item.repo.url or "",
                state=max(RequestState, key=len),
            )
            for item in (inspected.item for inspected in inspections)
            if not self._members[item.repo.name].url
        }
        members = self._members | opened
        for inspected in inspections:
            text = inspected.open_request.body if inspected.open_request else ""
            body = self._body(text, inspected.item, members)
            refuse_long(
                f"text of the request of {inspected.item.repo.name}", body, inspected.forge.longest_body
            )

    def make(self, inspections: tuple[Inspection, ...]) -> tuple[RequestResult, ...]:
        """Push, open and update; return a result for each repository."""
        results: dict[str, RequestResult] = {}
        opened: dict[str, PullRequest] = {}
        self._push_all(inspections, results)
        for inspected in inspections:
            name = inspected.item.repo.name
            if name in results:
                continue
            try:
                request, results[name] = self._open(inspected)
            except CoordinationError as error:
                results[name] = self._failed(inspected.item, error, inspected.open_request)
                continue
            if request is not None:
                opened[name] = request
                self._members[name] = SetMember(
                    repo=name,
                    name=request_name(inspected.item.address, request.number),
                    url=request.url,
                    state=request.state,
                )
        for inspected in inspections:
            name = inspected.item.repo.name
            if request := opened.get(name):
                try:
                    results[name] = self._update(inspected, request, results[name])
                except CoordinationError as error:
                    results[name] = self._failed(inspected.item, error, request)
        return tuple(results[inspected.item.repo.name] for inspected in inspections)

    def _push_all(self, inspections: tuple[Inspection, ...], results: dict[str, RequestResult]) -> None:
        """Push the branches that need it; note each failure. Where a remote takes no such branch, no request
        is opened: the rule may hold for the others, too.
        """
        refused = ""
        for inspected in inspections:
            item = inspected.item
            if inspected.is_merged or (inspected.closed and not self._options.reopen):
                continue
            try:
                self._push(item)
            except CoordinationError as error:
                results[item.repo.name] = self._failed(item, error, inspected.open_request)
                refused = refused or (item.repo.name if isinstance(error, BranchRefused) else "")
        for inspected in inspections if refused else ():
            name = inspected.item.repo.name
            if name not in results and inspected.open_request is None:
                what = f"the remote of {refused} refuses its branch, so no request is opened"
                why = Blocked(what, "remove that cause, and repeat the command")
                results[name] = self._failed(inspected.item, why, None)

    def _push(self, item: RepoRequest) -> None:
        with self._access.target(self._planned.plan, item.repo, item.change, item.checkout) as target:
            if push_branch(target, item.change.tip):
                self._pushed.add(item.repo.name)

    def make_one(self, inspected: Inspection) -> PullRequest | None:
        """Push, open and update the request of one repository; None: the branch has nothing to propose.

        Raises ForgeError, Conflict, GitRefused, Unreachable.
        """
        if not inspected.is_merged:
            self._push(inspected.item)
        request, result = self._open(inspected)
        if request is not None:
            self._update(inspected, request, result)
        return request

    def refresh(self, item: RepoRequest, forge: Forge, request: PullRequest) -> None:
        """Update the section in the text of a request from the records of the other requests."""
        inspected = Inspection(item=item, forge=forge, request=request, remote_tip=item.change.tip)
        self._update(
            inspected, request, _result(self._planned, item, RequestAction.UPDATED, request, pushed=False)
        )

    def _open(self, inspected: Inspection) -> tuple[PullRequest | None, RequestResult]:
        item = inspected.item
        if inspected.is_merged:  # GitLab would open a request without changes
            self._note_end(inspected)
            return None, _result(self._planned, item, RequestAction.NOTHING, None, pushed=False)
        if inspected.closed and not self._options.reopen:
            self._note_end(inspected)
            return None, _left(self._planned, inspected, inspected.closed)
        pushed = item.repo.name in self._pushed
        if inspected.open_request:
            request = self._as_draft(
                inspected.forge, inspected.open_request.model_copy(update={"head_sha": item.change.tip})
            )
            is_changed = pushed or request.state is not inspected.open_request.state
            action = RequestAction.UPDATED if is_changed else RequestAction.UNCHANGED
            self._record(item, request, "request.updated" if is_changed else "")
            return request, _result(self._planned, item, action, request, pushed=pushed)
        if inspected.closed and (again := self._reopened(inspected.forge, inspected.closed)):
            request = self._as_draft(inspected.forge, again)
            self._record(item, request, "request.opened")
            return request, _result(self._planned, item, RequestAction.REOPENED, request, pushed=pushed)
        new = NewRequest(
            head=self._branch_of(item),
            base=item.repo.branch,
            title=title_of(self._planned.title),
            body=self._body("", item),
            draft=self._options.draft is True,
        )
        try:
            request = inspected.forge.create(new)
        except ForgeError as error:
            if error.problem is ForgeProblem.NO_DIFFERENCE:
                self._note_end(inspected)
                return None, _result(self._planned, item, RequestAction.NOTHING, None, pushed=pushed)
            exists = error.problem is ForgeProblem.ALREADY_EXISTS
            found = inspected.forge.find(new.head) if exists else None
            if found is None or not found.is_open:
                raise
            request = self._as_draft(inspected.forge, found)
        self._record(item, request, "request.opened")
        return request, _result(self._planned, item, RequestAction.CREATED, request, pushed=pushed)

    @staticmethod
    def _reopened(forge: Forge, closed: PullRequest) -> PullRequest | None:
        """Open a request again; None where the forge does not, as GitHub after a rewritten branch."""
        try:
            return forge.reopen(closed.number)
        except ForgeError as error:
            if error.problem is not ForgeProblem.CLOSED:
                raise
            return None

    def _as_draft(self, forge: Forge, request: PullRequest) -> PullRequest:
        """Make a request a draft, or mark it as ready for review, as the options say."""
        if self._options.draft is True and request.state is RequestState.OPEN:
            return forge.set_draft(request, draft=True)
        if self._options.draft is False and request.state is RequestState.DRAFT:
            return forge.set_draft(request, draft=False)
        return request

    def _note_end(self, inspected: Inspection) -> None:
        """Record that people have merged or closed the request of a branch without new commits."""
        ref = inspected.item.change.request
        if inspected.request is None or ref is None or ref.number != inspected.request.number:
            return
        name, seen = inspected.item.repo.name, seen_now(inspected.request, ref.seen)
        self._note(name, ref.model_copy(update={"seen": seen}), "")
        self._members[name] = replace(self._members[name], state=seen.state)

    def _update(self, inspected: Inspection, request: PullRequest, result: RequestResult) -> RequestResult:
        options = self._options
        body = self._body(request.body, inspected.item)
        changes = RequestChanges(
            body=body if body != request.body else None,
            base=inspected.item.repo.branch if request.base != inspected.item.repo.branch else None,
            labels=_missing(options.labels, request.labels),
            assignees=_missing(options.assignees, request.assignees),
            reviewers=self._reviewers(inspected, request),
            teams=_missing(options.teams, request.teams),
        )
        is_changed = changes != RequestChanges()
        if request.author.casefold() in map(str.casefold, options.reviewers):
            result = _warned(result, f"{request.author} opened the request, and is not asked for a review")
        has_news = changes.body is not None and result.action is RequestAction.UNCHANGED
        if has_news or result.pushed or result.action in (RequestAction.CREATED, RequestAction.REOPENED):
            asks = bool(changes.reviewers or changes.teams)
            if not (inspected.open_request and changes.labels and asks):  # see the number of calls above
                result = _warned(result, self._tell_depends(inspected, request.head_sha))
        if is_changed:
            request = inspected.forge.update(request, changes)
        if is_changed and result.action is RequestAction.UNCHANGED:
            self._record(inspected.item, request, "request.updated")
            return result.model_copy(update={"action": RequestAction.UPDATED})
        return result

    def _tell_depends(self, inspected: Inspection, head: str) -> str:
        """Set the status `coord/depends` of a head; return why the forge does not let coord."""
        status = depends_status(self._planned.change_set, inspected.item.after)
        try:
            if status is not None:
                inspected.forge.set_status(head, status)
        except ForgeError as error:
            if error.problem not in NO_STATUS:
                raise
            return f"the status {status.context} could not be set: {error.message}" if status else ""
        return ""

    def _reviewers(self, inspected: Inspection, request: PullRequest) -> tuple[str, ...]:
        """Return the reviewers of the options whose review has neither been requested nor given. A forge asks
        nobody if the author is among them.
        """
        missing = _missing(self._options.reviewers, (*request.reviewers, request.author))
        if not missing or inspected.open_request is None:
            return missing
        return _missing(missing, tuple(review.author for review in inspected.forge.reviews(request.number)))

    def _body(self, body: str, item: RepoRequest, members: Mapping[str, SetMember] | None = None) -> str:
        """Return the text of a request. `members`: the requests that it names (default: those known now)."""
        if self._options.body is not None:
            body = with_text(body, self._options.body)
        planned, members = self._planned, members or self._members
        facts = SectionContent(
            plan=planned.plan,
            title=planned.title,
            issues=planned.issues,
            todos=[(todo, planned.todos.get(todo, "")) for todo in item.change.todos],
            criteria=[one for one in planned.criteria if one[0] in item.change.todos],
            agents=planned.agents.get(item.repo.name, ()),
            after=[members[name] for name in item.after if not planned.change_set.repos[name].landed],
            members=[
                replace(member, state="landed") if planned.change_set.repos[name].landed else member
                for name, member in sorted(members.items())
            ],
            near=(item.repo.name, *item.after, *item.followers),
        )
        return with_section(body, section_of(facts))

    def _record(self, item: RepoRequest, request: PullRequest, kind: str) -> None:
        before = item.change.request
        own = self._branch_of(item)
        same = before is not None and before.number == request.number
        ref = RequestRef(
            number=request.number,
            url=request.url,
            name=request_name(item.address, request.number),
            head=item.change.tip,
            by=before.by if before and same else actor(),
            at=before.at if before and same else now(),
            branch=before.branch if before and same else own if own != item.change.branch else "",
            seen=seen_now(request, before.seen if before and same else None),
        )
        if ref != before or kind:
            self._note(item.repo.name, ref, kind or "request.updated")

    def _branch_of(self, item: RepoRequest) -> str:
        """Return the branch of a request at the forge."""
        return item.change.branch_at_forge(self._planned.branch_prefix)

    def _failed(
        self, item: RepoRequest, error: CoordinationError, request: PullRequest | None
    ) -> RequestResult:
        pushed = item.repo.name in self._pushed
        failed = _result(self._planned, item, RequestAction.FAILED, request, pushed=pushed)
        return failed.model_copy(update={"error": str(error), "code": error.exit_code})


def _warned(result: RequestResult, warning: str) -> RequestResult:
    return result.model_copy(update={"warning": "; ".join(filter(None, (result.warning, warning)))})


def _missing(names: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that `known` lacks, each once; upper and lower case count as equal."""
    folded = {name.casefold() for name in known}
    return tuple(name for name in dict.fromkeys(names) if name.casefold() not in folded)


def _left(planned: PlannedRequests, inspected: Inspection, closed: PullRequest) -> RequestResult:
    """Return the result of a repository whose request was closed, and stays closed. Raises ForgeError."""
    left = _result(planned, inspected.item, RequestAction.LEFT, closed, pushed=False)
    return left.model_copy(update={"closed_by": inspected.forge.closer(closed.number)})


def _result(
    planned: PlannedRequests,
    item: RepoRequest,
    action: RequestAction,
    request: PullRequest | None,
    *,
    pushed: bool,
) -> RequestResult:
    return RequestResult(
        plan=planned.plan,
        repo=item.repo.name,
        action=action,
        number=request.number if request else None,
        url=request.url if request else "",
        branch=item.change.branch_at_forge(planned.branch_prefix),
        base=item.repo.branch,
        head=item.change.tip,
        pushed=pushed,
    )
