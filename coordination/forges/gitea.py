"""Gitea and Forgejo: REST version 1, which follows GitHub's for requests, comments and statuses.

It differs in drafts (a prefix of the title), labels (by their ids), reviews, rules of branches, and merges.
It has no check runs, no merge queue, no GraphQL and no ETags. `mergeable` is also false for a draft, where it
has no meaning, and while Gitea computes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.feedback import GiteaFeedback
from coordination.forges.github import GitHub
from coordination.forges.issues import GiteaIssues
from coordination.forges.models import (
    Check,
    CheckState,
    ForgeType,
    Merged,
    MergeMethod,
    Protection,
    PullRequest,
    RequestChanges,
    RequestState,
    ReviewState,
)
from coordination.forges.reading import (
    HEAD_MOVED,
    NOT_MERGEABLE,
    REFUSED_REQUEST,
    DraftTitle,
    classified,
    full_commit,
    merged_names,
    merging,
    names_of,
    refuse_unknown,
    worst_by_name,
)

_STATES = {
    "success": CheckState.SUCCESS,
    "warning": CheckState.SUCCESS,
    "pending": CheckState.PENDING,
    "skipped": CheckState.SKIPPED,
}
_REVIEWS = {
    "APPROVED": ReviewState.APPROVED,
    "REQUEST_CHANGES": ReviewState.CHANGES_REQUESTED,
    "COMMENT": ReviewState.COMMENTED,
}


class Gitea(GiteaIssues, GiteaFeedback, GitHub):
    type = ForgeType.GITEA
    longest_title = 255
    _drafts = DraftTitle(prefix="WIP: ", pattern=re.compile(r"^\s*(wip:|\[wip\])\s*", re.IGNORECASE))
    _refused_request = (
        *REFUSED_REQUEST,
        (
            "^404",
            ForgeProblem.NO_BRANCH,
            "the forge does not have the branch, or the repository",
            "push it; see `branch` and `url` of the repository in the file",
        ),
    )
    _methods: ClassVar[Mapping[MergeMethod, str]] = {
        MergeMethod.MERGE: "allow_merge_commits",
        MergeMethod.SQUASH: "allow_squash_merge",
        MergeMethod.REBASE: "allow_rebase",
    }

    @staticmethod
    def headers(token: str) -> Mapping[str, str]:
        return {"authorization": f"token {token}", "accept": "application/json"}

    def _list_requests(self, head: str) -> list[Any]:
        return self._http.list(self._requests, state="all")  # no filter by branch

    def update(self, request: PullRequest, changes: RequestChanges) -> PullRequest:
        self._refuse_long(changes)
        fields: dict[str, Any] = changes.model_dump(include={"body", "base"}, exclude_none=True)
        if changes.title is not None:
            fields["title"] = self._title(changes.title, draft=request.state is RequestState.DRAFT)
        if changes.labels:
            fields["labels"] = self._label_ids(merged_names(request.labels, changes.labels))
        if changes.assignees:
            fields["assignees"] = merged_names(request.assignees, changes.assignees)
        if fields:
            request = self._patch(request, **fields)
            there = request.assignees
            refuse_unknown(ForgeProblem.UNKNOWN_PERSON, changes.assignees, there, self._project, fold=True)
        if changes.reviewers or changes.teams:
            self._send_review_request(request, changes)
            reviewers, teams = (
                merged_names(request.reviewers, changes.reviewers),
                merged_names(request.teams, changes.teams),
            )
            return request.model_copy(update={"reviewers": tuple(reviewers), "teams": tuple(teams)})
        return request

    def _patch(self, request: PullRequest, **fields: Any) -> PullRequest:
        rules = (
            *REFUSED_REQUEST,
            ("user|assignee", ForgeProblem.UNKNOWN_PERSON, "somebody cannot be assigned", "correct the name"),
        )
        with classified(*rules):
            return self._request(self._http.send("PATCH", f"{self._requests}/{request.number}", fields))

    def set_draft(self, request: PullRequest, *, draft: bool) -> PullRequest:
        return self._patch(request, title=self._title(request.title, draft=draft))

    def close(self, number: int) -> PullRequest:
        merged = ("^412", ForgeProblem.CLOSED, "the request is already merged", "see its page")
        with classified(merged):
            return super().close(number)

    def closer(self, number: int) -> str:
        return ""  # Gitea has it in the timeline of the request only

    @staticmethod
    def _review_state(review: Mapping[str, Any]) -> ReviewState | None:
        """Return the state of a review; None for a draft of a review, and for the request of one."""
        return ReviewState.DISMISSED if review.get("dismissed") else _REVIEWS.get(review["state"])

    def checks(self, commit: str) -> tuple[Check, ...]:
        data = self._http.list(f"{self._root}/commits/{full_commit(commit)}/statuses", sort="recentupdate")
        newest: dict[str, Check] = {}
        with self._parsing("the statuses"):
            for one in sorted(data, key=lambda one: int(one["id"])):
                state = _STATES.get(one["status"], CheckState.FAILURE)
                newest[one["context"]] = Check(
                    name=one["context"], state=state, url=one.get("target_url") or ""
                )
        return worst_by_name(newest.values())

    def protection(self, branch: str) -> Protection:
        about = self._http.get(f"{self._root}/branches/{quote(branch, safe='')}")
        with self._parsing("the rules of the branch"):
            name = about.get("effective_branch_protection_name") or ""
            at = f"/branch_protections/{quote(name, safe='')}"
            rule = self._rules_at(at) if about.get("protected") and name else {}
            checks = about.get("status_check_contexts") if about.get("enable_status_check") else ()
            return Protection(
                checks=tuple(checks or ()),
                approvals=int(about.get("required_approvals") or 0),
                up_to_date=bool(rule.get("block_on_outdated_branch")),
            )

    def merge(
        self, number: int, *, expected_head: str, method: MergeMethod, title: str = "", message: str = ""
    ) -> Merged:
        body = {"Do": method.value, "head_commit_id": full_commit(expected_head)}
        texts = {"MergeTitleField": title, "MergeMessageField": message}
        body |= {name: text for name, text in texts.items() if text}
        may_not = (ForgeProblem.FORBIDDEN, "the token may not merge here", "give it the right to merge")
        with merging(
            lambda: self.get(number),
            ("^405.*not allowed to merge", *may_not),
            ("^409.*(head out of date|does not match)", *HEAD_MOVED),
            ("^409", *NOT_MERGEABLE),
        ):
            self._http.send("POST", f"{self._requests}/{number}/merge", body)
        return Merged(commit=self.get(number).merge_commit)  # the answer to a merge is empty

    def enqueue(self, request: PullRequest, *, expected_head: str) -> None:
        raise ForgeError(ForgeProblem.UNSUPPORTED, "Gitea has no merge queue", "merge the request directly")

    def is_queued(self, request: PullRequest) -> bool:
        return False

    def dequeue(self, request: PullRequest) -> None:
        raise ForgeError(ForgeProblem.UNSUPPORTED, "Gitea has no merge queue", "merge the request directly")

    def _request(self, data: Any) -> PullRequest:
        request = super()._request(data)
        title = self._drafts.plain(request.title)
        with self._parsing("the teams of the request"):
            teams = names_of(data.get("requested_reviewers_teams"), "name")
        update: dict[str, Any] = {"title": title, "teams": teams}
        if request.is_open and title != request.title:
            update |= {"state": RequestState.DRAFT, "mergeable": None}
        return request.model_copy(update=update)
