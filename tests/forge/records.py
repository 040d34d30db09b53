"""Records of the test forge: people, projects, requests, reviews, checks, and refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from tests.forge.repositories import Bare


class Why(Enum):
    """A refusal; each dialect has its own status and words for it."""

    ABSENT = "not found"
    FORBIDDEN = "the person lacks the right"
    ARCHIVED = "archived"
    DUPLICATE = "an open request of this branch exists"
    NO_DIFFERENCE = "no commits between"
    NO_HEAD = "no such head branch"
    NO_BASE = "no such base branch"
    TOO_LONG = "body is too long"
    CONFLICT = "conflict"
    DRAFT = "draft"
    BLOCKED = "a rule of the branch is not met"
    UNCHECKED = "mergeability is not known yet"
    NOT_OPEN = "closed or merged"
    METHOD = "this way to merge is not allowed"
    QUEUE = "merge queue only"
    HEAD_MOVED = "the head is another commit"
    BASE_MOVED = "the base moved in this moment"
    OWN = "one's own request"
    DELETED = "deleted, or switched off"
    UNKNOWN_PERSON = "no such collaborator"
    NOT_BEHIND = "needs a rebase"


class Refused(Exception):
    def __init__(self, why: Why, detail: str = "") -> None:
        self.why = why
        self.detail = detail
        super().__init__(f"{why.value} {detail}")


@dataclass(eq=False)
class Person:
    id: int
    login: str


@dataclass(eq=False)
class Token:
    value: str
    person: Person
    revoked: bool = False
    used: int = 0


@dataclass
class Protection:
    approvals: int = 0
    checks: tuple[str, ...] = ()
    dismiss_stale: bool = True
    """A push takes approvals back."""
    up_to_date: bool = False
    queue: bool = False
    ruleset: bool = True
    """GitHub: True: by rules; False: by classic protection, which administrators alone may read."""
    locked: bool = True
    """Direct pushes to the branch are refused."""


@dataclass
class Check:
    id: int
    sha: str
    name: str
    state: str
    """pending, success, failure, skipped."""
    run: bool
    """GitHub: True: a check run; False: a commit status."""
    at: datetime
    description: str = ""
    url: str = ""
    person: Person | None = None
    log: str | None = None
    """The log of its job; None without one."""


@dataclass
class Remark:
    """A comment in a thread."""

    id: int
    person: Person
    body: str
    review: int
    """The review to which it belongs."""


@dataclass(eq=False)
class Thread:
    """Comments on one line of a file."""

    id: int
    path: str
    line: int
    remarks: list[Remark] = field(default_factory=list)
    resolved_by: Person | None = None


@dataclass
class Review:
    id: int
    person: Person
    state: str
    """approved, changes_requested, commented, dismissed."""
    sha: str
    at: datetime
    body: str = ""


@dataclass(eq=False)
class Request:
    id: int
    number: int
    title: str
    body: str
    head: str
    base: str
    author: Person
    sha: str
    base_sha: str
    at: datetime
    draft: bool = False
    state: str = "open"
    """open, closed, merged."""
    changed: datetime = field(init=False)
    ended: datetime | None = None
    ended_by: Person | None = None
    merge_commit: str = ""
    method: str = ""
    queued: str = ""
    """The head that was put into the merge queue."""
    reviewers: list[Person] = field(default_factory=list)
    assignees: list[Person] = field(default_factory=list)
    teams: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    comments: list[tuple[Person, str]] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changed = self.at


@dataclass(eq=False)
class Issue:
    id: int
    number: int
    title: str
    body: str
    author: Person
    at: datetime
    is_open: bool = True
    labels: list[str] = field(default_factory=list)
    assignees: list[Person] = field(default_factory=list)
    changed: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.changed = self.at


@dataclass
class Hook:
    id: int
    url: str
    secret: str
    dialect: str


@dataclass(eq=False)
class Project:
    id: int
    full_name: str
    bare: Bare
    default_branch: str
    members: dict[Person, str]
    """read, write or admin."""
    archived: bool = False
    earlier_names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=lambda: ["bug", "coord"])
    teams: list[str] = field(default_factory=lambda: ["reviewers"])
    methods: list[str] = field(default_factory=lambda: ["merge", "squash", "rebase"])
    protections: dict[str, Protection] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    has_issues: bool = True
    deleted: set[int] = field(default_factory=set)
    """Numbers of deleted issues."""
    checks: list[Check] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    queue: list[Request] = field(default_factory=list)
    asked: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of base and head whose merge is computed: the first question has no answer yet."""

    @property
    def name(self) -> str:
        return self.full_name.rpartition("/")[2]

    @property
    def owner(self) -> str:
        return self.full_name.rpartition("/")[0]
