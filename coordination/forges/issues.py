"""Issues at a forge: the calls, and the form that each forge gives to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from coordination.forges.errors import ForgeProblem
from coordination.forges.http import HttpClient
from coordination.forges.models import ForgeIssue, ForgeType, IssueChanges, NewIssue
from coordination.forges.reading import (
    TOO_LONG,
    Rule,
    classified,
    names_of,
    refuse_long,
    refuse_unknown,
)

UNKNOWN_ASSIGNEE: Rule = (
    "assignee|user does not exist",
    ForgeProblem.UNKNOWN_PERSON,
    "a person cannot be assigned",
    "assign an account with access to the repository, or nobody",
)
NOBODY = [0]
"""GitLab: removes all assignees."""


class Issues(ABC):
    """The issues of one repository, with one token."""

    type: ClassVar[ForgeType]
    longest_body: ClassVar[int]
    """Characters of the longest body of a request, issue or comment."""
    longest_title: ClassVar[int]
    """Characters of the longest title of an issue."""
    page_size: ClassVar[str] = "per_page"
    """Name of the query field that sets the number of items on a page."""
    _update_method: ClassVar[str] = "PATCH"
    _refused_issue: ClassVar[Sequence[Rule]] = (TOO_LONG,)

    def __init__(self, http: HttpClient, project: str) -> None:
        self._http = http
        self._project = project
        self._root = self.path_of(project)

    @staticmethod
    @abstractmethod
    def path_of(project: str) -> str:
        """Return the address of a repository below the API."""

    @contextmanager
    def _parsing(self, what: str) -> Iterator[None]:
        """Turn a field that is missing or of another type into BROKEN_ANSWER."""
        try:
            yield
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            lines = str(error).splitlines()
            raise self._http.broken(f"{what}: {type(error).__name__}: {lines[0] if lines else ''}") from error

    @abstractmethod
    def list_issues(self) -> tuple[ForgeIssue, ...]:
        """Return all issues, open and closed, from old to new. Raises NOT_FOUND where issues are off."""

    def create_issue(self, new: NewIssue) -> ForgeIssue:
        """Create an issue. Raises TOO_LONG, UNKNOWN_LABEL, UNKNOWN_PERSON before anything is created.

        A forge may ignore labels and people that the token must not set: compare the result.
        """
        self._refuse_unfit_issue(new)
        return self._send_issue("POST", f"{self._root}/issues", new)

    def update_issue(self, number: int, changes: IssueChanges) -> ForgeIssue:
        """Change an issue. Raises TOO_LONG, UNKNOWN_LABEL, UNKNOWN_PERSON; NOT_FOUND for a deleted one."""
        self._refuse_unfit_issue(changes)
        return self._send_issue(self._update_method, f"{self._root}/issues/{number}", changes)

    def labels(self) -> tuple[str, ...]:
        """Return the labels that the repository has."""
        data = self._http.list(f"{self._root}/labels")
        with self._parsing("the labels"):
            return names_of(data, "name")

    def _refuse_unfit_issue(self, issue: NewIssue | IssueChanges) -> None:
        refuse_long("title", issue.title, self.longest_title)
        refuse_long("body", issue.body, self.longest_body)
        if issue.labels:
            self._refuse_unknown_labels(issue.labels)

    def _refuse_unknown_labels(self, names: Iterable[str]) -> None:
        fold = self.type is not ForgeType.GITLAB
        refuse_unknown(ForgeProblem.UNKNOWN_LABEL, names, self.labels(), self._project, fold=fold)

    def _send_issue(self, method: str, path: str, issue: NewIssue | IssueChanges) -> ForgeIssue:
        with classified(*self._refused_issue):
            return self._issue(self._http.send(method, path, self._issue_fields(issue)))

    @abstractmethod
    def _issue_fields(self, issue: NewIssue | IssueChanges) -> dict[str, Any]:
        """Return the fields of an issue as the forge names them."""

    @abstractmethod
    def _issue(self, data: Any) -> ForgeIssue:
        """Return the issue in an answer of the forge."""


class GitHubIssues(Issues):
    """GitHub lists its pull requests among the issues."""

    _refused_issue = (UNKNOWN_ASSIGNEE, TOO_LONG)
    _issue_query: ClassVar[Mapping[str, str]] = {"state": "all", "sort": "created", "direction": "asc"}

    def list_issues(self) -> tuple[ForgeIssue, ...]:
        data = self._http.list(f"{self._root}/issues", **self._issue_query)
        with self._parsing("the issues"):
            issues = [self._issue(one) for one in data if not one.get("pull_request")]
        return tuple(sorted(issues, key=lambda one: one.number))

    def _issue_fields(self, issue: NewIssue | IssueChanges) -> dict[str, Any]:
        fields = issue.model_dump(mode="json", exclude_none=True)
        if (is_open := fields.pop("is_open", None)) is not None:
            fields["state"] = "open" if is_open else "closed"
        return fields

    def _issue(self, data: Any) -> ForgeIssue:
        with self._parsing("the issue"):
            labels = [one if isinstance(one, str) else one["name"] for one in data.get("labels") or ()]
            return ForgeIssue(
                number=data["number"],
                url=data["html_url"],
                title=data["title"],
                body=data.get("body") or "",
                is_open=data["state"] == "open",
                labels=tuple(labels),
                assignees=names_of(data.get("assignees"), "login"),
            )


class GiteaIssues(GitHubIssues):
    """Gitea takes the ids of labels, and changes labels in a call of their own.

    It answers 500 to an edit with an unknown assignee.
    """

    page_size = "limit"
    _issue_query: ClassVar[Mapping[str, str]] = {"state": "all", "type": "issues"}

    def update_issue(self, number: int, changes: IssueChanges) -> ForgeIssue:
        self._refuse_unfit_issue(changes)
        at = f"{self._root}/issues/{number}"
        if changes.labels is not None:
            self._http.send("PUT", f"{at}/labels", {"labels": self._label_ids(changes.labels)})
        others = changes.model_copy(update={"labels": None})
        if others == IssueChanges():
            return self._issue(self._http.get(at))
        return self._send_issue("PATCH", at, others)

    def _refuse_unfit_issue(self, issue: NewIssue | IssueChanges) -> None:
        super()._refuse_unfit_issue(issue)
        if issue.assignees:
            known = self._http.get(f"{self._root}/assignees")
            with self._parsing("the assignees"):
                people = names_of(known, "login")
            refuse_unknown(ForgeProblem.UNKNOWN_PERSON, issue.assignees, people, self._project, fold=True)

    def _issue_fields(self, issue: NewIssue | IssueChanges) -> dict[str, Any]:
        fields = super()._issue_fields(issue)
        if issue.labels:
            fields["labels"] = self._label_ids(issue.labels)
        return fields

    def _label_ids(self, names: Sequence[str]) -> list[int]:
        labels = self._http.list(f"{self._root}/labels")
        with self._parsing("the labels"):
            ids = {one["name"].casefold(): int(one["id"]) for one in labels}
        refuse_unknown(ForgeProblem.UNKNOWN_LABEL, names, ids, self._project, fold=True)
        return [ids[name.casefold()] for name in names]


class GitLabIssues(Issues):
    """GitLab takes the ids of people."""

    _update_method = "PUT"

    def list_issues(self) -> tuple[ForgeIssue, ...]:
        data = self._http.list(
            f"{self._root}/issues", state="all", scope="all", order_by="created_at", sort="asc"
        )
        return tuple(self._issue(one) for one in data)

    def _issue_fields(self, issue: NewIssue | IssueChanges) -> dict[str, Any]:
        fields: dict[str, Any] = {"title": issue.title, "description": issue.body}
        if issue.labels is not None:
            fields["labels"] = ",".join(issue.labels)
        if issue.assignees is not None:
            fields["assignee_ids"] = self._ids(issue.assignees) or NOBODY
        if isinstance(issue, IssueChanges) and issue.is_open is not None:
            fields["state_event"] = "reopen" if issue.is_open else "close"
        return {name: value for name, value in fields.items() if value is not None}

    def _ids(self, names: Iterable[str]) -> list[int]:
        names, missing = list(names), []
        for name in names:
            if name.casefold() not in self._http.ids:
                data = self._http.list("/users", username=name)
                with self._parsing("the people"):
                    self._http.ids |= {one["username"].casefold(): int(one["id"]) for one in data}
            if name.casefold() not in self._http.ids:
                missing.append(name)
        refuse_unknown(ForgeProblem.UNKNOWN_PERSON, missing, (), self._http.host, fold=True)
        return [self._http.ids[name.casefold()] for name in names]

    def _issue(self, data: Any) -> ForgeIssue:
        with self._parsing("the issue"):
            return ForgeIssue(
                number=data["iid"],
                url=data["web_url"],
                title=data["title"],
                body=data.get("description") or "",
                is_open=data["state"] == "opened",
                labels=tuple(str(label) for label in data.get("labels") or ()),
                assignees=names_of(data.get("assignees"), "username"),
            )
