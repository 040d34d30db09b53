"""Words and records of GitLab: tokens, limits, refusals, merge requests, events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.forge.dialect import Broken, Call, Dialect, time
from tests.forge.records import Check, Hook, Issue, Person, Project, Refused, Request, Token, Why

P = "/projects/{id}"
LONGEST_BODY = 1_048_576
DRAFT = re.compile(r"^(draft:|\[draft\]|\(draft\))\s*", re.IGNORECASE)
_STATES = {"pending": "pending", "success": "success", "failure": "failed", "skipped": "skipped"}
_REFUSED = {
    Why.ABSENT: (404, "404 Not found"),
    Why.DELETED: (404, "404 Not found"),
    Why.FORBIDDEN: (403, "403 Forbidden"),
    Why.ARCHIVED: (403, "403 Forbidden"),
    Why.NO_HEAD: (422, ["Source branch does not exist"]),
    Why.NO_BASE: (422, ["Target branch does not exist"]),
    Why.TOO_LONG: (400, {"description": [f"is too long (maximum is {LONGEST_BODY} characters)"]}),
    Why.CONFLICT: (422, "Branch cannot be merged"),
    Why.BASE_MOVED: (409, "409 Conflict"),
    Why.OWN: (401, "401 Unauthorized"),
}
"""All others are 405: a request that cannot be merged now says no more."""


class GitLabBase(Dialect):
    name = "gitlab"
    prefix = "/api/v4"
    free_if_unchanged = False
    page_size = 20

    def token(self, headers: Mapping[str, str]) -> str:
        kind, _, value = headers.get("Authorization", "").partition(" ")
        return headers.get("PRIVATE-TOKEN") or (value if kind == "Bearer" else "")

    def unauthorized(self, token: Token | None) -> tuple[int, Any]:
        if token is None:
            return 401, {"message": "401 Unauthorized"}
        return 401, {"error": "invalid_token", "error_description": "Token was revoked."}

    def primary_limit(self) -> tuple[int, Any]:
        return 429, {"message": {"error": "This endpoint has been requested too many times."}}

    secondary_limit = primary_limit

    def limit_headers(self, left: int, limit: int, reset: int, *, exhausted: bool) -> dict[str, str]:
        values = {"Limit": limit, "Remaining": left, "Reset": reset, "Observed": limit - left}
        found = {f"RateLimit-{name}": str(value) for name, value in values.items()}
        wait_s = reset - int(self.core.now().timestamp())
        return found | ({"Retry-After": str(wait_s)} if exhausted else {})

    def page_headers(
        self, address: str, query: dict[str, str], number: int, last: int, size: int, total: int
    ) -> dict[str, str]:
        values = {"Page": number, "Per-Page": size, "Total": total, "Total-Pages": last}
        around = {"Next-Page": number + 1 if number < last else "", "Prev-Page": number - 1 or ""}
        links = super().page_headers(address, query, number, last, size, total)
        return {f"X-{name}": str(value) for name, value in (values | around).items()} | links

    def refuse(self, refused: Refused, call: Call) -> tuple[int, Any]:
        if refused.why is Why.DUPLICATE:
            number = refused.detail.split()[1]
            text = f"Another open merge request already exists for this source branch: !{number}"
            return 409, {"message": [text]}
        if refused.why is Why.HEAD_MOVED:
            return 409, {"message": f"SHA does not match HEAD of source branch: {refused.detail}"}
        status, message = _REFUSED.get(refused.why, (405, "405 Method Not Allowed"))
        return status, {"message": message}

    def _project(self, call: Call, right: str = "read") -> Project:
        try:
            project, is_earlier = self.core.project(call.values["id"])
            self.core.allow(project, call.person, "read")
        except Refused:
            raise Broken(404, {"message": "404 Project Not Found"}) from None
        if is_earlier and call.operation.startswith("GET"):
            rest = call.operation.partition(P)[2].format(**call.values)
            at = f"{self.site}{self.prefix}/projects/{project.id}{rest}"
            raise Broken(301, {"message": "301 Moved Permanently"}, {"Location": at})
        if is_earlier:
            raise Broken(405, {"message": "Non GET methods are not allowed for moved projects"})
        self.core.allow(project, call.person, right)
        return project

    def _found(self, call: Call, right: str = "read") -> tuple[Project, Request]:
        project = self._project(call, right)
        self.core.refresh(project)
        number = call.values["merge_request_iid"]
        return project, self.core.request(project, int(number) if number.isdecimal() else 0)

    def _basic(self, project: Project, request: Request) -> dict[str, Any]:
        return {
            "id": request.id,
            "iid": request.number,
            "project_id": project.id,
            "title": f"{'Draft: ' if request.draft else ''}{request.title}",
            "description": request.body,
            "state": state_of(request),
            "draft": request.draft,
            "source_branch": request.head,
            "target_branch": request.base,
            "source_project_id": project.id,
            "target_project_id": project.id,
            "sha": request.sha,
            "author": self._person(request.author),
            "assignees": [self._person(one) for one in request.assignees],
            "reviewers": [self._person(one) for one in request.reviewers],
            "labels": request.labels,
            "web_url": f"{self.site}/{project.full_name}/-/merge_requests/{request.number}",
            "created_at": time(request.at),
            "updated_at": time(request.changed),
            "merged_at": time(request.ended) if request.state == "merged" else None,
            "closed_at": time(request.ended) if request.state == "closed" else None,
            "closed_by": self._person(by) if request.state == "closed" and (by := request.ended_by) else None,
            "merge_user": self._person(by) if request.merge_commit and (by := request.ended_by) else None,
            "merge_commit_sha": request.merge_commit if request.method == "merge" else None,
            "squash_commit_sha": request.merge_commit if request.method == "squash" else None,
            "squash": request.method == "squash",
            **self._status(project, request, asked=False),
        }  # fmt: skip

    def _whole(self, project: Project, request: Request) -> dict[str, Any]:
        pipelines = self._pipelines(project, request.sha)
        ahead = project.bare.ahead(request.base_sha, request.sha)
        return self._basic(project, request) | {
            **self._status(project, request, asked=True),
            "head_pipeline": pipelines[0] if pipelines else None,
            "diff_refs": {"base_sha": request.base_sha, "head_sha": request.sha},
            "changes_count": str(len(ahead)) if ahead else None,
            "merge_error": None,
        }  # fmt: skip

    def _status(self, project: Project, request: Request, *, asked: bool) -> dict[str, Any]:
        """Say whether it can be merged; a list does not ask for the check, so it may say "unchecked"."""
        if request.state != "open":
            merged = "can_be_merged" if request.state == "merged" else "unchecked"
            return {"merge_status": merged, "detailed_merge_status": "not_open", "has_conflicts": False}
        known = (request.base_sha, request.sha) in project.asked or self.core.computes_at_once
        mergeable = self.core.mergeable(project, request) if asked or known else None
        words = {None: "checking" if asked else "unchecked", True: "can_be_merged", False: "cannot_be_merged"}
        word = words[mergeable]
        return {
            "merge_status": word,
            "detailed_merge_status": word if mergeable is None else self._detail(project, request, mergeable),
            "has_conflicts": mergeable is False,
        }  # fmt: skip

    def _detail(self, project: Project, request: Request, mergeable: bool) -> str:
        if project.bare.contains(request.base_sha, request.sha):
            return "commits_status"
        if not mergeable:
            return "conflict"
        for why, detail in self.core.obstacles(project, request):
            if why is not Why.BLOCKED:
                return {Why.DRAFT: "draft_status"}.get(why, "need_rebase")
            if detail.startswith("Changes"):
                return "requested_changes"
            return "ci_must_pass" if detail.startswith("Required") else "not_approved"
        is_behind = not project.bare.contains(request.sha, request.base_sha)
        return "need_rebase" if is_behind and "merge" not in project.methods else "mergeable"

    def _approvals(self, call: Call, project: Project, request: Request) -> dict[str, Any]:
        approvers, verdicts = self.core.approvers(project, request), self.core.verdicts(request)
        return {
            "approved": len(approvers) >= self.core.protection(project, request.base).approvals,
            "approved_by": [
                {"user": self._person(one), "approved_at": time(verdicts[one].at)} for one in approvers
            ],
            "user_has_approved": call.person in approvers,
            "user_can_approve": call.person is not request.author,
        }  # fmt: skip

    def _issue(self, project: Project, issue: Issue) -> dict[str, Any]:
        return {
            "id": issue.id,
            "iid": issue.number,
            "project_id": project.id,
            "title": issue.title,
            "description": issue.body,
            "state": "opened" if issue.is_open else "closed",
            "author": self._person(issue.author),
            "assignees": [self._person(one) for one in issue.assignees],
            "labels": issue.labels,
            "web_url": f"{self.site}/{project.full_name}/-/issues/{issue.number}",
            "created_at": time(issue.at),
            "updated_at": time(issue.changed),
            "closed_at": None if issue.is_open else time(issue.changed),
        }

    def _pipelines(self, project: Project, sha: str) -> list[dict[str, Any]]:
        """Return the external pipeline that the statuses of a commit make."""
        checks = self.core.checks(project, sha)
        if not checks:
            return []
        states = {one.state for one in checks}
        word = "failed" if "failure" in states else "running" if "pending" in states else "success"
        first = min(one.id for one in project.checks if one.sha == sha)
        return [{"id": first, "sha": sha, "status": word, "project_id": project.id}]

    def _check(self, project: Project, check: Check) -> dict[str, Any]:
        return {
            "id": check.id,
            "sha": check.sha,
            "name": check.name,
            "status": _STATES[check.state],
            "description": check.description or None,
            "target_url": check.url or None,
            "allow_failure": False,
            "created_at": time(check.at),
            "pipeline_id": self._pipelines(project, check.sha)[0]["id"],
        }

    def event(
        self, hook: Hook, project: Project, kind: str, action: str, what: Any, by: Person | None
    ) -> tuple[dict[str, str], Any] | None:
        about = {"id": project.id, "path_with_namespace": project.full_name}
        if kind == "check":
            attributes = self._pipelines(project, what.sha)[0]
            payload = {"object_kind": "pipeline", "object_attributes": attributes, "project": about}
            return {"X-Gitlab-Event": "Pipeline Hook"}, payload
        request = what[0] if isinstance(what, tuple) else what
        words = {"opened": "open", "closed": "merge" if request.state == "merged" else "close",
                 "reopened": "reopen", "submitted": "approved"}  # fmt: skip
        attributes = {"iid": request.number, "state": state_of(request),
                      "action": words.get(action, "update"), "source_branch": request.head,
                      "target_branch": request.base, "last_commit": {"id": request.sha}}  # fmt: skip
        payload = {"object_kind": "merge_request", "project": about, "object_attributes": attributes}
        return {"X-Gitlab-Event": "Merge Request Hook"}, payload

    def _person(self, person: Person) -> dict[str, Any]:
        return {"id": person.id, "username": person.login, "name": person.login.title(), "state": "active",
                "web_url": f"{self.site}/{person.login}"}  # fmt: skip


def state_of(request: Request) -> str:
    return {"open": "opened"}.get(request.state, request.state)


def names_in(labels: Any) -> list[str]:
    parts = labels.split(",") if isinstance(labels, str) else labels or []
    return [part.strip() for part in parts if part.strip()]
