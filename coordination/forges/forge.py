"""The interface of a forge: the calls that coord makes for one repository.

Every call raises ForgeError. A list is whole or an error: pages that could not be read never make it shorter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from coordination.forges.errors import ForgeProblem
from coordination.forges.http import HttpClient
from coordination.forges.models import (
    Check,
    CommitStatus,
    ForgeIssue,
    ForgeType,
    IssueChanges,
    Merged,
    MergeMethod,
    NewIssue,
    NewRequest,
    Protection,
    PullRequest,
    Repository,
    RequestChanges,
    Review,
)
from coordination.forges.reading import names_of, reading, refuse_long, refuse_unknown, sharpened


class Forge(ABC):
    """One repository at a forge, with one token."""

    type: ForgeType
    longest_body: int
    """Characters of the longest body of a request, issue or comment."""
    longest_title: int
    """Characters of the longest title of an issue."""
    refused_issue: ClassVar[Sequence[tuple[str, ForgeProblem, str, str]]] = ()
    """The forge's words for unfit issues, for `sharpened`."""
    changes_by: ClassVar[str] = "PATCH"
    """The method of HTTP that changes an issue."""
    page_size: ClassVar[str] = "per_page"
    """Name of the query field for the items of a page."""

    def __init__(self, http: HttpClient, project: str) -> None:
        self._http = http
        self._project = project
        self._at = self.place(project)

    @staticmethod
    @abstractmethod
    def headers(token: str) -> Mapping[str, str]:
        """Return the headers that carry the token."""

    @staticmethod
    @abstractmethod
    def place(project: str) -> str:
        """Return the address of a repository below the API."""

    @abstractmethod
    def repository(self) -> Repository:
        """Return the repository. Raises RENAMED with the new name in the message."""

    @abstractmethod
    def find(self, head: str) -> PullRequest | None:
        """Return the request of a branch of this repository: the open one, else the newest; None without."""

    @abstractmethod
    def get(self, number: int) -> PullRequest:
        """Return a request, with `mergeable` and `blocked` where the forge knows them."""

    @abstractmethod
    def create(self, new: NewRequest) -> PullRequest:
        """Open a request. Raises ALREADY_EXISTS, NO_DIFFERENCE, NO_BRANCH, TOO_LONG, FORK_NEEDED."""

    @abstractmethod
    def update(self, request: PullRequest, changes: RequestChanges) -> PullRequest:
        """Change a request; labels, people and teams are added. Raises UNKNOWN_LABEL, UNKNOWN_PERSON,
        TOO_LONG, NO_BRANCH; a request of which only a part could be changed is an error, too.
        """

    @abstractmethod
    def set_draft(self, request: PullRequest, *, draft: bool) -> PullRequest:
        """Make a request a draft, or mark it as ready for review."""

    @abstractmethod
    def comment(self, number: int, body: str) -> None:
        """Add a comment. Raises TOO_LONG."""

    @abstractmethod
    def close(self, number: int) -> PullRequest:
        """Close a request without merging it; a closed one stays. Raises CLOSED for a merged one."""

    @abstractmethod
    def reviews(self, number: int) -> tuple[Review, ...]:
        """Return the last verdict of each reviewer; a comment does not replace a verdict."""

    @abstractmethod
    def checks(self, commit: str) -> tuple[Check, ...]:
        """Return the newest state of each check of a commit, sorted by name."""

    @abstractmethod
    def protection(self, branch: str) -> Protection:
        """Return the forge's rules of a branch; those that the token may not see are not in it."""

    @abstractmethod
    def merge(
        self, number: int, *, expected_head: str, method: MergeMethod, title: str = "", message: str = ""
    ) -> Merged:
        """Merge a request now, if its head is `expected_head`.

        Raises HEAD_MOVED, NOT_MERGEABLE, QUEUE_ONLY, CLOSED; and RATE_LIMIT as every call.
        """

    @abstractmethod
    def enqueue(self, request: PullRequest, *, expected_head: str) -> None:
        """Put a request into the merge queue of its base branch, if its head is `expected_head`.

        Raises HEAD_MOVED, NOT_MERGEABLE, UNSUPPORTED.
        """

    @abstractmethod
    def is_queued(self, request: PullRequest) -> bool:
        """Return whether a request is in the merge queue of its base branch."""

    @abstractmethod
    def dequeue(self, request: PullRequest) -> None:
        """Take a request out of the merge queue. Raises UNSUPPORTED where only a person can."""

    @abstractmethod
    def set_status(self, commit: str, status: CommitStatus) -> None:
        """Set a status of a commit."""

    @abstractmethod
    def list_issues(self) -> tuple[ForgeIssue, ...]:
        """Return all issues, open and closed, from old to new. Raises NOT_FOUND where issues are off."""

    def create_issue(self, new: NewIssue) -> ForgeIssue:
        """Create an issue. Raises TOO_LONG, UNKNOWN_LABEL, UNKNOWN_PERSON, before anything was created.

        A forge may leave out labels and people that the token may not set: compare the result.
        """
        self._refuse_unfit_issue(new)
        return self._sent_issue("POST", f"{self._at}/issues", new)

    def update_issue(self, number: int, changes: IssueChanges) -> ForgeIssue:
        """Change an issue. Raises TOO_LONG, UNKNOWN_LABEL, UNKNOWN_PERSON; NOT_FOUND for a deleted one."""
        self._refuse_unfit_issue(changes)
        return self._sent_issue(self.changes_by, f"{self._at}/issues/{number}", changes)

    def _sent_issue(self, method: str, path: str, issue: NewIssue | IssueChanges) -> ForgeIssue:
        with sharpened(*self.refused_issue):
            return self._issue(self._http.send(method, path, self._issue_fields(issue)))

    @abstractmethod
    def _issue_fields(self, issue: NewIssue | IssueChanges) -> dict[str, Any]:
        """Return the fields of an issue in the forge's form."""

    @abstractmethod
    def _issue(self, found: Any) -> ForgeIssue:
        """Read an issue that the forge answers with."""

    def labels(self) -> tuple[str, ...]:
        """Return the labels that the repository has."""
        found = self._http.list(f"{self._at}/labels")
        with reading(self._http, "the labels"):
            return names_of(found, "name")

    def _refuse_unfit_issue(self, issue: NewIssue | IssueChanges) -> None:
        refuse_long("title", issue.title, self.longest_title)
        refuse_long("body", issue.body, self.longest_body)
        if issue.labels:
            self._refuse_unknown_labels(issue.labels)

    def _refuse_unknown_labels(self, names: Iterable[str]) -> None:
        fold = self.type is not ForgeType.GITLAB
        refuse_unknown(ForgeProblem.UNKNOWN_LABEL, names, self.labels(), self._project, fold=fold)

    def close_connection(self) -> None:
        """Close the connections to the forge."""
        self._http.close()
