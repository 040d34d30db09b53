"""The operations of GitLab: REST version 4, with the rules of a Premium edition."""

from __future__ import annotations

from typing import Any

from tests.forge.dialect import Broken, Call, Page, Status, message_of, on
from tests.forge.gitlab_base import DRAFT, LONGEST_BODY, GitLabBase, names_in, state_of
from tests.forge.records import Issue, Project, Refused, Request, Why

_P = "/projects/{id}"
_MR = f"{_P}/merge_requests/{{merge_request_iid}}"
_LEVELS = {"read": 20, "write": 30, "admin": 50}
_REVIEWS = {"approved": "approved", "changes_requested": "requested_changes", "commented": "reviewed"}


class GitLab(GitLabBase):
    # People and projects

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

    # Issues

    @on(f"GET {_P}/issues")
    def issues(self, call: Call) -> Any:
        project, wanted = self._project(call), call.query.get("state", "all")
        found = [
            one for one in self.core.issues(project) if wanted == "all" or one.is_open == (wanted == "opened")
        ]
        if call.query.get("sort", "desc") == "desc":
            found.reverse()
        return Page([self._issue(project, one) for one in found])

    @on(f"POST {_P}/issues")
    def open_issue(self, call: Call) -> Any:
        project, body = self._project(call), call.body
        if project.archived:
            raise Refused(Why.ARCHIVED)
        self._refuse_long(body)
        made = self.core.open_issue(
            project, call.person, title=body["title"], body=body.get("description") or "", shared=False
        )
        if project.members[call.person] != "read":  # else labels and people are left out without a word
            self._assign_issue(project, made, body)
        return Status(201, self._issue(project, made))

    @on(f"PUT {_P}/issues/{{issue_iid}}")
    def change_issue(self, call: Call) -> Any:
        project, body = self._project(call, "write"), call.body
        issue = self.core.issue(project, int(call.values["issue_iid"]))
        self._refuse_long(body)
        issue.title, issue.body = body.get("title", issue.title), body.get("description", issue.body)
        if "state_event" in body:
            issue.is_open = body["state_event"] == "reopen"
        self._assign_issue(project, issue, body)
        issue.changed = self.core.now()
        return self._issue(project, issue)

    def _assign_issue(self, project: Project, issue: Issue, body: dict[str, Any]) -> None:
        """Set people and labels; as at GitLab, an unknown label is made and an unknown person left out."""
        people = {one.id: one for one in project.members}
        if "assignee_ids" in body:
            issue.assignees = [people[one] for one in body["assignee_ids"] if one in people]
        if "labels" in body:
            issue.labels = names_in(body["labels"])
            project.labels += [name for name in issue.labels if name not in project.labels]

    # Merge requests

    @on(f"GET {_P}/merge_requests")
    def requests(self, call: Call) -> Any:
        project = self._project(call)
        self.core.refresh(project)
        wanted = {"state": call.query.get("state", "all")} | call.query
        found = [
            one
            for one in project.requests
            if wanted["state"] in ("all", state_of(one))
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
        labels = names_in(body["labels"]) if "labels" in body else list(request.labels)
        labels += [name for name in names_in(body.get("add_labels")) if name not in labels]
        request.labels = [name for name in labels if name not in names_in(body.get("remove_labels"))]
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
        return self._whole(project, request)

    @on(f"POST {_P}/merge_trains/merge_requests/{{merge_request_iid}}")
    def enqueue(self, call: Call) -> Any:
        project, request = self._found(call, "write")
        if not self.core.protection(project, request.base).queue:
            raise Refused(Why.FORBIDDEN)
        self.core.enqueue(project, request, call.body.get("sha", ""))
        return Status(201, [])

    @on(f"GET {_P}/merge_trains/merge_requests/{{merge_request_iid}}")
    def train(self, call: Call) -> Any:
        project, request = self._found(call)
        if request not in project.queue:
            raise Refused(Why.ABSENT)
        return {"id": request.id, "status": "fresh"}

    # Reviews and comments

    @on(f"GET {_MR}/approvals")
    def approvals(self, call: Call) -> Any:
        return self._approvals(call, *self._found(call))

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
        project, request = self._found(call)
        if project.archived:
            raise Refused(Why.ARCHIVED)
        body = call.body["body"]
        if body.startswith("/request_review "):
            names = [word.removeprefix("@") for word in body.split()[1:]]
            asked = [one for one in project.members if one.login in names]
            request.reviewers += [one for one in asked if one not in request.reviewers]
            return Status(202, {"commands_changes": {}})
        request.comments.append((call.person, body))
        return Status(201, {"id": self.core.id(), "body": call.body["body"]})

    @on(f"GET {_MR}/discussions")
    def discussions(self, call: Call) -> Any:
        _, request = self._found(call)
        return Page(
            [
                {
                    "id": f"{one.id:040x}",
                    "individual_note": False,
                    "notes": [
                        {
                            "id": each.id,
                            "body": each.body,
                            "author": self._person(each.person),
                            "resolvable": True,
                            "resolved": one.resolved_by is not None,
                            "position": {"new_path": one.path, "new_line": one.line},
                        }
                        for each in one.remarks
                    ],
                }
                for one in request.threads
            ]
        )

    @on(f"POST {_MR}/discussions/{{discussion_id}}/notes")
    def reply(self, call: Call) -> Any:
        project, request = self._found(call)
        thread = next(one for one in request.threads if f"{one.id:040x}" == call.values["discussion_id"])
        self.core.reply(project, request, call.person, thread, call.body["body"])
        return Status(201, {"id": thread.remarks[-1].id, "body": call.body["body"]})

    @on(f"GET {_P}/members/all/{{user_id}}")
    def member(self, call: Call) -> Any:
        project = self._project(call)
        for person, right in project.members.items():
            if str(person.id) == call.values["user_id"]:
                return self._person(person) | {"access_level": _LEVELS[right]}
        raise Refused(Why.ABSENT)

    # Statuses and pipelines

    @on(f"GET {_P}/jobs/{{job_id}}/trace")
    def trace(self, call: Call) -> Any:
        self._project(call)
        return self.core.log_of(call.values["job_id"]).encode()

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
        state = {"failed": "failure", "canceled": "failure", "running": "pending"}.get(
            body["state"], body["state"]
        )
        now = {one.name: one.state for one in self.core.checks(project, sha)}
        if now.get(name) == state:
            raise Broken(
                400, {"message": f"Cannot transition status via :{state} from :{state} (Reason(s): …)"}
            )
        check = self.core.set_check(
            project, sha, name, state, description=body.get("description", ""),
            url=body.get("target_url", ""), person=call.person,
        )  # fmt: skip
        return Status(201, self._check(project, check))

    @on(f"GET {_P}/pipelines")
    def pipelines(self, call: Call) -> Any:
        project = self._project(call)
        return Page(self._pipelines(project, call.query.get("sha", "")))
