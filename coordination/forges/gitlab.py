"""GitLab: REST version 4; a pull request is a merge request, its number the `iid`.

The title marks a draft. The project sets the merge method, the request sets only whether to squash. GitLab
has no required checks by name, but a project may require that pipelines succeed. Premium editions have merge
trains and approval rules; in other editions these addresses answer 403 or 404.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.feedback import GitLabFeedback
from coordination.forges.forge import Forge
from coordination.forges.models import (
    Check,
    CheckState,
    CommitStatus,
    ForgeType,
    Merged,
    MergeMethod,
    NewRequest,
    Protection,
    PullRequest,
    Repository,
    RequestChanges,
    RequestState,
    Review,
    ReviewState,
)
from coordination.forges.reading import (
    HEAD_MOVED,
    NOT_MERGEABLE,
    REFUSED_REQUEST,
    DraftTitle,
    already_closed,
    classified,
    full_commit,
    merged_names,
    merging,
    names_of,
    read_repository,
    refuse_unknown,
    worst_by_name,
)

LONGEST_DESCRIPTION = 255
"""Number of characters of the longest description of a status."""
DEVELOPER, MAINTAINER = 30, 40
"""Levels of access. A developer may push branches and merge into unprotected branches."""
PIPELINE = "pipeline"
"""Name of the check that represents the newest pipeline of a commit."""
_STATES = {
    "success": CheckState.SUCCESS,
    "skipped": CheckState.SKIPPED,
    "manual": CheckState.SKIPPED,
    "failed": CheckState.FAILURE,
    "canceled": CheckState.FAILURE,
}
"""All others are pending: created, preparing, pending, running, scheduled, canceling."""
_TO_STATES = {CheckState.FAILURE: "failed", CheckState.SKIPPED: "success"}
_REVIEWS = {
    "approved": ReviewState.APPROVED,
    "requested_changes": ReviewState.CHANGES_REQUESTED,
    "reviewed": ReviewState.COMMENTED,
    "unapproved": ReviewState.DISMISSED,
}
_UNKNOWN_YET = ("checking", "unchecked", "preparing", "approvals_syncing", "")


class GitLab(GitLabFeedback, Forge):
    type = ForgeType.GITLAB
    longest_body = 1_048_576
    longest_title = 255
    _requests_at = "merge_requests"
    _comments_at = "merge_requests/{number}/notes"
    _reopened: ClassVar[Mapping[str, str]] = {"state_event": "reopen"}
    _drafts = DraftTitle(
        prefix="Draft: ", pattern=re.compile(r"^\s*(\[draft\]|\(draft\)|draft:)\s*", re.IGNORECASE)
    )

    @staticmethod
    def headers(token: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {token}", "accept": "application/json"}

    @staticmethod
    def path_of(project: str) -> str:
        return f"/projects/{quote(project, safe='')}"

    def repository(self) -> Repository:
        data = read_repository(self._http, self._root, self._project, name="path_with_namespace")
        with self._parsing("the project"):
            rights = data.get("permissions") or {}
            levels = [(rights.get(kind) or {}).get("access_level") for kind in _KINDS_OF_ACCESS]
            level = max((level for level in levels if level), default=0)
            return Repository(
                project=data["path_with_namespace"],
                url=data["web_url"],
                default_branch=data.get("default_branch") or "",
                archived=bool(data.get("archived")),
                can_push=level >= DEVELOPER,
                can_merge=level >= DEVELOPER,
                methods=_methods(data),
            )

    def _list_requests(self, head: str) -> list[Any]:
        data = self._http.list(
            self._requests, source_branch=head, state="all", scope="all", order_by="created_at", sort="desc"
        )
        with self._parsing("the requests"):
            return [one for one in data if one["source_project_id"] == one["target_project_id"]]

    def _new_fields(self, new: NewRequest) -> dict[str, Any]:
        return {
            "source_branch": new.head,
            "target_branch": new.base,
            "title": self._title(new.title, draft=new.draft),
            "description": new.body,
        }

    def update(self, request: PullRequest, changes: RequestChanges) -> PullRequest:
        self._refuse_long(changes)
        if changes.teams:
            raise ForgeError(
                ForgeProblem.UNSUPPORTED,
                "GitLab asks people for reviews, not teams",
                "name people: --reviewer NAME; teams review by the code owners of the project",
            )
        fields: dict[str, Any] = {}
        if changes.title is not None:
            fields["title"] = self._title(changes.title, draft=request.state is RequestState.DRAFT)
        if changes.body is not None:
            fields["description"] = changes.body
        if changes.base is not None:
            fields["target_branch"] = changes.base
        if changes.labels:
            self._refuse_unknown_labels(changes.labels)
            fields["add_labels"] = ",".join(changes.labels)
        if changes.assignees:
            fields["assignee_ids"] = self._ids(merged_names(request.assignees, changes.assignees))
        if changes.reviewers:
            fields["reviewer_ids"] = self._ids(merged_names(request.reviewers, changes.reviewers))
        if not fields:
            return request
        changed = self._put(request.number, fields)
        for kind, wanted, there in (
            ("assignee", changes.assignees, changed.assignees),
            ("reviewer", changes.reviewers, changed.reviewers),
        ):  # editions without several assignees or reviewers keep only the first
            refuse_unknown(
                ForgeProblem.UNKNOWN_PERSON, wanted, there, f"{self._project} as {kind}", fold=True
            )
        return changed

    def _put(self, number: int, fields: Mapping[str, Any]) -> PullRequest:
        with classified(*REFUSED_REQUEST):
            return self._request(self._http.send("PUT", f"{self._requests}/{number}", fields))

    def set_draft(self, request: PullRequest, *, draft: bool) -> PullRequest:
        return self._put(request.number, {"title": self._title(request.title, draft=draft)})

    def close(self, number: int) -> PullRequest:
        request = self.get(number)
        if request.state is RequestState.MERGED:
            raise already_closed(request)
        return self._put(number, {"state_event": "close"}) if request.is_open else request

    def closer(self, number: int) -> str:
        request = self._http.get(f"{self._requests}/{number}")
        with self._parsing("the request"):
            return (request.get("closed_by") or {}).get("username") or ""

    def reviews(self, number: int) -> tuple[Review, ...]:
        at = f"{self._requests}/{number}"
        approvals = self._http.get(f"{at}/approvals")
        reviewers = self._http.list(f"{at}/reviewers")
        states: dict[str, ReviewState] = {}
        with self._parsing("the reviews"):
            for one in reviewers:
                if state := _REVIEWS.get(one.get("state") or ""):
                    states[one["user"]["username"]] = state
            approved = {
                str(one["user"]["username"]): str(one.get("approved_at") or "")
                for one in approvals.get("approved_by") or ()
            }
            for name in states.keys() - approved.keys():  # a withdrawn approval
                if states[name] is ReviewState.APPROVED:
                    states[name] = ReviewState.DISMISSED
            states |= dict.fromkeys(approved, ReviewState.APPROVED)
        return tuple(
            Review(author=name, state=states[name], at=approved.get(name, "")) for name in sorted(states)
        )

    def checks(self, commit: str) -> tuple[Check, ...]:
        statuses = self._http.list(f"{self._root}/repository/commits/{full_commit(commit)}/statuses")
        pipelines = self._http.list(f"{self._root}/pipelines", sha=commit, order_by="id", sort="desc")
        with self._parsing("the checks"):
            newest: dict[str, Any] = {}
            for one in sorted(statuses, key=lambda one: int(one["id"])):
                newest[one["name"]] = one
            checks = [
                Check(
                    name=name,
                    state=_status(one["status"], may_fail=bool(one.get("allow_failure"))),
                    url=one.get("target_url") or "",
                    required=False if one.get("allow_failure") else None,
                    job=str(one["id"]),
                )
                for name, one in newest.items()
            ]
            if pipelines:
                last = pipelines[0]
                state = _STATES.get(last["status"], CheckState.PENDING)
                checks.append(Check(name=PIPELINE, state=state, url=last.get("web_url") or "", whole=True))
        return worst_by_name(checks)

    def protection(self, branch: str) -> Protection:
        project = self._http.get(self._root)
        with self._parsing("the rules of the project"):
            return Protection(
                approvals=max(int(project.get("approvals_before_merge") or 0), self._approvals_of_rules()),
                up_to_date=project.get("merge_method") in ("ff", "rebase_merge"),
                queue=bool(project.get("merge_trains_enabled")),
                all_checks=bool(project.get("only_allow_merge_if_pipeline_succeeds")),
            )

    def _approvals_of_rules(self) -> int:
        """Return the highest number of approvals that a rule of the project requires; 0 without rules."""
        rules = self._if_visible(lambda: self._http.list(f"{self._root}/approval_rules")) or ()
        return max((int(rule.get("approvals_required") or 0) for rule in rules), default=0)

    def merge(
        self, number: int, *, expected_head: str, method: MergeMethod, title: str = "", message: str = ""
    ) -> Merged:
        squash = method is MergeMethod.SQUASH
        body: dict[str, Any] = {"sha": full_commit(expected_head), "squash": squash}
        if text := "\n\n".join(filter(None, (title, message))):
            body["squash_commit_message" if squash else "merge_commit_message"] = text
        with merging(
            lambda: self.get(number),
            (
                "^401(?!.*(invalid_token|revoked|expired))",
                ForgeProblem.FORBIDDEN,
                "the token may not merge here",
                "give it the right to merge",
            ),
            ("^409", *HEAD_MOVED),
            ("^405.*merge train", ForgeProblem.QUEUE_ONLY, "the branch has a merge train", "enqueue it"),
            ("^4(05|06|22)", *NOT_MERGEABLE),
        ):
            merged = self._http.send("PUT", f"{self._requests}/{number}/merge", body)
        return Merged(commit=self._request(merged).merge_commit)

    def enqueue(self, request: PullRequest, *, expected_head: str) -> None:
        with classified(
            ("^40[34]", ForgeProblem.UNSUPPORTED, "the project has no merge trains", "merge it directly"),
            ("^409", *HEAD_MOVED),
            ("^4(00|05|22)", *NOT_MERGEABLE),
        ):
            at = f"{self._root}/merge_trains/merge_requests/{request.number}"
            self._http.send("POST", at, {"sha": full_commit(expected_head)})

    def is_queued(self, request: PullRequest) -> bool:
        at = f"{self._root}/merge_trains/merge_requests/{request.number}"
        data = self._if_visible(lambda: self._http.get(at))
        with self._parsing("the merge train"):
            return data is not None and data["status"] in ("idle", "stale", "fresh", "merging")

    def dequeue(self, request: PullRequest) -> None:
        raise ForgeError(
            ForgeProblem.UNSUPPORTED,
            "GitLab has no call that takes a request out of its merge train",
            f"take it out by hand on its page: {request.url}",
        )

    def set_status(self, commit: str, status: CommitStatus) -> None:
        body = {
            "state": _TO_STATES.get(status.state, status.state.value),
            "name": status.context,
            "description": status.description[:LONGEST_DESCRIPTION],
            **({"target_url": status.url} if status.url else {}),
        }
        try:
            self._http.send("POST", f"{self._root}/statuses/{full_commit(commit)}", body)
        except ForgeError as error:
            if not re.search("cannot transition status", error.reason, re.IGNORECASE):
                raise  # otherwise the commit has this status already

    def _request(self, data: Any) -> PullRequest:
        with self._parsing("the request"):
            state, word = _state(data), data.get("detailed_merge_status") or ""
            own = data["source_project_id"] == data["target_project_id"]
            return PullRequest(
                number=data["iid"],
                url=data["web_url"],
                title=self._drafts.plain(data["title"]),
                body=data.get("description") or "",
                head=data["source_branch"],
                head_sha=data["sha"],
                head_project=self._project if own else "",
                base=data["target_branch"],
                state=state,
                mergeable=_mergeable(data, word),
                blocked="" if word == "mergeable" or word in _UNKNOWN_YET else word,
                merge_commit=_merge_commit(data) if state is RequestState.MERGED else "",
                author=(data.get("author") or {}).get("username", ""),
                labels=tuple(str(label) for label in data.get("labels") or ()),
                assignees=names_of(data.get("assignees"), "username"),
                reviewers=names_of(data.get("reviewers"), "username"),
            )


_KINDS_OF_ACCESS = ("project_access", "group_access")


def _methods(project: Mapping[str, Any]) -> tuple[MergeMethod, ...]:
    squash = project.get("squash_option", "default_off")
    if squash == "always":
        return (MergeMethod.SQUASH,)
    plain = MergeMethod.MERGE if project.get("merge_method", "merge") == "merge" else MergeMethod.REBASE
    return (plain,) if squash == "never" else (plain, MergeMethod.SQUASH)


def _state(data: Mapping[str, Any]) -> RequestState:
    match data["state"]:
        case "merged":
            return RequestState.MERGED
        case "closed":
            return RequestState.CLOSED
    return RequestState.DRAFT if data.get("draft") else RequestState.OPEN  # also `locked`: merging now


def _mergeable(data: Mapping[str, Any], word: str) -> bool | None:
    if word in _UNKNOWN_YET:
        return None
    return not (data.get("has_conflicts") or word in ("conflict", "broken_status", "need_rebase"))


def _merge_commit(data: Mapping[str, Any]) -> str:
    """Return the commit on the base branch; after a fast-forward, the head."""
    return str(data.get("merge_commit_sha") or data.get("squash_commit_sha") or data["sha"])


def _status(word: str, *, may_fail: bool) -> CheckState:
    state = _STATES.get(word, CheckState.PENDING)
    return CheckState.SKIPPED if may_fail and state is CheckState.FAILURE else state
