"""Issues of GitHub; Gitea's follow them, except for labels, which it takes by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from coordination.forges.errors import ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.models import ForgeIssue, IssueChanges, NewIssue
from coordination.forges.reading import names_of, reading

REFUSED_ISSUE = (
    (
        "assignee|user does not exist",
        ForgeProblem.UNKNOWN_PERSON,
        "a person cannot be assigned",
        "name an account with access to the repository as assignee, or none",
    ),
    ("too long", ForgeProblem.TOO_LONG, "a text is longer than the forge takes", "shorten it"),
)


class GitHubIssues(Forge):
    """The calls of issues."""

    refused_issue = REFUSED_ISSUE
    issue_query: ClassVar[Mapping[str, str]] = {"state": "all", "sort": "created", "direction": "asc"}

    def list_issues(self) -> tuple[ForgeIssue, ...]:
        found = self._http.list(f"{self._at}/issues", **self.issue_query)
        with reading(self._http, "the issues"):
            issues = [self._issue(one) for one in found if not one.get("pull_request")]
        return tuple(sorted(issues, key=lambda one: one.number))

    def _issue_fields(self, issue: NewIssue | IssueChanges) -> dict[str, Any]:
        fields = issue.model_dump(mode="json", exclude_none=True)
        if (is_open := fields.pop("is_open", None)) is not None:
            fields["state"] = "open" if is_open else "closed"
        return fields

    def _issue(self, found: Any) -> ForgeIssue:
        with reading(self._http, "the issue"):
            labels = [one if isinstance(one, str) else one["name"] for one in found.get("labels") or ()]
            return ForgeIssue(
                number=found["number"],
                url=found["html_url"],
                title=found["title"],
                body=found.get("body") or "",
                is_open=found["state"] == "open",
                labels=tuple(labels),
                assignees=names_of(found.get("assignees"), "login"),
            )
