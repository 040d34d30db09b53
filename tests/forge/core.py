"""State and rules of the test forge, the same for each dialect: people, projects, requests, reviews, checks.

Facts about branches and merges are asked of git for each call; nothing about them is kept here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from tests.forge.records import (
    Check,
    Issue,
    Person,
    Project,
    Protection,
    Refused,
    Remark,
    Request,
    Review,
    Thread,
    Token,
    Why,
)
from tests.forge.repositories import Bare, Conflicting, Moved

Listener = Callable[[Project, str, str, object, Person | None], None]


class Core:
    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self.tokens: dict[str, Token] = {}
        self.projects: list[Project] = []
        self.clock_offset = timedelta()
        self.computes_at_once = False
        """True: `mergeable` is known at the first question; real forges compute it afterwards."""
        self.listeners: list[Listener] = []
        self._ids = itertools.count(1001)

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0) + self.clock_offset

    def id(self) -> int:
        return next(self._ids)

    def person(self, login: str) -> Person:
        return self.people.setdefault(login, Person(self.id(), login))

    def emit(self, project: Project, kind: str, action: str, what: object, by: Person | None = None) -> None:
        for listener in self.listeners:
            listener(project, kind, action, what, by)

    def project(self, name: str) -> tuple[Project, bool]:
        """Return a project by name or id, and whether the name is an earlier one."""
        for project in self.projects:
            if name.lower() in (project.full_name.lower(), str(project.id)):
                return project, False
        for project in self.projects:
            if name in project.earlier_names:
                return project, True
        raise Refused(Why.ABSENT)

    def allow(self, project: Project, person: Person, right: str) -> None:
        """Refuse a person who lacks read, write or admin."""
        rights = ("", "read", "write", "admin")
        if rights.index(project.members.get(person, "")) == 0:
            raise Refused(Why.ABSENT)
        if right != "read" and project.archived:
            raise Refused(Why.ARCHIVED)
        if rights.index(project.members[person]) < rights.index(right):
            raise Refused(Why.FORBIDDEN)

    def refresh(self, project: Project) -> dict[str, str]:
        """Take in pushes: heads that moved, deleted branches, and merges by hand. Return the branches."""
        branches = project.bare.branches()
        for request in project.requests:
            if request.state == "open":
                self._refresh(project, request, branches)
        return branches

    def _refresh(self, project: Project, request: Request, branches: dict[str, str]) -> None:
        head, base = branches.get(request.head), branches.get(request.base)
        if head is not None and head != request.sha:
            request.sha, request.changed, request.queued = head, self.now(), ""
            project.queue = [one for one in project.queue if one is not request]
            if self.protection(project, request.base).dismiss_stale:
                for review in request.reviews:
                    review.state = "dismissed" if review.state == "approved" else review.state
            self._keep_ref(project, request)
            self.emit(project, "request", "synchronize", request)
        if base is not None and base != request.base_sha:
            request.base_sha = base
            if project.bare.contains(base, request.sha):
                self._end(project, request, "merged", None, commit=request.sha)
        if head is None and request.state == "open":
            self._end(project, request, "closed", None)

    def _keep_ref(self, project: Project, request: Request) -> None:
        kinds = ("pull", "merge-requests")
        project.bare.keep(request.sha, *(f"refs/{kind}/{request.number}/head" for kind in kinds))

    def _end(
        self, project: Project, request: Request, state: str, by: Person | None, commit: str = ""
    ) -> None:
        request.state, request.ended, request.ended_by = state, self.now(), by
        request.changed, request.merge_commit, request.queued = self.now(), commit, ""
        project.queue = [one for one in project.queue if one is not request]
        self.emit(project, "request", "closed", request, by)

    def protection(self, project: Project, branch: str) -> Protection:
        return project.protections.get(branch, Protection(dismiss_stale=False, locked=False))

    def protect(self, project: Project, branch: str, protection: Protection) -> None:
        project.protections[branch] = protection
        project.bare.protect([name for name, rule in project.protections.items() if rule.locked])

    def request(self, project: Project, number: int) -> Request:
        for request in project.requests:
            if request.number == number:
                return request
        raise Refused(Why.ABSENT)

    def open_request(
        self,
        project: Project,
        by: Person,
        *,
        head: str,
        base: str,
        title: str,
        body: str,
        draft: bool,
        empty: bool,
    ) -> Request:
        """Open a request; `empty`: also one without commits of its own (GitLab)."""
        branches = self.refresh(project)
        if head not in branches:
            raise Refused(Why.NO_HEAD, head)
        if base not in branches:
            raise Refused(Why.NO_BASE, base)
        self._refuse_second(project, head, base)
        if not empty and project.bare.contains(branches[base], branches[head]):
            raise Refused(Why.NO_DIFFERENCE, f"{base} and {head}")
        request = Request(
            id=self.id(), number=self._next_number(project), title=title, body=body, head=head, base=base,
            author=by, sha=branches[head], base_sha=branches[base], at=self.now(), draft=draft,
        )  # fmt: skip
        project.requests.append(request)
        self._keep_ref(project, request)
        self.emit(project, "request", "opened", request, by)
        return request

    def _next_number(self, project: Project) -> int:
        """Return the number of the next request: after a request, or an issue where it is the highest."""
        return max([len(project.requests), *(one.number for one in project.issues)]) + 1

    def issue(self, project: Project, number: int) -> Issue:
        if not project.has_issues or number in project.deleted:
            raise Refused(Why.DELETED)
        for issue in project.issues:
            if issue.number == number:
                return issue
        raise Refused(Why.ABSENT)

    def issues(self, project: Project, state: str = "all") -> list[Issue]:
        """Return the issues that are open, clos(ed), or all."""
        if not project.has_issues:
            raise Refused(Why.ABSENT)
        return [one for one in project.issues if state == "all" or one.is_open == (state == "open")]

    def open_issue(
        self,
        project: Project,
        by: Person,
        *,
        title: str,
        body: str = "",
        labels: Iterable[str] = (),
        assignees: Iterable[Person] = (),
        shared: bool = True,
    ) -> Issue:
        """Open an issue; `shared`: requests and issues are numbered together (not at GitLab)."""
        self.issues(project)
        taken = [*project.deleted, *(one.number for one in project.issues)]
        taken += [one.number for one in project.requests] if shared else []
        issue = Issue(self.id(), max(taken, default=0) + 1, title, body, by, self.now())
        issue.labels, issue.assignees = list(labels), list(assignees)
        project.issues.append(issue)
        return issue

    def delete_issue(self, project: Project, number: int) -> None:
        project.issues.remove(self.issue(project, number))
        project.deleted.add(number)

    def _refuse_second(self, project: Project, head: str, base: str) -> None:
        for other in project.requests:
            if other.state == "open" and (other.head, other.base) == (head, base):
                raise Refused(Why.DUPLICATE, f"{head} {other.number}")

    def close(self, project: Project, request: Request, by: Person | None) -> None:
        if request.state == "merged":
            raise Refused(Why.NOT_OPEN)
        if request.state == "open":
            self._end(project, request, "closed", by)

    def reopen(self, project: Project, request: Request, by: Person | None) -> None:
        branches = self.refresh(project)
        if request.state == "merged" or request.head not in branches:
            raise Refused(Why.NOT_OPEN)
        if request.state == "closed":
            self._refuse_second(project, request.head, request.base)
            request.state, request.ended, request.ended_by = "open", None, None
            self.emit(project, "request", "reopened", request, by)
            self.refresh(project)

    def review(
        self, project: Project, request: Request, by: Person, state: str, sha: str = "", body: str = ""
    ) -> Review:
        self.refresh(project)
        if by is request.author and state != "commented":
            raise Refused(Why.OWN)
        if state != "commented" and sha and sha != request.sha:
            raise Refused(Why.HEAD_MOVED, request.sha)
        review = Review(self.id(), by, state, sha or request.sha, self.now(), body)
        request.reviews.append(review)
        request.reviewers = [one for one in request.reviewers if one is not by]
        request.changed = self.now()
        self.emit(project, "review", "submitted", (request, review), by)
        return review

    def remark(
        self, project: Project, request: Request, by: Person, path: str, line: int, body: str
    ) -> Thread:
        """Comment on a line: in its thread, else in a new one."""
        thread = next((one for one in request.threads if (one.path, one.line) == (path, line)), None)
        if thread is None:
            thread = Thread(self.id(), path, line)
            request.threads.append(thread)
        return self.reply(project, request, by, thread, body)

    def reply(self, project: Project, request: Request, by: Person, thread: Thread, body: str) -> Thread:
        review = self.review(project, request, by, "commented")
        thread.remarks.append(Remark(self.id(), by, body, review.id))
        return thread

    def verdicts(self, request: Request) -> dict[Person, Review]:
        """Return the last verdict of each person; a comment is none."""
        return {one.person: one for one in request.reviews if one.state != "commented"}

    def approvers(self, project: Project, request: Request) -> list[Person]:
        may = [person for person, right in project.members.items() if right != "read"]
        return [who for who, one in self.verdicts(request).items() if one.state == "approved" and who in may]

    def set_check(self, project: Project, commit: str, name: str, state: str, **more: object) -> Check:
        sha = project.bare.commit(commit)
        if sha is None:
            raise Refused(Why.ABSENT)
        check = Check(id=self.id(), sha=sha, name=name, state=state, at=self.now(), **{"run": False, **more})
        project.checks.append(check)
        self.emit(project, "check", state, check, check.person)
        return check

    def log_of(self, job: str) -> str:
        """Return the log of a job of any project. Raises Refused where there is none."""
        found = (one for project in self.projects for one in project.checks if str(one.id) == job)
        if (check := next(found, None)) is None or check.log is None:
            raise Refused(Why.ABSENT)
        return check.log

    def checks(self, project: Project, sha: str) -> list[Check]:
        """Return the newest check of each name, sorted by name."""
        newest = {(one.name, one.run): one for one in project.checks if one.sha == sha}
        return [newest[key] for key in sorted(newest)]

    def mergeable(self, project: Project, request: Request) -> bool | None:
        """Say whether git merges it; None: the forge is still computing, as on the first question."""
        pair = (request.base_sha, request.sha)
        if pair not in project.asked and not self.computes_at_once:
            project.asked.add(pair)
            return None
        try:
            project.bare.merged_tree(*pair)
        except Conflicting:
            return False
        return True

    def obstacles(self, project: Project, request: Request) -> Iterator[tuple[Why, str]]:
        """Say which rules refuse the merge, the first one first."""
        rule = self.protection(project, request.base)
        if request.draft:
            yield Why.DRAFT, ""
        if (
            any(one.state == "changes_requested" for one in self.verdicts(request).values())
            and rule.approvals
        ):
            yield Why.BLOCKED, "Changes requested"
        if len(self.approvers(project, request)) < rule.approvals:
            yield (
                Why.BLOCKED,
                f"At least {rule.approvals} approving review is required by reviewers with write access.",
            )
        states = {one.name: one.state for one in self.checks(project, request.sha)}
        for name in rule.checks:
            if states.get(name) not in ("success", "skipped"):
                yield Why.BLOCKED, f'Required status check "{name}" is {states.get(name, "expected")}.'
        if rule.up_to_date and not project.bare.contains(request.sha, request.base_sha):
            yield Why.NOT_BEHIND, "The head branch is not up to date with the base branch."

    def merge(
        self,
        project: Project,
        request: Request,
        by: Person,
        *,
        method: str,
        sha: str,
        message: str,
        through_queue: bool = False,
    ) -> str:
        """Merge now, by git; return the commit on the base branch."""
        branches = self.refresh(project)
        if request.state != "open":
            raise Refused(Why.NOT_OPEN)
        if method not in project.methods and method != "ff":
            raise Refused(Why.METHOD, method)
        if self.protection(project, request.base).queue and not through_queue:
            raise Refused(Why.QUEUE)
        for why, detail in self.obstacles(project, request):
            raise Refused(why, detail)
        if sha and sha != request.sha:
            raise Refused(Why.HEAD_MOVED, request.sha)
        base = branches[request.base]
        try:
            commit = self._merged(project.bare, request, base, method, message)
            project.bare.move(request.base, commit, base)
        except Conflicting:
            raise Refused(Why.CONFLICT) from None
        except Moved:
            raise Refused(Why.BASE_MOVED) from None
        request.method = method
        self._end(project, request, "merged", by, commit=commit)
        self.refresh(project)
        return commit

    def _merged(self, bare: Bare, request: Request, base: str, method: str, message: str) -> str:
        if method == "rebase":
            return bare.replay(base, request.sha)
        if method == "ff":
            if not bare.contains(request.sha, base):
                raise Conflicting
            return request.sha
        parents = (base,) if method == "squash" else (base, request.sha)
        return bare.commit_tree(bare.merged_tree(base, request.sha), *parents, message=message)

    def enqueue(self, project: Project, request: Request, sha: str) -> None:
        self.refresh(project)
        if request.state != "open":
            raise Refused(Why.NOT_OPEN)
        if not self.protection(project, request.base).queue:
            raise Refused(Why.METHOD, "no merge queue")
        if sha and sha != request.sha:
            raise Refused(Why.HEAD_MOVED, request.sha)
        for why, detail in self.obstacles(project, request):
            raise Refused(why, detail)
        request.queued = request.sha
        project.queue = [one for one in project.queue if one is not request] + [request]

    def run_queue(self, project: Project) -> list[int]:
        """Merge all that wait in the merge queue, in order; one that cannot be merged leaves it."""
        self.refresh(project)
        merged = []
        for request in list(project.queue):
            queued, project.queue = request.queued, [one for one in project.queue if one is not request]
            try:
                self.merge(
                    project, request, request.author, method=project.methods[0], sha=queued,
                    message=f"Merge pull request #{request.number} from {request.head}", through_queue=True,
                )  # fmt: skip
                merged.append(request.number)
            except Refused:
                request.queued = ""
                self.emit(project, "request", "dequeued", request)
        return merged
