"""The operations of issues at GitHub; labels and people of a request are those of the issue of its number."""

from __future__ import annotations

from typing import Any

from tests.forge.dialect import Call, Page, Status, on, time
from tests.forge.github_base import LONGEST_BODY, GitHubBase, R, invalid, issue_of, person
from tests.forge.records import Issue, Person, Project, Refused, Request, Why


class GitHubIssues(GitHubBase):
    @on(f"GET {R}/issues")
    def issues(self, call: Call) -> Any:
        project = self._project(call)
        state = call.query.get("state", "open")
        issues = [
            one for one in self.core.issues(project) if state == "all" or one.is_open == (state == "open")
        ]
        found = [issue_of(self.site, project, one) for one in issues]
        found += [
            self._as_issue(project, one)
            for one in project.requests
            if state == "all" or (one.state == "open") == (state == "open")
        ]
        is_descending = call.query.get("direction", "desc") == "desc"
        return Page(sorted(found, key=lambda one: int(one["number"]), reverse=is_descending))

    def _as_issue(self, project: Project, request: Request) -> dict[str, Any]:
        """Return a request as the list of issues has it."""
        at = f"{self.site}/{project.full_name}/pull/{request.number}"
        links = dict.fromkeys(("url", "html_url", "diff_url", "patch_url"), at)
        return self._issue_of_request(project, request) | {"pull_request": links}

    @on(f"GET {R}/issues/{{issue_number}}")
    def issue(self, call: Call) -> Any:
        project = self._project(call)
        number = int(call.values["issue_number"])
        for request in project.requests:
            if request.number == number:
                by = request.ended_by
                return self._as_issue(project, request) | {"closed_by": person(by) if by else None}
        return issue_of(self.site, project, self.core.issue(project, number))

    @on(f"POST {R}/issues")
    def open_issue(self, call: Call) -> Any:
        project, body = self._project(call), call.body
        self.core.allow(project, call.person, "read")
        if project.archived:
            raise Refused(Why.ARCHIVED)
        if len(body.get("body") or "") > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)
        may_set = project.members[call.person] != "read"  # else labels and people are left out without a word
        made = self.core.open_issue(
            project,
            call.person,
            title=body["title"],
            body=body.get("body") or "",
            labels=self._made_labels(project, body.get("labels", ())) if may_set else (),
            assignees=self._assignees(project, body) if may_set else (),
        )
        return Status(201, issue_of(self.site, project, made))

    def _made_labels(self, project: Project, names: Any) -> list[str]:
        """Return the labels; as at GitHub, an unknown one is made."""
        project.labels += [name for name in names if name not in project.labels]
        return list(dict.fromkeys(names))

    def _assignees(self, project: Project, body: dict[str, Any]) -> list[Person]:
        try:
            return [self._collaborator(project, login) for login in body.get("assignees", ())]
        except Refused:
            raise invalid("assignees", "invalid", resource="Issue") from None

    def _changed_issue(self, project: Project, issue: Issue, body: dict[str, Any]) -> Issue:
        self._set_texts(project, issue, body)
        issue.is_open = body.get("state", "open" if issue.is_open else "closed") == "open"
        return issue

    def _set_texts(self, project: Project, one: Issue | Request, body: dict[str, Any]) -> None:
        """Set title, body, labels and people of an issue or a request."""
        if len(body.get("body") or "") > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)
        if "assignees" in body:
            one.assignees = self._assignees(project, body)
        if "labels" in body:
            one.labels = self._made_labels(project, body["labels"])
        one.title, one.body = body.get("title", one.title), body.get("body", one.body)
        one.changed = self.core.now()

    @on(f"PATCH {R}/issues/{{issue_number}}")
    def change_issue(self, call: Call) -> Any:
        number = int(call.values["issue_number"])
        project = self._project(call)
        if number in project.deleted or any(one.number == number for one in project.issues):
            self.core.allow(project, call.person, "write")
            issue = self.core.issue(project, number)
            return issue_of(self.site, project, self._changed_issue(project, issue, call.body))
        project, request = self._found(call, "write")
        self._set_texts(project, request, call.body)
        return self._issue_of_request(project, request)

    def _issue_of_request(self, project: Project, request: Request) -> dict[str, Any]:
        whole = self._simple(project, request)
        shared = ("number", "html_url", "title", "body", "state", "user", "labels", "assignees", "created_at")
        return {name: whole[name] for name in shared} | {"updated_at": time(request.changed)}
