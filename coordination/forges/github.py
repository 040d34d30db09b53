"""GitHub: REST version 2022-11-28, and GraphQL where REST has no call (drafts, the merge queue).

Labels and assignees of a pull request are those of the issue of the same number, so one call on the issue
changes title, body, labels and assignees together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from coordination.forges.errors import ForgeProblem
from coordination.forges.feedback import GitHubFeedback
from coordination.forges.forge import Forge
from coordination.forges.issues import GitHubIssues
from coordination.forges.models import (
    Check,
    CheckState,
    CommitStatus,
    ForgeType,
    Merged,
    MergeMethod,
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
    already_closed,
    classified,
    full_commit,
    last_verdicts,
    merged_names,
    merging,
    names_of,
    read_repository,
    refuse_unknown,
    worst_by_name,
)

LONGEST_DESCRIPTION = 140
"""Characters of the description of a status."""
_CONCLUSIONS = {
    "success": CheckState.SUCCESS,
    "neutral": CheckState.SKIPPED,
    "skipped": CheckState.SKIPPED,
}
_STATUSES = {"success": CheckState.SUCCESS, "pending": CheckState.PENDING}
_REVIEWS = {
    "APPROVED": ReviewState.APPROVED,
    "CHANGES_REQUESTED": ReviewState.CHANGES_REQUESTED,
    "DISMISSED": ReviewState.DISMISSED,
    "COMMENTED": ReviewState.COMMENTED,
}


READY = (
    "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { clientMutationId } }"
)
DRAFT = "mutation($id: ID!) { convertPullRequestToDraft(input: {pullRequestId: $id}) { clientMutationId } }"
ENQUEUE = (
    "mutation($id: ID!, $head: GitObjectID!) "
    "{ enqueuePullRequest(input: {pullRequestId: $id, expectedHeadOid: $head}) { clientMutationId } }"
)


DEQUEUE = "mutation($id: ID!) { dequeuePullRequest(input: {id: $id}) { clientMutationId } }"
QUEUED = "query($id: ID!) { node(id: $id) { ... on PullRequest { isInMergeQueue } } }"


class GitHub(GitHubIssues, GitHubFeedback, Forge):
    type = ForgeType.GITHUB
    longest_body = 65_536
    longest_title = 256
    _methods: ClassVar[Mapping[MergeMethod, str]] = {
        MergeMethod.MERGE: "allow_merge_commit",
        MergeMethod.SQUASH: "allow_squash_merge",
        MergeMethod.REBASE: "allow_rebase_merge",
    }
    """The field of a repository that allows each way to merge."""

    @staticmethod
    def headers(token: str) -> Mapping[str, str]:
        return {
            "authorization": f"Bearer {token}",
            "accept": "application/vnd.github+json",
            "x-github-api-version": "2022-11-28",
        }

    @staticmethod
    def path_of(project: str) -> str:
        return f"/repos/{quote(project)}"

    def repository(self) -> Repository:
        data = read_repository(self._http, self._root, self._project, name="full_name")
        with self._parsing("the repository"):
            rights = data.get("permissions") or {}
            return Repository(
                project=data["full_name"],
                url=data["html_url"],
                default_branch=data["default_branch"],
                archived=bool(data.get("archived")),
                can_push=bool(rights.get("push")),
                can_merge=bool(rights.get("push")),
                methods=tuple(
                    way for way, name in self._methods.items() if data.get(name, True) is not False
                ),
            )

    def _list_requests(self, head: str) -> list[Any]:
        owner = self._project.partition("/")[0]
        return self._http.list(
            self._requests, head=f"{owner}:{head}", state="all", sort="created", direction="desc"
        )

    def update(self, request: PullRequest, changes: RequestChanges) -> PullRequest:
        self._refuse_long(changes)
        if changes.labels:
            self._refuse_unknown_labels(changes.labels)
        if changes.base is not None:
            request = self._patch(request, base=changes.base)
        request = self._update_issue(request, changes)
        if changes.reviewers or changes.teams:
            request = self._request_reviews(request, changes)
        return request

    def _patch(self, request: PullRequest, **fields: str) -> PullRequest:
        with classified(*REFUSED_REQUEST):
            return self._request(self._http.send("PATCH", f"{self._requests}/{request.number}", fields))

    def _update_issue(self, request: PullRequest, changes: RequestChanges) -> PullRequest:
        fields: dict[str, Any] = changes.model_dump(include={"title", "body"}, exclude_none=True)
        if changes.labels:
            fields["labels"] = merged_names(request.labels, changes.labels)
        if changes.assignees:
            fields["assignees"] = merged_names(request.assignees, changes.assignees)
        if not fields:
            return request
        with classified(
            *REFUSED_REQUEST,
            ("assignee", ForgeProblem.UNKNOWN_PERSON, "somebody cannot be assigned", "correct the name"),
        ):
            issue = self._http.send("PATCH", f"{self._root}/issues/{request.number}", fields)
        with self._parsing("the issue of the request"):
            assigned = names_of(issue.get("assignees"), "login")
            update = {
                "title": issue["title"],
                "body": issue.get("body") or "",
                "labels": names_of(issue.get("labels"), "name"),
                "assignees": assigned,
            }
        refuse_unknown(ForgeProblem.UNKNOWN_PERSON, changes.assignees, assigned, self._project, fold=True)
        return request.model_copy(update=update)

    def _request_reviews(self, request: PullRequest, changes: RequestChanges) -> PullRequest:
        made = self._send_review_request(request, changes)
        with self._parsing("the reviewers"):
            update = {
                "reviewers": names_of(made["requested_reviewers"], "login"),
                "teams": names_of(made.get("requested_teams"), "slug"),
            }
        return request.model_copy(update=update)

    def _send_review_request(self, request: PullRequest, changes: RequestChanges) -> Any:
        body = {"reviewers": list(changes.reviewers), "team_reviewers": list(changes.teams)}
        with classified(
            (
                "^(422|404)",
                ForgeProblem.UNKNOWN_PERSON,
                f"{self._project}: a reviewer or team cannot be asked",
                "name people and teams with access to the repository, not the author",
            )
        ):
            return self._http.send("POST", f"{self._requests}/{request.number}/requested_reviewers", body)

    def set_draft(self, request: PullRequest, *, draft: bool) -> PullRequest:
        self._graph(DRAFT if draft else READY, id=request.node)
        return request.model_copy(update={"state": RequestState.DRAFT if draft else RequestState.OPEN})

    def close(self, number: int) -> PullRequest:
        closed = self._request(self._http.send("PATCH", f"{self._requests}/{number}", {"state": "closed"}))
        if closed.state is RequestState.MERGED:
            raise already_closed(closed)
        return closed

    def closer(self, number: int) -> str:
        issue = self._http.get(f"{self._root}/issues/{number}")
        with self._parsing("the issue of the request"):
            return (issue.get("closed_by") or {}).get("login") or ""

    def reviews(self, number: int) -> tuple[Review, ...]:
        data = self._http.list(f"{self._requests}/{number}/reviews")
        with self._parsing("the reviews"):
            return last_verdicts(
                Review(
                    author=(one.get("user") or {}).get("login", ""),
                    state=state,
                    head=one.get("commit_id") or "",
                )
                for one in data
                if (state := self._review_state(one)) is not None
            )

    @staticmethod
    def _review_state(review: Mapping[str, Any]) -> ReviewState | None:
        """Return the state of a review; None for one that its author has not sent yet."""
        word = review["state"].upper()
        return None if word == "PENDING" else _REVIEWS[word]

    def checks(self, commit: str) -> tuple[Check, ...]:
        at = f"{self._root}/commits/{full_commit(commit)}"
        runs = self._http.list(f"{at}/check-runs", within="check_runs")
        statuses = self._http.list(f"{at}/status", within="statuses")
        with self._parsing("the checks"):
            checks = [
                Check(
                    name=one["name"],
                    state=_conclusion(one),
                    url=one.get("details_url") or one.get("html_url") or "",
                    job=str(one["id"]),
                )
                for one in runs
            ]
            for one in statuses:
                state = _STATUSES.get(one["state"], CheckState.FAILURE)
                url, required = one.get("target_url") or "", one.get("required")
                checks.append(Check(name=one["context"], state=state, url=url, required=required))
        return worst_by_name(checks)

    def protection(self, branch: str) -> Protection:
        name = quote(branch, safe="")
        rules = self._http.list(f"{self._root}/rules/branches/{name}")
        about = self._http.get(f"{self._root}/branches/{name}")
        classic: Mapping[str, Any] = {}
        if isinstance(about, dict) and about.get("protected"):
            classic = self._rules_at(f"/branches/{name}/protection") or about.get("protection") or {}
        with self._parsing("the rules of the branch"):
            return _protection(rules, classic)

    def _rules_at(self, path: str) -> Mapping[str, Any]:
        """Return a rule of a branch; empty where the token may not see it, which needs admin rights."""
        data = self._if_visible(lambda: self._http.get(f"{self._root}{path}"))
        return data if isinstance(data, dict) else {}

    def merge(
        self, number: int, *, expected_head: str, method: MergeMethod, title: str = "", message: str = ""
    ) -> Merged:
        body = {"sha": full_commit(expected_head), "merge_method": method.value}
        texts = {"commit_title": title, "commit_message": message}
        body |= {name: text for name, text in texts.items() if text}
        with merging(
            lambda: self.get(number),
            (
                "^405.*merge queue",
                ForgeProblem.QUEUE_ONLY,
                "the branch takes changes through its merge queue only",
                "land it with coord, which puts the request into the queue",
            ),
            ("^409", *HEAD_MOVED),
            ("^422", *NOT_MERGEABLE),
        ):
            merged = self._http.send("PUT", f"{self._requests}/{number}/merge", body)
        with self._parsing("the merge"):
            return Merged(commit=merged["sha"])

    def enqueue(self, request: PullRequest, *, expected_head: str) -> None:
        self._graph(ENQUEUE, id=request.node, head=full_commit(expected_head))

    def is_queued(self, request: PullRequest) -> bool:
        data = self._graph(QUEUED, id=request.node)
        with self._parsing("the merge queue"):
            return bool(data["node"]["isInMergeQueue"])

    def dequeue(self, request: PullRequest) -> None:
        self._graph(DEQUEUE, id=request.node)

    def set_status(self, commit: str, status: CommitStatus) -> None:
        skipped = status.state is CheckState.SKIPPED  # which GitHub's statuses do not have
        body = {
            "state": CheckState.SUCCESS if skipped else status.state,
            "context": status.context,
            "description": status.description[:LONGEST_DESCRIPTION],
            **({"target_url": status.url} if status.url else {}),
        }
        self._http.send("POST", f"{self._root}/statuses/{full_commit(commit)}", body)

    def _request(self, data: Any) -> PullRequest:
        with self._parsing("the request"):
            head_repo = data["head"].get("repo") or {}
            merged = bool(data.get("merged") or data.get("merged_at"))
            state = _state(data, merged=merged)
            blocked = data.get("mergeable_state") or ""
            return PullRequest(
                number=data["number"],
                url=data["html_url"],
                title=data["title"],
                body=data.get("body") or "",
                head=data["head"]["ref"],
                head_sha=data["head"]["sha"],
                head_project=head_repo.get("full_name") or "",
                base=data["base"]["ref"],
                state=state,
                mergeable=data.get("mergeable"),
                blocked=blocked if blocked in ("blocked", "behind", "draft", "dirty") else "",
                merge_commit=(data.get("merge_commit_sha") or "") if merged else "",
                author=(data.get("user") or {}).get("login", ""),
                labels=names_of(data.get("labels"), "name"),
                assignees=names_of(data.get("assignees"), "login"),
                reviewers=names_of(data.get("requested_reviewers"), "login"),
                teams=names_of(data.get("requested_teams"), "slug"),
                node=data.get("node_id") or "",
            )


def _state(data: Mapping[str, Any], *, merged: bool) -> RequestState:
    if merged:
        return RequestState.MERGED
    if data["state"] == "closed":
        return RequestState.CLOSED
    return RequestState.DRAFT if data.get("draft") else RequestState.OPEN


def _conclusion(run: Mapping[str, Any]) -> CheckState:
    if run["status"] != "completed":
        return CheckState.PENDING
    return _CONCLUSIONS.get(run.get("conclusion") or "", CheckState.FAILURE)


def _protection(rules: list[Any], classic: Mapping[str, Any]) -> Protection:
    needed = classic.get("required_status_checks") or {}
    checks = [*needed.get("contexts", ()), *names_of(needed.get("checks"), "context")]
    reviews = classic.get("required_pull_request_reviews") or {}
    approvals, strict, queue = int(reviews.get("required_approving_review_count") or 0), False, False
    for rule in rules:
        values = rule.get("parameters") or {}
        match rule["type"]:
            case "required_status_checks":
                checks += names_of(values.get("required_status_checks"), "context")
                strict = strict or bool(values.get("strict_required_status_checks_policy"))
            case "pull_request":
                approvals = max(approvals, int(values.get("required_approving_review_count") or 0))
            case "merge_queue":
                queue = True
    return Protection(
        checks=tuple(dict.fromkeys(checks)),
        approvals=approvals,
        up_to_date=strict or bool(needed.get("strict")),
        queue=queue,
    )
