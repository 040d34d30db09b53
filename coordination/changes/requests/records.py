"""Options of pull requests, and the records that commands and tools show."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from coordination.forges.models import Check, CheckState, RequestState, Review, ReviewState


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """The options of `coord pr create`. Labels and people are added to those that a request has."""

    repos: tuple[str, ...] = ()
    """Empty: all repositories of the change set that have not landed."""
    draft: bool = False
    reviewers: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    body: str | None = None
    """Text above the section of coord; None: as it is."""


class RequestAction(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    """The branch, the text, labels or people were brought up to date."""
    UNCHANGED = "unchanged"
    NOTHING = "nothing"
    """The branch has nothing that its base lacks."""
    FAILED = "failed"
    WOULD_CREATE = "would_create"
    WOULD_UPDATE = "would_update"


class RequestResult(BaseModel):
    """The result of `coord pr create` in one repository."""

    model_config = ConfigDict(frozen=True)

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
    error: str = ""
    """Fact and next command of a failure."""
    code: int = 0
    """The exit code that belongs to the failure."""


class RequestView(BaseModel):
    """A pull request of a change set, as its forge has it now."""

    model_config = ConfigDict(frozen=True)

    plan: str
    repo: str
    number: int
    url: str
    state: RequestState | None = None
    """None, as are the following facts, where the forge could not be asked."""
    title: str = ""
    base: str = ""
    head: str = ""
    """The commit that the request has at the forge."""
    outdated: bool = False
    """The change set has another commit than the request: `coord pr create` pushes it."""
    mergeable: bool | None = None
    blocked: str = ""
    """The forge's own word for why it refuses a merge now."""
    checks: tuple[Check, ...] = ()
    reviews: tuple[Review, ...] = ()
    by: str = ""
    """The person who had it opened by coord."""
    error: str = ""
    code: int = 0

    @property
    def failing(self) -> tuple[str, ...]:
        """Return the names of the red checks."""
        return tuple(check.name for check in self.checks if check.state is CheckState.FAILURE)

    @property
    def is_failing(self) -> bool:
        """Return whether somebody must do something: a red check, wanted changes, a conflict, or an error."""
        refused = any(review.state is ReviewState.CHANGES_REQUESTED for review in self.reviews)
        return bool(self.failing or refused or self.mergeable is False or self.error)
