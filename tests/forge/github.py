"""The dialect of GitHub: REST 2022-11-28 as an enterprise server speaks it, and four mutations of GraphQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.forge.core import Check, Hook, Person, Project, Protection, Refused, Request, Review, Token, Why
from tests.forge.dialect import Broken, Call, Dialect, Page, Status, message_of, on, time

_R = "/repos/{owner}/{repo}"
LONGEST_BODY = 65536
_EVENTS = {"APPROVE": "approved", "REQUEST_CHANGES": "changes_requested", "COMMENT": "commented"}
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
    Why.UNKNOWN_PERSON: (
        422,
        "Reviews may only be requested from collaborators. One or more of the users or teams you specified is "
        "not a collaborator of the repository.",
    ),
}


def invalid(field: str, code: str, message: str = "", resource: str = "PullRequest") -> Broken:
    error = {"resource": resource, "field": field, "code": code}
    return Broken(
        422, {"message": "Validation Failed", "errors": [error | ({"message": message} if message else {})]}
    )


class GitHub(Dialect):
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

    def _project(self, call: Call, right: str = "read") -> Project:
        project, is_earlier = self.core.project(f"{call.values['owner']}/{call.values['repo']}")
        self.core.allow(project, call.person, "read")
        if is_earlier:
            status = 301 if call.operation.startswith("GET") else 307
            rest = call.operation.partition(_R)[2].format(**call.values)
            at = f"{self.site}{self.prefix}/repositories/{project.id}{rest}"
            raise Broken(status, {"message": "Moved Permanently", "url": at}, {"Location": at})
        self.core.allow(project, call.person, right)
        return project

    def _found(self, call: Call, right: str = "read") -> tuple[Project, Request]:
        project = self._project(call, right)
        self.core.refresh(project)
        number = call.values.get("pull_number") or call.values["issue_number"]
        return project, self.core.request(project, int(number) if number.isdecimal() else 0)

    # People and repositories

    @on("GET /user")
    def user(self, call: Call) -> Any:
        return _person(call.person)

    @on("GET /rate_limit")
    def rate_limit(self, call: Call) -> Any:
        return {}

    @on(f"GET {_R}")
    def repository(self, call: Call) -> Any:
        project = self._project(call)
        right = project.members[call.person]
        return self._repository(project) | {
            "permissions": {"pull": True, "push": right != "read", "admin": right == "admin"}
        }

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

    # Pull requests

    @on(f"GET {_R}/pulls")
    def pulls(self, call: Call) -> Any:
        project = self._project(call)
        self.core.refresh(project)
        state = call.query.get("state", "open")
        found = [
            one for one in project.requests if state == "all" or (one.state == "open") == (state == "open")
        ]
        if "head" in call.query:
            owner, _, head = call.query["head"].rpartition(":")
            # Without an owner GitHub ignores the filter.
            found = [one for one in found if not owner or (owner, one.head) == (project.owner, head)]
        if "base" in call.query:
            found = [one for one in found if one.base == call.query["base"]]
        if call.query.get("direction", "desc") == "desc":
            found.reverse()
        return Page([self._simple(project, one) for one in found])

    @on(f"POST {_R}/pulls")
    def open(self, call: Call) -> Any:
        project = self._project(call, "read")
        self.core.allow(project, call.person, "write")
        body = call.body
        if not body.get("title"):
            raise invalid("title", "missing_field")
        if len(body.get("body") or "") > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)
        head = body["head"].removeprefix(f"{project.owner}:")
        made = self.core.open_request(
            project, call.person, head=head, base=body["base"], title=body["title"],
            body=body.get("body") or "", draft=bool(body.get("draft")), empty=False,
        )  # fmt: skip
        return Status(201, self._whole(project, made))

    @on(f"GET {_R}/pulls/{{pull_number}}")
    def pull(self, call: Call) -> Any:
        return self._whole(*self._found(call))

    @on(f"PATCH {_R}/pulls/{{pull_number}}")
    def change(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        body = call.body
        if len(body.get("body") or "") > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)
        if "base" in body and body["base"] not in project.bare.branches():
            raise Refused(Why.NO_BASE)
        self._set_state(project, request, call)
        request.title = body.get("title", request.title)
        request.body = body.get("body", request.body)
        if "base" in body:
            request.base = body["base"]
            self.core.refresh(project)
        request.changed = self.core.now()
        return self._whole(project, request)

    def _set_state(self, project: Project, request: Request, call: Call) -> None:
        try:
            if call.body.get("state") == "closed" and request.state == "open":
                self.core.close(project, request, call.person)
            elif call.body.get("state") == "open" and request.state != "open":
                self.core.reopen(project, request, call.person)
        except Refused as refused:
            raise invalid("state", "invalid", f"state cannot be changed. {refused.why.value}") from None

    @on(f"PUT {_R}/pulls/{{pull_number}}/merge")
    def merge(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        body = call.body
        commit = self.core.merge(
            project, request, call.person, method=body.get("merge_method", "merge"), sha=body.get("sha", ""),
            message=message_of(request, body.get("commit_title", ""), body.get("commit_message", "")),
        )  # fmt: skip
        return {"sha": commit, "merged": True, "message": "Pull Request successfully merged"}

    def _simple(self, project: Project, request: Request) -> dict[str, Any]:
        at = f"{self.site}/{project.full_name}/pull/{request.number}"
        repository = self._repository(project)
        owner = project.owner
        head_repo = (
            None if request.head not in project.bare.branches() and request.state == "gone" else repository
        )
        return {
            "id": request.id,
            "node_id": f"PR_{project.id}_{request.number}",
            "number": request.number,
            "html_url": at,
            "title": request.title,
            "body": request.body or None,
            "state": "open" if request.state == "open" else "closed",
            "draft": request.draft,
            "user": _person(request.author),
            "head": {"label": f"{owner}:{request.head}", "ref": request.head, "sha": request.sha, "repo": head_repo},
            "base": {"label": f"{owner}:{request.base}", "ref": request.base, "sha": request.base_sha, "repo": repository},
            "labels": [_label(name) for name in request.labels],
            "assignees": [_person(one) for one in request.assignees],
            "requested_reviewers": [_person(one) for one in request.reviewers],
            "requested_teams": [_team(name) for name in request.teams],
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
            "merged_by": _person(request.ended_by)
            if request.state == "merged" and request.ended_by
            else None,
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

    # Reviews

    @on(f"GET {_R}/pulls/{{pull_number}}/reviews")
    def reviews(self, call: Call) -> Any:
        _, request = self._found(call)
        return Page([_review(one) for one in request.reviews])

    @on(f"POST {_R}/pulls/{{pull_number}}/reviews")
    def review(self, call: Call) -> Any:
        project, request = self._found(call)
        event = _EVENTS[call.body.get("event", "COMMENT")]
        made = self.core.review(
            project, request, call.person, event, call.body.get("commit_id", ""), call.body.get("body", "")
        )
        return _review(made)

    @on(f"PUT {_R}/pulls/{{pull_number}}/reviews/{{review_id}}/dismissals")
    def dismiss(self, call: Call) -> Any:
        _, request = self._found(call, "write")
        for review in request.reviews:
            if str(review.id) == call.values["review_id"] and review.state in (
                "approved",
                "changes_requested",
            ):
                review.state = "dismissed"
                return _review(review)
        raise Refused(Why.ABSENT)

    @on(f"POST {_R}/pulls/{{pull_number}}/requested_reviewers")
    def ask(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        people = [self._collaborator(project, name) for name in call.body.get("reviewers", ())]
        teams = list(call.body.get("team_reviewers", ()))
        if set(teams) - set(project.teams):
            raise Refused(Why.UNKNOWN_PERSON)
        if request.author in people:
            raise Broken(422, {"message": "Review cannot be requested from pull request author."})
        request.reviewers += [one for one in people if one not in request.reviewers]
        request.teams += [one for one in teams if one not in request.teams]
        return Status(201, self._simple(project, request))

    def _collaborator(self, project: Project, login: str) -> Person:
        for person in project.members:
            if person.login.lower() == login.lower():
                return person
        raise Refused(Why.UNKNOWN_PERSON)

    # Issues: labels, assignees, comments

    @on(f"GET {_R}/labels")
    def labels(self, call: Call) -> Any:
        return Page([_label(name) for name in self._project(call).labels])

    @on(f"PATCH {_R}/issues/{{issue_number}}")
    def change_issue(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        body = call.body
        if len(body.get("body") or "") > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)
        try:
            assignees = [self._collaborator(project, login) for login in body.get("assignees", ())]
        except Refused:
            raise invalid("assignees", "invalid", resource="Issue") from None
        if "assignees" in body:
            request.assignees = assignees
        if "labels" in body:
            request.labels = list(dict.fromkeys(body["labels"]))
            # As at GitHub: an unknown label is made.
            project.labels += [name for name in request.labels if name not in project.labels]
        request.title, request.body = body.get("title", request.title), body.get("body", request.body)
        request.changed = self.core.now()
        whole = self._simple(project, request)
        shared = ("number", "html_url", "title", "body", "state", "user", "labels", "assignees", "created_at")
        return {name: whole[name] for name in shared} | {"updated_at": time(request.changed)}

    @on(f"POST {_R}/issues/{{issue_number}}/comments")
    def comment(self, call: Call) -> Any:
        _, request = self._found(call, "read")
        if len(call.body["body"]) > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)
        request.comments.append((call.person, call.body["body"]))
        now = time(self.core.now())
        return Status(
            201,
            {"body": call.body["body"], "user": _person(call.person), "created_at": now, "updated_at": now},
        )

    # Checks

    @on(f"GET {_R}/commits/{{ref}}/check-runs")
    def check_runs(self, call: Call) -> Any:
        runs = [_check_run(one) for one in self._checks(call) if one.run]
        return Page(runs, lambda part: {"total_count": len(runs), "check_runs": part})

    @on(f"GET {_R}/commits/{{ref}}/status")
    def status(self, call: Call) -> Any:
        checks = [one for one in self._checks(call) if not one.run]
        states = {_state(one.state) for one in checks}
        word = (
            "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
        )
        sha = self._project(call).bare.commit(call.values["ref"])
        entries = [_status(one) for one in checks]
        around = {"state": word, "sha": sha, "total_count": len(checks), "repository": {}}
        return Page(entries, lambda part: around | {"statuses": part})

    def _checks(self, call: Call) -> list[Check]:
        project = self._project(call)
        sha = project.bare.commit(call.values["ref"])
        if sha is None:
            raise Broken(422, {"message": f"No commit found for SHA: {call.values['ref']}"})
        return self.core.checks(project, sha)

    @on(f"POST {_R}/statuses/{{sha}}")
    def set_status(self, call: Call) -> Any:
        project = self._project(call, "write")
        body = call.body
        check = self.core.set_check(
            project, call.values["sha"], body.get("context", "default"), body["state"],
            description=body.get("description") or "", url=body.get("target_url") or "", person=call.person,
        )  # fmt: skip
        return Status(201, _status(check) | {"creator": _person(call.person)})

    # Branches and their rules

    @on(f"GET {_R}/branches/{{branch}}")
    def branch(self, call: Call) -> Any:
        project = self._project(call)
        name = call.values["branch"]
        sha = project.bare.branches().get(name)
        if sha is None:
            raise Broken(404, {"message": "Branch not found", "status": "404"})
        rule = project.protections.get(name)
        checks = list(rule.checks) if rule and not rule.ruleset else []
        seen = {
            "enabled": bool(rule and not rule.ruleset),
            "required_status_checks": {
                "enforcement_level": "everyone" if checks else "off",
                "contexts": checks,
                "checks": [{"context": one, "app_id": None} for one in checks],
            },
        }  # noqa: E501
        return {"name": name, "commit": {"sha": sha}, "protected": rule is not None, "protection": seen}

    @on(f"GET {_R}/branches/{{branch}}/protection")
    def protection(self, call: Call) -> Any:
        project = self._project(call, "read")
        if project.members[call.person] != "admin":
            raise Refused(Why.ABSENT)
        rule = project.protections.get(call.values["branch"])
        if rule is None or rule.ruleset:
            raise Broken(404, {"message": "Branch not protected", "status": "404"})
        found: dict[str, Any] = {}
        if rule.checks:
            entries = [{"context": name, "app_id": None} for name in rule.checks]
            found["required_status_checks"] = {
                "strict": rule.up_to_date,
                "contexts": list(rule.checks),
                "checks": entries,
            }
        if rule.approvals:
            found["required_pull_request_reviews"] = {
                "dismiss_stale_reviews": rule.dismiss_stale,
                "required_approving_review_count": rule.approvals,
            }
        return found

    @on(f"GET {_R}/rules/branches/{{branch}}")
    def rules(self, call: Call) -> Any:
        rule = self._project(call).protections.get(call.values["branch"])
        return Page([] if rule is None or not rule.ruleset else list(_rules(rule)))

    @on(f"DELETE {_R}/git/refs/{{ref}}")
    def delete_ref(self, call: Call) -> Any:
        project = self._project(call, "write")
        branch = call.values["ref"].removeprefix("heads/")
        sha = project.bare.branches().get(branch)
        if sha is None:
            raise Broken(422, {"message": "Reference does not exist"})
        project.bare.move(branch, "", sha)
        self.core.refresh(project)
        return Status(204)

    # Webhooks

    @on(f"POST {_R}/hooks")
    def add_hook(self, call: Call) -> Any:
        project = self._project(call, "admin")
        config = call.body["config"]
        hook = Hook(self.core.id(), config["url"], config.get("secret", ""), self.name)
        project.hooks.append(hook)
        now = time(self.core.now())
        return Status(
            201,
            {
                "id": hook.id,
                "config": {"url": hook.url},
                "events": ["*"],
                "active": True,
                "name": "web",
                "updated_at": now,
                "created_at": now,
                "type": "Repository",
                "last_response": {"code": None, "status": None, "message": None},
            },
        )  # noqa: E501

    @on(f"DELETE {_R}/hooks/{{hook_id}}")
    def remove_hook(self, call: Call) -> Any:
        project = self._project(call, "admin")
        project.hooks = [one for one in project.hooks if str(one.id) != call.values["hook_id"]]
        return Status(204)

    def event(
        self, hook: Hook, project: Project, kind: str, action: str, what: Any, by: Person | None
    ) -> tuple[dict[str, str], Any] | None:
        shared = {
            "action": action,
            "repository": self._repository(project),
            "sender": _person(by or project_actor(project)),
        }
        if kind == "check":
            about = {"check_run": _check_run(what)} if what.run else _status(what) | {"sha": what.sha}
            return {"X-GitHub-Event": "check_run" if what.run else "status"}, shared | about
        request, *review = what if isinstance(what, tuple) else (what,)
        payload = shared | {"number": request.number, "pull_request": self._simple(project, request)}
        if review:
            return {"X-GitHub-Event": "pull_request_review"}, payload | {"review": _review(review[0])}
        return {"X-GitHub-Event": "pull_request"}, payload

    # GraphQL: what REST lacks

    @on("POST /graphql")
    def graphql(self, call: Call) -> Any:
        found = re.search(r"mutation\b[^{]*\{\s*(?:\w+\s*:\s*)?(\w+)", str(call.body.get("query", "")))
        values = self._input(str(call.body.get("query", "")), call.body.get("variables") or {})
        node = re.fullmatch(r"PR_(\d+)_(\d+)", str(values.get("pullRequestId", "")))
        if not found or not node:
            return {"data": None, "errors": [{"type": "NOT_FOUND", "message": "Could not resolve to a node"}]}
        try:
            project, _ = self.core.project(node[1])
            self.core.allow(project, call.person, "write")
            self.core.refresh(project)
            self._mutate(found[1], project, self.core.request(project, int(node[2])), values)
        except Refused as refused:
            kind = {Why.ABSENT: "NOT_FOUND", Why.FORBIDDEN: "FORBIDDEN"}.get(refused.why, "UNPROCESSABLE")
            message = {
                Why.HEAD_MOVED: "Pull request head oid does not match the expected head oid",
                Why.METHOD: "The merge queue is not enabled for this branch",
            }.get(refused.why, str(refused))
            return {
                "data": {found[1]: None},
                "errors": [{"type": kind, "message": message, "path": [found[1]]}],
            }
        return {"data": {found[1]: {"clientMutationId": None}}}

    def _input(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if re.search(r"\(\s*input\s*:\s*\$(\w+)", query):
            return dict(variables.get("input") or {})
        pairs = re.findall(r'(\w+)\s*:\s*(?:\$(\w+)|"([^"]*)")', query.partition("{")[2])
        return {name: variables.get(variable) if variable else text for name, variable, text in pairs}

    def _mutate(self, name: str, project: Project, request: Request, values: dict[str, Any]) -> None:
        match name:
            case "enqueuePullRequest":
                self.core.enqueue(project, request, values.get("expectedHeadOid") or "")
            case "markPullRequestReadyForReview" | "convertPullRequestToDraft":
                if request.state != "open":
                    raise Refused(Why.NOT_OPEN)
                request.draft, request.changed = name.startswith("convert"), self.core.now()
            case "dequeuePullRequest":
                request.queued, project.queue = "", [one for one in project.queue if one is not request]
            case _:
                raise Refused(Why.ABSENT)


def project_actor(project: Project) -> Person:
    return next(iter(project.members))


def _person(person: Person) -> dict[str, Any]:
    return {"id": person.id, "login": person.login, "type": "User"}


def _label(name: str) -> dict[str, Any]:
    return {"name": name, "color": "ededed", "description": ""}


def _team(slug: str) -> dict[str, Any]:
    return {"slug": slug, "name": slug}


def _review(review: Review) -> dict[str, Any]:
    return {
        "id": review.id,
        "user": _person(review.person),
        "state": review.state.upper(),
        "commit_id": review.sha,
        "body": review.body,
        "submitted_at": time(review.at),
    }


def _state(state: str) -> str:
    return "success" if state == "skipped" else state


def _status(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "context": check.name,
        "state": _state(check.state),
        "description": check.description or None,
        "target_url": check.url or None,
        "created_at": time(check.at),
        "updated_at": time(check.at),
    }


def _check_run(check: Check) -> dict[str, Any]:
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


def _rules(rule: Protection) -> Any:
    if rule.locked or rule.approvals:
        yield {"type": "pull_request", "parameters": {
            "required_approving_review_count": rule.approvals, "dismiss_stale_reviews_on_push": rule.dismiss_stale,
        }}  # fmt: skip
    if rule.checks:
        yield {"type": "required_status_checks", "parameters": {
            "required_status_checks": [{"context": name} for name in rule.checks],
            "strict_required_status_checks_policy": rule.up_to_date,
        }}  # fmt: skip
    if rule.queue:
        yield {"type": "merge_queue"}
