"""Words and records of GitHub: tokens, limits, refusals, pull requests, events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.forge.dialect import Broken, Call, Dialect, time
from tests.forge.records import (
    Check,
    Hook,
    Issue,
    Person,
    Project,
    Protection,
    Refused,
    Request,
    Review,
    Token,
    Why,
)

R = "/repos/{owner}/{repo}"
LONGEST_BODY = 65536
_ACTS = {
    Why.CONFLICT: (405, "Pull Request is not mergeable"),
    Why.NOT_OPEN: (405, "Pull Request is not mergeable"),
    Why.DRAFT: (405, "Pull Request is still a draft"),
    Why.QUEUE: (405, "Repository rule violations found\n\nChanges must be made through the merge queue"),
    Why.HEAD_MOVED: (409, "Head branch was modified. Review and try the merge again."),
    Why.BASE_MOVED: (405, "Base branch was modified. Review and try the merge again."),
    Why.FORBIDDEN: (403, "Resource not accessible by personal access token"),
    Why.ARCHIVED: (403, "Repository was archived so is read-only."),
    Why.ABSENT: (404, "Not Found"),
    Why.DELETED: (410, "This issue was deleted"),
    Why.UNKNOWN_PERSON: (
        422,
        "Reviews may only be requested from collaborators. One or more of the users or teams you specified "
        "is not a collaborator of the repository.",
    ),
}


def invalid(field: str, code: str, message: str = "", resource: str = "PullRequest") -> Broken:
    error = {"resource": resource, "field": field, "code": code}
    return Broken(
        422, {"message": "Validation Failed", "errors": [error | ({"message": message} if message else {})]}
    )


class GitHubBase(Dialect):
    name = "github"
    prefix = "/api/v3"
    free_if_unchanged = True
    page_size = 30

    def token(self, headers: Mapping[str, str]) -> str:
        kind, _, value = headers.get("Authorization", "").partition(" ")
        return value if kind.lower() in ("bearer", "token") else ""

    def unauthorized(self, token: Token | None) -> tuple[int, Any]:
        return 401, {"message": "Bad credentials", "status": "401"}

    def primary_limit(self) -> tuple[int, Any]:
        return 403, {"message": "API rate limit exceeded for user ID 1001."}

    def secondary_limit(self) -> tuple[int, Any]:
        return 403, {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}

    def limit_headers(self, left: int, limit: int, reset: int, *, exhausted: bool) -> dict[str, str]:
        values = {"Limit": limit, "Remaining": left, "Reset": reset, "Used": limit - left}
        return {f"X-RateLimit-{name}": str(value) for name, value in values.items()} | {
            "X-RateLimit-Resource": "core"
        }

    def refuse(self, refused: Refused, call: Call) -> tuple[int, Any]:
        match refused.why:
            case Why.DUPLICATE:
                head, _ = refused.detail.split()
                owner = call.values["owner"]
                broken = invalid("", "custom", f"A pull request already exists for {owner}:{head}.")
            case Why.NO_DIFFERENCE:
                broken = invalid("", "custom", f"No commits between {refused.detail}")
            case Why.NO_HEAD | Why.NO_BASE:
                broken = invalid("head" if refused.why is Why.NO_HEAD else "base", "invalid")
            case Why.TOO_LONG:
                text = f"body is too long (maximum is {LONGEST_BODY} characters)"
                broken = invalid("body", "custom", text, "Issue")
            case Why.METHOD:
                return 405, {
                    "message": f"{refused.detail.title()} merges are not allowed on this repository."
                }
            case Why.BLOCKED | Why.NOT_BEHIND:
                return 405, {"message": refused.detail}
            case Why.OWN:
                words = {"APPROVE": "approve", "REQUEST_CHANGES": "request changes on"}
                told = f"Review Can not {words[call.body['event']]} your own pull request"
                return 422, {"message": "Unprocessable Entity", "errors": [told]}
            case why:
                status, message = _ACTS[why]
                return status, {"message": message, "status": str(status)}
        return broken.status, broken.body

    def path(self, path: str) -> str:
        """Return the path by name of one by number, to which a renamed repository is redirected."""
        found = re.fullmatch(r"/repositories/(\d+)(.*)", path)
        try:
            return f"/repos/{self.core.project(found[1])[0].full_name}{found[2]}" if found else path
        except Refused:
            return path

    def _project(self, call: Call, right: str = "read") -> Project:
        project, is_earlier = self.core.project(f"{call.values['owner']}/{call.values['repo']}")
        self.core.allow(project, call.person, "read")
        if is_earlier:
            status = 301 if call.operation.startswith("GET") else 307
            rest = call.operation.partition(R)[2].format(**call.values)
            at = f"{self.site}{self.prefix}/repositories/{project.id}{rest}"
            raise Broken(status, {"message": "Moved Permanently", "url": at}, {"Location": at})
        self.core.allow(project, call.person, right)
        return project

    def _found(self, call: Call, right: str = "read") -> tuple[Project, Request]:
        project = self._project(call, right)
        self.core.refresh(project)
        number = call.values.get("pull_number") or call.values["issue_number"]
        return project, self.core.request(project, int(number) if number.isdecimal() else 0)

    def _repository(self, project: Project) -> dict[str, Any]:
        return {
            "id": project.id,
            "name": project.name,
            "full_name": project.full_name,
            "html_url": f"{self.site}/{project.full_name}",
            "clone_url": f"{self.site}/{project.full_name}.git",
            "default_branch": project.default_branch,
            "archived": project.archived,
            **{f"allow_{name}": way in project.methods for name, way in (("merge_commit", "merge"),
               ("squash_merge", "squash"), ("rebase_merge", "rebase"))},
        }  # fmt: skip

    def _simple(self, project: Project, request: Request) -> dict[str, Any]:
        at = f"{self.site}/{project.full_name}/pull/{request.number}"
        repository = self._repository(project)
        return {
            "id": request.id,
            "node_id": f"PR_{project.id}_{request.number}",
            "number": request.number,
            "html_url": at,
            "title": request.title,
            "body": request.body or None,
            "state": "open" if request.state == "open" else "closed",
            "draft": request.draft,
            "user": person(request.author),
            **{
                side: {"label": f"{project.owner}:{ref}", "ref": ref, "sha": sha, "repo": repository}
                for side, ref, sha in (
                    ("head", request.head, request.sha),
                    ("base", request.base, request.base_sha),
                )
            },
            "labels": [label(name) for name in request.labels],
            "assignees": [person(one) for one in request.assignees],
            "requested_reviewers": [person(one) for one in request.reviewers],
            "requested_teams": [team(name) for name in request.teams],
            "created_at": time(request.at),
            "updated_at": time(request.changed),
            "closed_at": time(request.ended),
            "merged_at": time(request.ended) if request.state == "merged" else None,
            "merge_commit_sha": request.merge_commit or None,
            "auto_merge": None,
        }  # fmt: skip

    def _whole(self, project: Project, request: Request) -> dict[str, Any]:
        is_open = request.state == "open"
        mergeable = self.core.mergeable(project, request) if is_open else None
        return self._simple(project, request) | {
            "merged": request.state == "merged",
            "merged_by": person(request.ended_by) if request.state == "merged" and request.ended_by else None,
            "mergeable": mergeable,
            "mergeable_state": self._state(project, request, mergeable) if is_open else "unknown",
        }

    def _state(self, project: Project, request: Request, mergeable: bool | None) -> str:
        if mergeable is None:
            return "unknown"
        if not mergeable:
            return "dirty"
        for why, _ in self.core.obstacles(project, request):
            return {Why.DRAFT: "draft", Why.NOT_BEHIND: "behind"}.get(why, "blocked")
        checks = self.core.checks(project, request.sha)
        return "clean" if all(one.state in ("success", "skipped") for one in checks) else "unstable"

    def _collaborator(self, project: Project, login: str) -> Person:
        for person in project.members:
            if person.login.lower() == login.lower():
                return person
        raise Refused(Why.UNKNOWN_PERSON)

    def event(
        self, hook: Hook, project: Project, kind: str, action: str, what: Any, by: Person | None
    ) -> tuple[dict[str, str], Any] | None:
        shared = {
            "action": action,
            "repository": self._repository(project),
            "sender": person(by or project_actor(project)),
        }
        if kind == "check":
            about = {"check_run": check_run(what)} if what.run else status_of(what) | {"sha": what.sha}
            return {"X-GitHub-Event": "check_run" if what.run else "status"}, shared | about
        request, *review = what if isinstance(what, tuple) else (what,)
        payload = shared | {"number": request.number, "pull_request": self._simple(project, request)}
        if review:
            return {"X-GitHub-Event": "pull_request_review"}, payload | {"review": review_of(review[0])}
        return {"X-GitHub-Event": "pull_request"}, payload


def project_actor(project: Project) -> Person:
    return next(iter(project.members))


def person(person: Person) -> dict[str, Any]:
    return {"id": person.id, "login": person.login, "type": "User"}


def issue_of(site: str, project: Project, issue: Issue) -> dict[str, Any]:
    return {
        "id": issue.id,
        "node_id": f"I_{project.id}_{issue.number}",
        "number": issue.number,
        "html_url": f"{site}/{project.full_name}/issues/{issue.number}",
        "title": issue.title,
        "body": issue.body or None,
        "state": "open" if issue.is_open else "closed",
        "user": person(issue.author),
        "labels": [label(name) for name in issue.labels],
        "assignees": [person(one) for one in issue.assignees],
        "created_at": time(issue.at),
        "updated_at": time(issue.changed),
        "closed_at": None if issue.is_open else time(issue.changed),
    }


def label(name: str) -> dict[str, Any]:
    return {"name": name, "color": "ededed", "description": ""}


def team(slug: str) -> dict[str, Any]:
    return {"slug": slug, "name": slug}


def review_of(review: Review) -> dict[str, Any]:
    return {
        "id": review.id,
        "user": person(review.person),
        "state": review.state.upper(),
        "commit_id": review.sha,
        "body": review.body,
        "submitted_at": time(review.at),
    }


def word_of(state: str) -> str:
    return "success" if state == "skipped" else state


def status_of(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "context": check.name,
        "state": word_of(check.state),
        "description": check.description or None,
        "target_url": check.url or None,
        "created_at": time(check.at),
        "updated_at": time(check.at),
    }


def check_run(check: Check) -> dict[str, Any]:
    done = check.state != "pending"
    return {
        "id": check.id,
        "name": check.name,
        "head_sha": check.sha,
        "status": "completed" if done else "in_progress",
        "conclusion": check.state if done else None,
        "started_at": time(check.at),
        "completed_at": time(check.at) if done else None,
        "details_url": check.url or None,
    }


def rules_of(rule: Protection) -> Any:
    if rule.locked or rule.approvals:
        yield {"type": "pull_request", "parameters": {
            "required_approving_review_count": rule.approvals,
            "dismiss_stale_reviews_on_push": rule.dismiss_stale,
        }}  # fmt: skip
    if rule.checks:
        yield {"type": "required_status_checks", "parameters": {
            "required_status_checks": [{"context": name} for name in rule.checks],
            "strict_required_status_checks_policy": rule.up_to_date,
        }}  # fmt: skip
    if rule.queue:
        yield {"type": "merge_queue"}
