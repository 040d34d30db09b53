"""Options of pull requests, and the records that commands and tools show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from coordination.forges.models import (
    Check,
    CheckState,
    PullRequest,
    RequestState,
    Review,
    ReviewState,
)
from coordination.frozen import FrozenModel
from coordination.runs.change_sets.records import SeenRequest
from coordination.text import shortened

MOST_KEPT, LONGEST_NAME = 10, 100
"""Names of red checks and of people that are recorded, and the characters of each."""


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """The options of `coord pr create`. Labels and people are added to those that a request has."""

    repos: tuple[str, ...] = ()
    """Empty: all repositories of the change set that have not landed."""
    draft: bool = False
    """Open drafts; make open requests drafts."""
    ready: bool = False
    """Mark drafts as ready for review."""
    reviewers: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    body: str | None = None
    """Text above the section of coord; None: as it is."""
    reopen: bool = False
    """Open requests again that were closed without a merge."""


class RequestAction(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    """The branch, the text, labels or people were brought up to date."""
    UNCHANGED = "unchanged"
    REOPENED = "reopened"
    """It had been closed, and was opened again as the options say."""
    LEFT = "left"
    """It was closed without a merge, and stays closed."""
    NOTHING = "nothing"
    """The branch has nothing that its base lacks."""
    FAILED = "failed"
    WOULD_CREATE = "would_create"
    WOULD_UPDATE = "would_update"
    WOULD_REOPEN = "would_reopen"


class RequestResult(FrozenModel):
    """The result of `coord pr create` in one repository."""

    plan: str
    repo: str
    action: RequestAction
    number: int | None = None
    url: str = ""
    branch: str
    base: str
    head: str
    """The commit of the change set."""
    pushed: bool = False
    closed_by: str = ""
    """The account that closed a request that is left; empty where the forge does not say it."""
    warning: str = ""
    """A part that failed without harm to the rest."""
    error: str = ""
    """Fact and next command of a failure."""
    code: int = 0
    """The exit code that belongs to the failure."""


class RequestView(FrozenModel):
    """A pull request of a change set, as its forge has it now."""

    plan: str
    repo: str
    number: int
    url: str
    name: str = ""
    """`owner/repo#7`."""
    state: RequestState | None = None
    """None, as are the following facts, where the forge could not be asked."""
    title: str = ""
    base: str = ""
    head: str = ""
    """The commit that the request has at the forge."""
    outdated: bool = False
    """The change set has another commit than the request: `coord pr create` pushes it."""
    has_others: bool = False
    """Somebody else has pushed commits to it, which the change set lacks: `coord adopt PLAN REPO --pr N`."""
    mergeable: bool | None = None
    blocked: str = ""
    """The reason, in the forge's own word, for which it refuses a merge now."""
    checks: tuple[Check, ...] = ()
    failing: tuple[str, ...] = ()
    """Names of the red checks."""
    reviews: tuple[Review, ...] = ()
    reviewers: tuple[str, ...] = ()
    """People and teams whose review was requested."""
    author: str = ""
    """The account at the forge that opened it."""
    by: str = ""
    """The person who ordered it."""
    error: str = ""
    code: int = 0

    @property
    def is_failing(self) -> bool:
        """Return whether a person must act: a red check, requested changes, a conflict, or an error."""
        refused = any(review.state is ReviewState.CHANGES_REQUESTED for review in self.reviews)
        return bool(self.failing or refused or self.mergeable is False or self.error)

    def seen(self) -> SeenRequest | None:
        """Return what is recorded of it; None where the forge could not be asked."""
        if self.state is None:
            return None
        refused = (one.author for one in self.reviews if one.state is ReviewState.CHANGES_REQUESTED)
        asked = self.state in (RequestState.OPEN, RequestState.DRAFT)
        return SeenRequest(
            state=self.state,
            head=self.head,
            at=now(),
            checks=len(self.checks) if asked else None,
            pending=sum(check.state is CheckState.PENDING for check in self.checks),
            red=_kept(self.failing),
            approvals=sum(one.state is ReviewState.APPROVED for one in self.reviews) if asked else None,
            refused_by=_kept(refused),
        )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def seen_now(request: PullRequest, before: SeenRequest | None) -> SeenRequest:
    """Return a request as the forge has it; what was seen before of the same state and head still holds."""
    if before is not None and (before.state, before.head) == (request.state, request.head_sha):
        return before
    return SeenRequest(state=request.state, head=request.head_sha, at=now())


def _kept(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(shortened(name, LONGEST_NAME) for name in islice(names, MOST_KEPT))
