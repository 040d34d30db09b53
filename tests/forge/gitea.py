"""The operations of Gitea and Forgejo: REST version 1, as far as it differs from GitHub's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.forge.dialect import Broken, Call, Page, Status, message_of, on, time
from tests.forge.github import GitHub
from tests.forge.github_base import LONGEST_BODY, R, issue_of, label
from tests.forge.records import Check, Hook, Issue, Person, Project, Refused, Request, Review, Token, Why

DRAFT = re.compile(r"^(wip:|\[wip\])\s*", re.IGNORECASE)
_PULL = f"{R}/pulls/{{index}}"
_STATES = {"approved": "APPROVED", "changes_requested": "REQUEST_CHANGES", "commented": "COMMENT"}
_REFUSED = {
    Why.ABSENT: (404, "The target couldn't be found."),
    Why.DELETED: (404, "The target couldn't be found."),
    Why.NO_HEAD: (404, "The target couldn't be found."),
    Why.NO_BASE: (404, "The target couldn't be found."),
    Why.FORBIDDEN: (403, "user should have a permission to write to this repository"),
    Why.ARCHIVED: (423, "repository is archived"),
    Why.TOO_LONG: (422, "body is too long"),
    Why.NOT_OPEN: (405, ""),
    Why.METHOD: (405, "not an allowed merge style for this repository"),
    Why.DRAFT: (405, "Work in progress PRs cannot be merged"),
    Why.CONFLICT: (405, "Please try again later"),
    Why.HEAD_MOVED: (409, "head out of date"),
    Why.BASE_MOVED: (409, "merge push out of date"),
    Why.UNKNOWN_PERSON: (404, "user does not exist"),
    Why.OWN: (422, "approve your own pull is not allowed"),
}


class Gitea(GitHub):
    name = "gitea"
    prefix = "/api/v1"
    page_size = 30
    largest_page = 50
    etags = False

    def token(self, headers: Mapping[str, str]) -> str:
        kind, _, value = headers.get("Authorization", "").partition(" ")
        return value if kind in ("token", "Bearer") else ""

    def unauthorized(self, token: Token | None) -> tuple[int, Any]:
        return 401, {"message": "invalid username, password or token", "url": self.site}

    def primary_limit(self) -> tuple[int, Any]:
        return 429, {"message": "Too Many Requests"}  # of the proxy before it

    def secondary_limit(self) -> tuple[int, Any]:
        return self.primary_limit()

    def limit_headers(self, left: int, limit: int, reset: int, *, exhausted: bool) -> dict[str, str]:
        wait_s = reset - int(self.core.now().timestamp())
        return {"Retry-After": str(wait_s)} if exhausted else {}

    def refuse(self, refused: Refused, call: Call) -> tuple[int, Any]:
        if refused.why is Why.DUPLICATE:
            return 409, {"message": f"pull request already exists for these targets [{refused.detail}]"}
        status, words = _REFUSED.get(refused.why, (405, refused.detail))
        return status, {"message": words, "url": self.site}

    def _project(self, call: Call, right: str = "read") -> Project:
        project, is_earlier = self.core.project(f"{call.values['owner']}/{call.values['repo']}")
        self.core.allow(project, call.person, "read")
        if is_earlier:
            rest = call.operation.partition(R)[2].format(**call.values)
            raise Broken(307, None, {"Location": f"{self.prefix}/repos/{project.full_name}{rest}"})
        self.core.allow(project, call.person, right)
        return project

    def _found(self, call: Call, right: str = "read") -> tuple[Project, Request]:
        project = self._project(call, right)
        self.core.refresh(project)
        number = call.values["index"]
        return project, self.core.request(project, int(number) if number.isdecimal() else 0)

    def _repository(self, project: Project) -> dict[str, Any]:
        kept = ("id", "name", "full_name", "html_url", "clone_url", "default_branch", "archived")
        ways = {"allow_merge_commits": "merge", "allow_squash_merge": "squash", "allow_rebase": "rebase"}
        return {name: value for name, value in super()._repository(project).items() if name in kept} | {
            name: way in project.methods for name, way in ways.items()
        }

    def _simple(self, project: Project, request: Request) -> dict[str, Any]:
        found = super()._simple(project, request)
        dropped = ("node_id", "auto_merge", "requested_teams")
        ended_by = request.ended_by if request.state == "merged" else None
        return {name: value for name, value in found.items() if name not in dropped} | {
            "title": f"WIP: {request.title}" if request.draft else request.title,
            "body": request.body,
            "user": _person(request.author),
            "assignees": [_person(one) for one in request.assignees],
            "requested_reviewers": [_person(one) for one in request.reviewers],
            "labels": [_label(project, name) for name in request.labels],
            "requested_reviewers_teams": [{"id": 1, "name": name} for name in request.teams],
            "merged": request.state == "merged",
            "merged_by": _person(ended_by) if ended_by else None,
            "mergeable": self._mergeable(project, request),
        }

    def _whole(self, project: Project, request: Request) -> dict[str, Any]:
        return self._simple(project, request)

    def _mergeable(self, project: Project, request: Request) -> bool:
        return request.state == "open" and not request.draft and bool(self.core.mergeable(project, request))

    @on(f"GET {R}/pulls")
    def pulls(self, call: Call) -> Any:
        project = self._project(call)
        self.core.refresh(project)
        wanted = call.query.get("state", "open")
        found = [one for one in project.requests if wanted in ("all", one.state)]
        return Page([self._simple(project, one) for one in reversed(found)])

    @on(f"POST {R}/pulls")
    def open(self, call: Call) -> Any:
        project = self._project(call)
        self.core.allow(project, call.person, "write")
        body = call.body
        self._refuse_long(body)
        made = self.core.open_request(
            project, call.person, head=body["head"], base=body["base"], title=DRAFT.sub("", body["title"]),
            body=body.get("body") or "", draft=bool(DRAFT.match(body["title"])), empty=True,
        )  # fmt: skip
        return Status(201, self._simple(project, made))

    @on(f"GET {_PULL}")
    def pull(self, call: Call) -> Any:
        return self._simple(*self._found(call))

    @on(f"PATCH {_PULL}")
    def change(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        body = call.body
        self._refuse_long(body)
        if "base" in body and body["base"] not in project.bare.branches():
            raise Refused(Why.NO_BASE)
        if body.get("state") == "closed" and request.state == "merged":
            raise Broken(412, {"message": "cannot change state of this pull request, it was already merged"})
        assignees = self._assignees(project, body)
        self._set_state(project, request, call)
        if "title" in body:
            request.title, request.draft = DRAFT.sub("", body["title"]), bool(DRAFT.match(body["title"]))
        if "labels" in body:
            request.labels = [
                name for number, name in enumerate(project.labels, 1) if number in body["labels"]
            ]
        request.assignees = assignees if "assignees" in body else request.assignees
        request.body, request.base = body.get("body", request.body), body.get("base", request.base)
        request.changed = self.core.now()
        self.core.refresh(project)
        return Status(201, self._simple(project, request))

    def _refuse_long(self, body: Mapping[str, Any]) -> None:
        if len(body.get("body") or "") > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)

    @on(f"POST {_PULL}/merge")
    def merge(self, call: Call) -> Any:
        project, request = self._found(call)
        if project.members[call.person] == "read":
            raise Broken(405, {"message": "User not allowed to merge PR"})
        if request.state == "closed":
            raise Refused(Why.ABSENT)
        body = call.body
        self.core.merge(
            project, request, call.person, method=body["Do"], sha=body.get("head_commit_id", ""),
            message=message_of(request, body.get("MergeTitleField", ""), body.get("MergeMessageField", "")),
            through_queue=True,  # Gitea has none
        )  # fmt: skip
        return Status(200)

    @on(f"GET {_PULL}/reviews")
    def reviews(self, call: Call) -> Any:
        return Page([_review(one) for one in self._found(call)[1].reviews])

    @on(f"GET {_PULL}/reviews/{{id}}/comments")
    def review_comments(self, call: Call) -> Any:
        _, request = self._found(call)
        return [
            {
                "id": each.id,
                "body": each.body,
                "path": one.path,
                "position": one.line,
                "user": _person(each.person),
                "resolver": _person(one.resolved_by) if one.resolved_by else None,
            }
            for one in request.threads
            for each in one.remarks
            if str(each.review) == call.values["id"]
        ]

    @on(f"POST {_PULL}/reviews")
    def comment_on_lines(self, call: Call) -> Any:
        project, request = self._found(call)
        for one in call.body["comments"]:
            self.core.remark(project, request, call.person, one["path"], one["new_position"], one["body"])
        return _review(request.reviews[-1])

    @on(f"GET {R}/collaborators/{{collaborator}}/permission")
    def permission(self, call: Call) -> Any:
        return self._permission(call, call.values["collaborator"])

    @on(f"POST {_PULL}/requested_reviewers")
    def ask(self, call: Call) -> Any:
        return Status(super().ask(call).status, [])

    @on(f"GET {R}/labels")
    def labels(self, call: Call) -> Any:
        project = self._project(call)
        return Page([_label(project, name) for name in project.labels])

    @on(f"GET {R}/issues")
    def issues(self, call: Call) -> Any:
        project, state = self._project(call), call.query.get("state", "open")
        found = [
            one for one in self.core.issues(project) if state == "all" or one.is_open == (state == "open")
        ]
        return Page([self._issue(project, one) for one in reversed(found)])

    @on(f"POST {R}/issues")
    def open_issue(self, call: Call) -> Any:
        project, body = self._project(call), call.body
        self._refuse_long(body)
        names = [name for n, name in enumerate(project.labels, 1) if n in body.get("labels", ())]
        people = self._assignees(project, body)
        made = self.core.open_issue(
            project, call.person, title=body["title"], body=body.get("body") or "", labels=names,
            assignees=people,
        )  # fmt: skip
        return Status(201, self._issue(project, made))

    @on(f"GET {R}/issues/{{index}}")
    def one_issue(self, call: Call) -> Any:
        project = self._project(call)
        return self._issue(project, self.core.issue(project, int(call.values["index"])))

    @on(f"PATCH {R}/issues/{{index}}")
    def change_issue(self, call: Call) -> Any:
        project = self._project(call, "write")
        issue = self.core.issue(project, int(call.values["index"]))
        try:
            changed = self._changed_issue(project, issue, call.body)
        except Broken:  # for an unknown assignee; Gitea tells its words to administrators only
            raise Broken(500, {"message": ""}) from None
        return Status(201, self._issue(project, changed))

    @on(f"GET {R}/assignees")
    def assignees(self, call: Call) -> Any:
        return [_person(one) for one, right in self._project(call).members.items() if right != "read"]

    @on(f"PUT {R}/issues/{{index}}/labels")
    def set_labels(self, call: Call) -> Any:
        project = self._project(call, "write")
        issue = self.core.issue(project, int(call.values["index"]))
        issue.labels = [name for n, name in enumerate(project.labels, 1) if n in call.body["labels"]]
        return [_label(project, name) for name in issue.labels]

    def _assignees(self, project: Project, body: Mapping[str, Any]) -> list[Person]:
        try:
            return [self._collaborator(project, name) for name in body.get("assignees", ())]
        except Refused:
            raise Broken(422, {"message": "Assignee does not exist"}) from None

    def _issue(self, project: Project, issue: Issue) -> dict[str, Any]:
        found = issue_of(self.site, project, issue)
        return {name: value for name, value in found.items() if name != "node_id"} | {
            "body": issue.body,
            "user": _person(issue.author),
            "assignees": [_person(one) for one in issue.assignees],
            "labels": [_label(project, name) for name in issue.labels],
        }

    @on(f"POST {R}/issues/{{index}}/comments")
    def comment(self, call: Call) -> Any:
        made = super().comment(call)
        return Status(201, made.body | {"user": _person(call.person)})

    @on(f"GET {R}/commits/{{ref}}/statuses")
    def statuses(self, call: Call) -> Any:
        return Page([_status(one) for one in self._checks(call)])

    @on(f"POST {R}/statuses/{{sha}}")
    def set_status(self, call: Call) -> Any:
        project, body = self._project(call, "write"), call.body
        made = self.core.set_check(
            project, call.values["sha"], body.get("context", "default"), body["state"],
            description=body.get("description") or "", url=body.get("target_url") or "", person=call.person,
        )  # fmt: skip
        return Status(201, _status(made))

    @on(f"GET {R}/branches/{{branch}}")
    def branch(self, call: Call) -> Any:
        project, name = self._project(call), call.values["branch"]
        sha = project.bare.branches().get(name)
        if sha is None:
            raise Refused(Why.ABSENT)
        rule = project.protections.get(name)
        return {
            "name": name,
            "commit": {"id": sha},
            "protected": rule is not None,
            "required_approvals": rule.approvals if rule else 0,
            "enable_status_check": bool(rule and rule.checks),
            "status_check_contexts": list(rule.checks) if rule else [],
            "effective_branch_protection_name": name if rule else "",
        }

    @on(f"GET {R}/branch_protections/{{name}}")
    def branch_protection(self, call: Call) -> Any:
        project, name = self._project(call, "admin"), call.values["name"]
        if (rule := project.protections.get(name)) is None:
            raise Refused(Why.ABSENT)
        return {
            "rule_name": name,
            "required_approvals": rule.approvals,
            "block_on_outdated_branch": rule.up_to_date,
        }

    def event(
        self, hook: Hook, project: Project, kind: str, action: str, what: Any, by: Person | None
    ) -> tuple[dict[str, str], Any] | None:
        found = super().event(hook, project, kind, action, what, by)
        return found and ({**found[0], "X-Gitea-Event": found[0]["X-GitHub-Event"]}, found[1])


def _person(person: Person) -> dict[str, Any]:
    return {"id": person.id, "login": person.login}


def _label(project: Project, name: str) -> dict[str, Any]:
    return label(name) | {"id": project.labels.index(name) + 1 if name in project.labels else 0}


def _review(review: Review) -> dict[str, Any]:
    return {
        "id": review.id,
        "user": _person(review.person),
        "state": _STATES.get(review.state, "APPROVED"),
        "dismissed": review.state == "dismissed",
        "commit_id": review.sha,
        "body": review.body,
        "submitted_at": time(review.at),
    }


def _status(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "context": check.name,
        "status": check.state,
        "description": check.description,
        "target_url": check.url,
        "created_at": time(check.at),
        "updated_at": time(check.at),
    }
