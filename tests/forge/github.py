"""The operations of GitHub: REST 2022-11-28 as an enterprise server speaks it, and four GraphQL mutations."""

from __future__ import annotations

import re
from typing import Any

from tests.forge.dialect import LOGS, Broken, Call, Page, Status, message_of, on, time
from tests.forge.github_base import (
    LONGEST_BODY,
    check_run,
    invalid,
    label,
    person,
    review_of,
    rules_of,
    status_of,
    word_of,
)
from tests.forge.github_issues import GitHubIssues
from tests.forge.records import Check, Project, Refused, Request, Why

_R = "/repos/{owner}/{repo}"


class GitHub(GitHubIssues):
    # Repositories

    @on(f"GET {_R}")
    def repository(self, call: Call) -> Any:
        project = self._project(call)
        right = project.members[call.person]
        return self._repository(project) | {
            "permissions": {"pull": True, "push": right != "read", "admin": right == "admin"}
        }

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

    # Reviews

    @on(f"GET {_R}/pulls/{{pull_number}}/reviews")
    def reviews(self, call: Call) -> Any:
        _, request = self._found(call)
        return Page([review_of(one) for one in request.reviews])

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

    # Labels and comments

    @on(f"GET {_R}/labels")
    def labels(self, call: Call) -> Any:
        return Page([label(name) for name in self._project(call).labels])

    @on(f"POST {_R}/issues/{{issue_number}}/comments")
    def comment(self, call: Call) -> Any:
        project, request = self._found(call)
        if project.archived:
            raise Refused(Why.ARCHIVED)
        if len(call.body["body"]) > LONGEST_BODY:
            raise Refused(Why.TOO_LONG)
        request.comments.append((call.person, call.body["body"]))
        now = time(self.core.now())
        return Status(
            201,
            {"body": call.body["body"], "user": person(call.person), "created_at": now, "updated_at": now},
        )

    # Checks

    @on(f"GET {_R}/commits/{{ref}}/check-runs")
    def check_runs(self, call: Call) -> Any:
        runs = [check_run(one) for one in self._checks(call) if one.run]
        return Page(runs, lambda part: {"total_count": len(runs), "check_runs": part})

    @on(f"GET {_R}/commits/{{ref}}/status")
    def status(self, call: Call) -> Any:
        checks = [one for one in self._checks(call) if not one.run]
        states = {word_of(one.state) for one in checks}
        word = (
            "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
        )
        sha = self._project(call).bare.commit(call.values["ref"])
        entries = [status_of(one) for one in checks]
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
        return Status(201, status_of(check) | {"creator": person(call.person)})

    @on(f"GET {_R}/actions/jobs/{{job_id}}/logs")
    def job_log(self, call: Call) -> Any:
        self._project(call)
        self.core.log_of(call.values["job_id"])
        raise Broken(302, None, {"Location": f"{self.site}{LOGS}{call.values['job_id']}"})

    @on(f"GET {_R}/collaborators/{{username}}/permission")
    def permission(self, call: Call) -> Any:
        return self._permission(call, call.values["username"])

    def _permission(self, call: Call, login: str) -> Any:
        project, found = self._project(call), self.core.people.get(login)
        if found is None:
            raise Refused(Why.ABSENT)
        return {"permission": project.members.get(found, "none"), "user": person(found)}

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
        }
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
        return Page([] if rule is None or not rule.ruleset else list(rules_of(rule)))

    # GraphQL: what REST lacks

    @on("POST /graphql")
    def graphql(self, call: Call) -> Any:
        if "isInMergeQueue" in str(call.body.get("query", "")):
            return self._is_queued(call)
        if "reviewThreads" in str(call.body.get("query", "")):
            return self._threads(call)
        if "addPullRequestReviewThreadReply" in str(call.body.get("query", "")):
            return self._reply(call)
        found = re.search(r"mutation\b[^{]*\{\s*(?:\w+\s*:\s*)?(\w+)", str(call.body.get("query", "")))
        values = self._input(str(call.body.get("query", "")), call.body.get("variables") or {})
        node = re.fullmatch(r"PR_(\d+)_(\d+)", str(values.get("pullRequestId") or values.get("id", "")))
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

    def _threads(self, call: Call) -> Any:
        """Answer with one thread a page."""
        _, request = self._node(call)
        after = int((call.body.get("variables") or {}).get("after") or 0)
        nodes = [
            {
                "id": f"T_{one.id}",
                "isResolved": one.resolved_by is not None,
                "path": one.path,
                "line": one.line,
                "comments": {
                    "nodes": [
                        {"author": {"login": each.person.login}, "body": each.body} for each in one.remarks
                    ]
                },
            }
            for one in request.threads
        ]
        info = {"hasNextPage": after + 1 < len(nodes), "endCursor": str(after + 1)}
        page = {"pageInfo": info, "nodes": nodes[after : after + 1]}
        return {"data": {"node": {"reviewThreads": page}}}

    def _reply(self, call: Call) -> Any:
        values = call.body["variables"]
        for project in self.core.projects:
            for request in project.requests:
                for thread in request.threads:
                    if values["id"] == f"T_{thread.id}":
                        self.core.allow(project, call.person, "read")
                        self.core.reply(project, request, call.person, thread, values["body"])
        return {"data": {"addPullRequestReviewThreadReply": {"clientMutationId": None}}}

    def _node(self, call: Call) -> tuple[Project, Request]:
        node = re.fullmatch(r"PR_(\d+)_(\d+)", str((call.body.get("variables") or {}).get("id", "")))
        if not node:
            errors = [{"type": "NOT_FOUND", "message": "Could not resolve to a node"}]
            raise Broken(200, {"data": None, "errors": errors})
        project, _ = self.core.project(node[1])
        self.core.allow(project, call.person, "read")
        self.core.refresh(project)
        return project, self.core.request(project, int(node[2]))

    def _is_queued(self, call: Call) -> Any:
        project, request = self._node(call)
        queued = request in project.queue
        return {"data": {"node": {"isInMergeQueue": queued}}}

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
