"""The interface of a forge: the calls that coord makes for one repository.

Every call raises ForgeError. A list is whole or an error: pages that could not be read never make it shorter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from coordination.forges.feedback import Feedback
from coordination.forges.models import (
    Check,
    CommitStatus,
    Merged,
    MergeMethod,
    NewRequest,
    Protection,
    PullRequest,
    Repository,
    RequestChanges,
    Review,
)
from coordination.forges.reading import (
    NOT_REOPENED,
    REFUSED_REQUEST,
    DraftTitle,
    Rule,
    classified,
    refuse_long,
)


class Forge(Feedback):
    """One repository at a forge, with one token."""

    _comments_at: ClassVar[str] = "issues/{number}/comments"
    _refused_request: ClassVar[tuple[Rule, ...]] = REFUSED_REQUEST
    _drafts: ClassVar[DraftTitle | None] = None
    """The mark in the titles of drafts; None: they have a field of their own."""
    _reopened: ClassVar[Mapping[str, str]] = {"state": "open"}
    """The change that opens a closed request again."""

    @staticmethod
    @abstractmethod
    def headers(token: str) -> Mapping[str, str]:
        """Return the headers that carry the token."""

    @abstractmethod
    def repository(self) -> Repository:
        """Return the repository. Raises RENAMED with the new name in the message."""

    def find(self, head: str) -> PullRequest | None:
        """Return the request of a branch of this repository: the open one, else the newest; None without."""
        found = (self._request(one) for one in self._list_requests(head))
        project = self._project.casefold()
        own = (one for one in found if one.head == head and one.head_project.casefold() == project)
        return max(own, key=lambda one: (one.is_open, one.number), default=None)

    @abstractmethod
    def _list_requests(self, head: str) -> list[Any]:
        """Return the open and closed requests of a branch; requests of other branches may be among them."""

    def get(self, number: int) -> PullRequest:
        """Return a request, with `mergeable` and `blocked` where the forge knows them."""
        return self._request(self._http.get(f"{self._requests}/{number}"))

    def create(self, new: NewRequest) -> PullRequest:
        """Open a request. Raises ALREADY_EXISTS, NO_DIFFERENCE, NO_BRANCH, TOO_LONG, FORK_NEEDED."""
        self._refuse_long(new)
        with classified(*self._refused_request):
            return self._request(self._http.send("POST", self._requests, self._new_fields(new)))

    def _new_fields(self, new: NewRequest) -> dict[str, Any]:
        """Return the fields of a request in the forge's form."""
        fields = new.model_dump(exclude={"draft"} if self._drafts else None)
        return fields | {"title": self._title(new.title, draft=new.draft)}

    def _title(self, title: str, *, draft: bool) -> str:
        return self._drafts.marked(title, draft=draft) if self._drafts else title

    @abstractmethod
    def _request(self, found: Any) -> PullRequest:
        """Read a request that the forge answers with."""

    def _refuse_long(self, request: NewRequest | RequestChanges) -> None:
        mark = len(self._drafts.prefix) if self._drafts else 0
        refuse_long("title", request.title, self.longest_title - mark)
        refuse_long("body", request.body, self.longest_body)

    @abstractmethod
    def update(self, request: PullRequest, changes: RequestChanges) -> PullRequest:
        """Change a request; labels, people and teams are added. Raises UNKNOWN_LABEL, UNKNOWN_PERSON,
        TOO_LONG, NO_BRANCH, also where the forge has applied only a part of the changes.
        """

    @abstractmethod
    def set_draft(self, request: PullRequest, *, draft: bool) -> PullRequest:
        """Make a request a draft, or mark it as ready for review."""

    def comment(self, number: int, body: str) -> None:
        """Add a comment. Raises TOO_LONG."""
        refuse_long("comment", body, self.longest_body)
        self._http.send("POST", f"{self._root}/{self._comments_at.format(number=number)}", {"body": body})

    @abstractmethod
    def close(self, number: int) -> PullRequest:
        """Close a request without merging it; a closed one stays. Raises CLOSED for a merged one."""

    def reopen(self, number: int) -> PullRequest:
        """Open a closed request again. Raises CLOSED if the forge does not open it any more."""
        with classified(("^4(00|05|09|12|22)", *NOT_REOPENED)):
            fields = self._reopened
            return self._request(self._http.send(self._update_method, f"{self._requests}/{number}", fields))

    def closer(self, number: int) -> str:
        """Return the account that closed a request; empty where the forge does not say it."""
        return ""

    @abstractmethod
    def reviews(self, number: int) -> tuple[Review, ...]:
        """Return the last verdict of each reviewer; a comment does not replace a verdict."""

    @abstractmethod
    def checks(self, commit: str) -> tuple[Check, ...]:
        """Return the newest state of each check of a commit, sorted by name."""

    @abstractmethod
    def protection(self, branch: str) -> Protection:
        """Return the forge's rules of a branch, without those that the token may not see."""

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

    def close_connection(self) -> None:
        """Close the connections to the forge."""
        self._http.close()
