"""The dialect of GitLab: REST version 4, with the rules of a Premium edition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.forge.core import Check, Hook, Person, Project, Refused, Request, Token, Why
from tests.forge.dialect import Broken, Call, Dialect, Page, Status, message_of, on, time

_P = "/projects/{id}"
_MR = f"{_P}/merge_requests/{{merge_request_iid}}"
LONGEST_BODY = 1_048_576
DRAFT = re.compile(r"^(draft:|\[draft\]|\(draft\))\s*", re.IGNORECASE)
_LEVELS = {"read": 20, "write": 30, "admin": 50}
_STATES = {"pending": "pending", "success": "success", "failure": "failed", "skipped": "skipped"}
_REVIEWS = {"approved": "approved", "changes_requested": "requested_changes", "commented": "reviewed"}
_REFUSED = {
    Why.ABSENT: (404, "404 Not found"),
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


class GitLab(Dialect):
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
            rest = call.operation.partition(_P)[2].format(**call.values)
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

    # People and projects

    @on("GET /user")
    def user(self, call: Call) -> Any:
        return self._person(call.person)

    @on("GET /users")
    def users(self, call: Call) -> Any:
        name = call.query.get("username", "").lower()
        return Page([self._person(one) for one in self.core.people.values() if one.login.lower() == name])

    @on(f"GET {_P}")
    def project(self, call: Call) -> Any:
        project = self._project(call)
        rule = self.core.protection(project, project.default_branch)
        squash = "squash" in project.methods
        plain = "merge" in project.methods or "rebase" in project.methods
        level = {"access_level": _LEVELS[project.members[call.person]]}
        return {
            "id": project.id,
            "name": project.name,
            "path_with_namespace": project.full_name,
            "default_branch": project.default_branch,
            "web_url": f"{self.site}/{project.full_name}",
            "http_url_to_repo": f"{self.site}/{project.full_name}.git",
            "archived": project.archived,
            "merge_method": "merge" if "merge" in project.methods or not plain else "ff",
            "squash_option": "never" if not squash else "default_off" if plain else "always",
            "only_allow_merge_if_pipeline_succeeds": bool(rule.checks),
            "merge_trains_enabled": rule.queue,
            "permissions": {"project_access": level, "group_access": None},
        }

    @on(f"GET {_P}/approval_rules")
    def approval_rules(self, call: Call) -> Any:
        rules = self._project(call).protections
        return Page(
            [
                {"id": number, "name": name, "rule_type": "regular", "approvals_required": rule.approvals}
                for number, (name, rule) in enumerate(rules.items(), 1)
                if rule.approvals
            ]
        )

    @on(f"GET {_P}/labels")
    def labels(self, call: Call) -> Any:
        return Page([{"id": at, "name": name} for at, name in enumerate(self._project(call).labels, 1)])

    @on(f"GET {_P}/repository/branches/{{branch}}")
    def branch(self, call: Call) -> Any:
        project = self._project(call)
        name = call.values["branch"]
        sha = project.bare.branches().get(name)
        if sha is None:
            raise Broken(404, {"message": "404 Branch Not Found"})
        protected = name in project.protections
        return {"name": name, "commit": {"id": sha}, "protected": protected, "default": name == "main"}

    @on(f"DELETE {_P}/repository/branches/{{branch}}")
    def delete_branch(self, call: Call) -> Any:
        sha = self.branch(call)["commit"]["id"]
        project = self._project(call, "write")
        project.bare.move(call.values["branch"], "", sha)
        self.core.refresh(project)
        return Status(204)

    @on(f"GET {_P}/protected_branches/{{name}}")
    def protected_branch(self, call: Call) -> Any:
        name = call.values["name"]
        if name not in self._project(call).protections:
            raise Refused(Why.ABSENT)
        levels = [{"id": 1, "access_level": 40}]
        return {"id": 1, "name": name, "allow_force_push": False, "merge_access_levels": levels}

    # Merge requests

    @on(f"GET {_P}/merge_requests")
    def requests(self, call: Call) -> Any:
        project = self._project(call)
        self.core.refresh(project)
        wanted = {"state": call.query.get("state", "all")} | call.query
        found = [
            one
            for one in project.requests
            if wanted["state"] in ("all", _state(one))
            and wanted.get("source_branch", one.head) == one.head
            and wanted.get("target_branch", one.base) == one.base
        ]
        if call.query.get("sort", "desc") == "desc":
            found.reverse()
        return Page([self._basic(project, one) for one in found])

    @on(f"POST {_P}/merge_requests")
    def open(self, call: Call) -> Any:
        project = self._project(call)
        self.core.allow(project, call.person, "write")
        body = call.body
        self._refuse_long(body)
        if body["source_branch"] == body["target_branch"]:
            raise Broken(422, {"message": ["You can't use same project/branch for source and target"]})
        made = self.core.open_request(
            project,
            call.person,
            head=body["source_branch"],
            base=body["target_branch"],
            title=DRAFT.sub("", body["title"]),
            body=body.get("description") or "",
            draft=bool(DRAFT.match(body["title"])),
            empty=True,
        )
        self._assign(project, made, body)
        return Status(201, self._whole(project, made))

    @on(f"GET {_MR}")
    def request(self, call: Call) -> Any:
        return self._whole(*self._found(call))

    @on(f"PUT {_MR}")
    def change(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        body = call.body
        self._refuse_long(body)
        if "target_branch" in body and body["target_branch"] not in project.bare.branches():
            raise Refused(Why.NO_BASE)
        if body.get("state_event") == "close":
            self.core.close(project, request, call.person)
        elif body.get("state_event") == "reopen":
            self.core.reopen(project, request, call.person)
        if "title" in body:
            request.title, request.draft = DRAFT.sub("", body["title"]), bool(DRAFT.match(body["title"]))
        request.body = body.get("description", request.body)
        request.base = body.get("target_branch", request.base)
        self._assign(project, request, body)
        request.changed = self.core.now()
        self.core.refresh(project)
        return self._whole(project, request)

    def _refuse_long(self, body: dict[str, Any]) -> None:
        if len(body.get("description") or "") > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)

    def _assign(self, project: Project, request: Request, body: dict[str, Any]) -> None:
        """Set people and labels; as at GitLab, an unknown label is made and an unknown person left out."""
        people = {one.id: one for one in project.members}
        if "assignee_ids" in body:
            request.assignees = [people[one] for one in body["assignee_ids"] if one in people]
        if "reviewer_ids" in body:
            request.reviewers = [people[one] for one in body["reviewer_ids"] if one in people]
        labels = _names(body["labels"]) if "labels" in body else list(request.labels)
        labels += [name for name in _names(body.get("add_labels")) if name not in labels]
        request.labels = [name for name in labels if name not in _names(body.get("remove_labels"))]
        project.labels += [name for name in request.labels if name not in project.labels]

    @on(f"PUT {_MR}/merge")
    def merge(self, call: Call) -> Any:
        project, request = self._found(call)
        if project.members[call.person] == "read":
            raise Refused(Why.OWN)  # 401, as GitLab says here
        body = call.body
        pair = (request.base_sha, request.sha)
        if request.state == "open" and pair not in project.asked and not self.core.computes_at_once:
            project.asked.add(pair)
            raise Refused(Why.UNCHECKED)
        method = "squash" if body.get("squash") else "merge" if "merge" in project.methods else "ff"
        text = body.get("squash_commit_message" if method == "squash" else "merge_commit_message", "")
        self.core.merge(
            project,
            request,
            call.person,
            method=method,
            sha=body.get("sha", ""),
            message=message_of(request, text, ""),
            through_queue=True,  # GitLab merges at once beside its merge train
        )
        if body.get("should_remove_source_branch"):
            project.bare.move(request.head, "", request.sha)
        return self._whole(project, request)

    @on(f"PUT {_MR}/rebase")
    def rebase(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        self.core.rebase_head(project, request)
        return Status(202, {"rebase_in_progress": True})

    @on(f"POST {_P}/merge_trains/merge_requests/{{merge_request_iid}}")
    def enqueue(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        if not self.core.protection(project, request.base).queue:
            raise Refused(Why.FORBIDDEN)
        self.core.enqueue(project, request, call.body.get("sha", ""))
        return Status(201, [])

    def _basic(self, project: Project, request: Request) -> dict[str, Any]:
        return {
            "id": request.id,
            "iid": request.number,
            "project_id": project.id,
            "title": f"{'Draft: ' if request.draft else ''}{request.title}",
            "description": request.body,
            "state": _state(request),
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
            "merge_user": self._person(request.ended_by) if request.state == "merged" and request.ended_by else None,
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
            "diff_refs": {"base_sha": request.base_sha, "head_sha": request.sha, "start_sha": request.base_sha},
            "changes_count": str(len(ahead)) if ahead else None,
            "merge_error": request.rebase_error or None,
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

    # Reviews and comments

    @on(f"GET {_MR}/approvals")
    def approvals(self, call: Call) -> Any:
        return self._approvals(call, *self._found(call))

    @on(f"POST {_MR}/approve")
    def approve(self, call: Call) -> Any:
        project, request = self._found(call)
        self.core.review(project, request, call.person, "approved", call.body.get("sha", ""))
        return Status(201, self._approvals(call, project, request))

    @on(f"POST {_MR}/unapprove")
    def unapprove(self, call: Call) -> Any:
        project, request = self._found(call)
        for review in request.reviews:
            if review.person is call.person and review.state == "approved":
                review.state = "dismissed"
        return Status(201, self._approvals(call, project, request))

    def _approvals(self, call: Call, project: Project, request: Request) -> dict[str, Any]:
        approvers = self.core.approvers(project, request)
        return {
            "approved": len(approvers) >= self.core.protection(project, request.base).approvals,
            "approved_by": [{"user": self._person(one), "approved_at": time(request.changed)} for one in approvers],
            "user_has_approved": call.person in approvers,
            "user_can_approve": call.person is not request.author,
        }  # fmt: skip

    @on(f"GET {_MR}/reviewers")
    def reviewers(self, call: Call) -> Any:
        _, request = self._found(call)
        verdicts = self.core.verdicts(request)
        people = list(dict.fromkeys([*request.reviewers, *(one.person for one in request.reviews)]))
        states = {one: _REVIEWS.get(verdicts[one].state, "unapproved") for one in verdicts}
        spoke = {one.person: "reviewed" for one in request.reviews} | states
        return Page([{"user": self._person(one), "state": spoke.get(one, "unreviewed")} for one in people])

    @on(f"POST {_MR}/notes")
    def note(self, call: Call) -> Any:
        _, request = self._found(call)
        request.comments.append((call.person, call.body["body"]))
        return Status(201, {"id": self.core.id(), "body": call.body["body"]})

    # Statuses and pipelines

    @on(f"GET {_P}/repository/commits/{{sha}}/statuses")
    def statuses(self, call: Call) -> Any:
        project = self._project(call)
        sha = project.bare.commit(call.values["sha"])
        if sha is None:
            raise Broken(404, {"message": "404 Commit Not Found"})
        return Page([self._check(project, one) for one in self.core.checks(project, sha)])

    @on(f"POST {_P}/statuses/{{sha}}")
    def set_status(self, call: Call) -> Any:
        project = self._project(call, "write")
        body = call.body
        name, sha = body.get("name") or body.get("context") or "default", call.values["sha"]
        state = {"failed": "failure", "canceled": "failure", "running": "pending"}.get(body["state"], body["state"])
        now = {one.name: one.state for one in self.core.checks(project, sha)}
        if now.get(name) == state:
            raise Broken(400, {"message": f'Cannot transition status via :{state} from :{state} (Reason(s): …)'})
        check = self.core.set_check(
            project, sha, name, state, description=body.get("description", ""),
            url=body.get("target_url", ""), person=call.person,
        )  # fmt: skip
        return Status(201, self._check(project, check))

    @on(f"GET {_P}/pipelines")
    def pipelines(self, call: Call) -> Any:
        project = self._project(call)
        return Page(self._pipelines(project, call.query.get("sha", "")))

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

    # Webhooks

    @on(f"POST {_P}/hooks")
    def add_hook(self, call: Call) -> Any:
        project = self._project(call, "admin")
        hook = Hook(self.core.id(), call.body["url"], call.body.get("token", ""), self.name)
        project.hooks.append(hook)
        return Status(201, {"id": hook.id, "url": hook.url, "project_id": project.id})

    @on(f"DELETE {_P}/hooks/{{hook_id}}")
    def remove_hook(self, call: Call) -> Any:
        project = self._project(call, "admin")
        project.hooks = [one for one in project.hooks if str(one.id) != call.values["hook_id"]]
        return Status(204)

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
        attributes = {"iid": request.number, "state": _state(request), "action": words.get(action, "update"),
                      "source_branch": request.head, "target_branch": request.base,
                      "last_commit": {"id": request.sha}}  # fmt: skip
        payload = {"object_kind": "merge_request", "project": about, "object_attributes": attributes}
        return {"X-Gitlab-Event": "Merge Request Hook"}, payload

    def _person(self, person: Person) -> dict[str, Any]:
        return {"id": person.id, "username": person.login, "name": person.login.title(), "state": "active",
                "web_url": f"{self.site}/{person.login}"}  # fmt: skip


def _state(request: Request) -> str:
    return {"open": "opened"}.get(request.state, request.state)


def _names(labels: Any) -> list[str]:
    parts = labels.split(",") if isinstance(labels, str) else labels or []
    return [part.strip() for part in parts if part.strip()]
