"""Issues of GitLab; people are named to it by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coordination.forges.errors import ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.models import ForgeIssue, IssueChanges, NewIssue
from coordination.forges.reading import names_of, reading, refuse_unknown

REFUSED_ISSUE = (("too long", ForgeProblem.TOO_LONG, "a text is longer than the forge takes", "shorten it"),)
UNASSIGNED = [0]


class GitLabIssues(Forge):
    """The calls of issues."""

    refused_issue = REFUSED_ISSUE
    changes_by = "PUT"

    def list_issues(self) -> tuple[ForgeIssue, ...]:
        found = self._http.list(
            f"{self._at}/issues", state="all", scope="all", order_by="created_at", sort="asc"
        )
        return tuple(self._issue(one) for one in found)

    def _issue_fields(self, issue: NewIssue | IssueChanges) -> dict[str, Any]:
        fields: dict[str, Any] = {"title": issue.title, "description": issue.body}
        if issue.labels is not None:
            fields["labels"] = ",".join(issue.labels)
        if issue.assignees is not None:
            fields["assignee_ids"] = self._ids(issue.assignees) or UNASSIGNED
        if isinstance(issue, IssueChanges) and issue.is_open is not None:
            fields["state_event"] = "reopen" if issue.is_open else "close"
        return {name: value for name, value in fields.items() if value is not None}

    def _ids(self, names: Iterable[str]) -> list[int]:
        names, missing = list(names), []
        for name in names:
            if name.casefold() not in self._http.ids:
                found = self._http.list("/users", username=name)
                with reading(self._http, "the people"):
                    self._http.ids |= {one["username"].casefold(): int(one["id"]) for one in found}
            if name.casefold() not in self._http.ids:
                missing.append(name)
        refuse_unknown(ForgeProblem.UNKNOWN_PERSON, missing, (), self._http.host, fold=True)
        return [self._http.ids[name.casefold()] for name in names]

    def _issue(self, found: Any) -> ForgeIssue:
        with reading(self._http, "the issue"):
            return ForgeIssue(
                number=found["iid"],
                url=found["web_url"],
                title=found["title"],
                body=found.get("description") or "",
                is_open=found["state"] == "opened",
                labels=tuple(str(label) for label in found.get("labels") or ()),
                assignees=names_of(found.get("assignees"), "username"),
            )
