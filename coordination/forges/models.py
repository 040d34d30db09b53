"""Records of forges; each adapter translates the answers of its forge into these."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from coordination.frozen import FrozenModel
from coordination.models.landing import Commit


class ForgeType(StrEnum):
    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    """Gitea and Forgejo."""


class RequestState(StrEnum):
    DRAFT = "draft"
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"
    """Closed without a merge."""


class CheckState(StrEnum):
    PENDING = "pending"
    """Queued, running, or waiting for a person."""
    SUCCESS = "success"
    FAILURE = "failure"
    SKIPPED = "skipped"
    """Skipped or neutral: it does not block a merge."""


class ReviewState(StrEnum):
    APPROVED = "approved"
    CHANGES_REQUESTED = "changes_requested"
    COMMENTED = "commented"
    DISMISSED = "dismissed"
    """Withdrawn, or outdated by a push."""


class MergeMethod(StrEnum):
    MERGE = "merge"
    SQUASH = "squash"
    REBASE = "rebase"


class ForgeRecord(FrozenModel):
    model_config = ConfigDict(extra="forbid")


class Repository(ForgeRecord):
    project: str
    """`owner/name`; at GitLab with all groups."""
    url: str
    """The page for people."""
    default_branch: str
    archived: bool
    can_push: bool
    """True if the token may push branches and open requests."""
    can_merge: bool
    """True if the token may merge into branches without protection."""
    methods: tuple[MergeMethod, ...]
    """Ways to merge that the repository allows."""


class PullRequest(ForgeRecord):
    """A pull request; a merge request at GitLab."""

    number: Annotated[int, Field(gt=0)]
    url: str
    """The page for people."""
    title: str
    """Without the prefix that marks a draft."""
    body: str
    head: str
    """The branch with the changes."""
    head_sha: Commit
    head_project: str
    """The repository of that branch; empty if the repository was deleted."""
    base: str
    """The branch into which it is to be merged."""
    state: RequestState
    mergeable: bool | None = None
    """True if it merges without a conflict; None if the forge does not know yet or did not say."""
    blocked: str = ""
    """The forge's reason for refusing a merge now; empty if it does not refuse or did not say."""
    merge_commit: str = ""
    """The commit on the base branch; empty before the merge."""
    author: str = ""
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    """People whose review was requested and is missing (GitLab: all whose review was requested)."""
    teams: tuple[str, ...] = ()
    node: str = ""
    """Its id in GraphQL calls; GitHub only."""

    @property
    def is_open(self) -> bool:
        return self.state in (RequestState.OPEN, RequestState.DRAFT)


class Check(ForgeRecord):
    """A check of a commit: a check run, a commit status, or a job of a pipeline."""

    name: str
    state: CheckState
    url: str = ""
    required: bool | None = None
    """None if the forge did not say; see `Protection.checks`."""
    whole: bool = False
    """True if it represents all checks of the commit together (GitLab: the pipeline)."""
    job: str = ""
    """The job whose log may be read; empty where the forge has none for it."""


class Review(ForgeRecord):
    author: str
    state: ReviewState
    head: str = ""
    """The commit that was reviewed; empty where the forge does not say (GitLab)."""
    at: str = ""
    """Time of an approval; empty where the forge does not say."""


class Remark(ForgeRecord):
    """A comment of a thread, without control characters and shortened."""

    author: str
    text: str


class Thread(ForgeRecord):
    """An unresolved thread of a review about a line of a file."""

    id: str
    """The forge's own name of it, to which a reply goes."""
    path: str
    line: int | None = None
    """None for the whole file, and where the line is gone."""
    remarks: tuple[Remark, ...] = ()
    """Old to new."""


class Protection(ForgeRecord):
    """The forge's own rules of a branch."""

    checks: tuple[str, ...] = ()
    """Names of the checks that must be green."""
    approvals: int = 0
    """Number of approvals that the forge itself requires."""
    up_to_date: bool = False
    """A request must contain the tip of the branch."""
    queue: bool = False
    """The branch takes changes through a merge queue only."""
    all_checks: bool = False
    """Every check must be green, whatever its name (GitLab: pipelines must succeed)."""


class NewRequest(ForgeRecord):
    """A pull request that is to be opened."""

    head: str
    base: str
    title: str
    body: str = ""
    draft: bool = False


class RequestChanges(ForgeRecord):
    """Changes of a request; None or empty changes nothing. Labels, people and teams are only added."""

    title: str | None = None
    body: str | None = None
    base: str | None = None
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()


class CommitStatus(ForgeRecord):
    """A status that coord sets on a commit."""

    context: str
    """Its name, such as `coord/depends`; a later status with this name replaces it."""
    state: CheckState
    description: str = ""
    url: str = ""


class Merged(ForgeRecord):
    """The result of a merge."""

    commit: str
    """The commit on the base branch; empty if the forge has not named it yet: read the request again."""


class ForgeIssue(ForgeRecord):
    """An issue at a forge."""

    number: Annotated[int, Field(gt=0)]
    url: str
    """The page for people."""
    title: str
    body: str
    is_open: bool
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()


class NewIssue(ForgeRecord):
    """An issue that is to be created."""

    title: str
    body: str = ""
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()


class IssueChanges(ForgeRecord):
    """Changes of an issue; None changes nothing. Labels and assignees replace the present ones."""

    title: str | None = None
    body: str | None = None
    is_open: bool | None = None
    labels: tuple[str, ...] | None = None
    assignees: tuple[str, ...] | None = None
