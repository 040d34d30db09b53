"""Options of pull requests, and the records that commands and tools show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Annotated, ClassVar

from coordination.declared import Cell, Column, Option, Table
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
from coordination.states import Tone, spaced, tone_of
from coordination.text import counted, quoted, shortened

LARGEST_BODY = 1 << 20
"""Largest number of bytes of a text that is read; a forge refuses a shorter one."""
MOST_KEPT, LONGEST_NAME = 10, 100
"""Names of red checks and of people that are recorded, and the characters of each."""


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """The options of `coord pr create`. Labels and people are added to those that a request has."""

    repos: Annotated[
        tuple[str, ...],
        Option(
            "Select the changes of these repositories (default: all that have not landed).",
            flag="--repo",
            completes="repo_names",
        ),
    ] = ()
    draft: Annotated[
        bool | None,
        Option(
            "Open requests as drafts, and make open ones drafts; or mark drafts as ready for review.",
            flag="--draft/--ready",
            for_agents="true: drafts; false: ready.",
        ),
    ] = None
    reviewers: Annotated[
        tuple[str, ...], Option("Ask these people for a review.", flag="--reviewer", metavar="NAME")
    ] = ()
    teams: Annotated[
        tuple[str, ...], Option("Ask these teams for a review.", flag="--team", metavar="NAME")
    ] = ()
    labels: Annotated[tuple[str, ...], Option("Add these labels.", flag="--label", metavar="NAME")] = ()
    assignees: Annotated[
        tuple[str, ...], Option("Assign these people.", flag="--assignee", metavar="NAME")
    ] = ()
    body: Annotated[
        str | None,
        Option(
            "Put this text above coord's section (default: keep what is there).",
            file=True,
            longest=LARGEST_BODY,
        ),
    ] = None
    reopen: Annotated[
        bool,
        Option(
            "Open requests again that were closed without a merge (default: leave them).",
            for_agents="Only if a person told you to.",
        ),
    ] = False


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


def _outcome(one: RequestResult) -> Cell:
    if one.action is RequestAction.LEFT:
        return Cell(f"closed by {one.closed_by}, left" if one.closed_by else "closed, left")
    return Cell(spaced(one.action), tone_of(one.action))


class RequestResult(FrozenModel):
    """The result of `coord pr create` in one repository."""

    shown: ClassVar = Table(
        columns=(
            Column("REPO"),
            Column("PULL REQUEST", of=_outcome),
            Column("BRANCH", of=lambda one: f"{one.branch} to {one.base}"),
            Column("PUSH", of=lambda one: "yes" if one.pushed else "no"),
            Column("PAGE", of="url", flexible=True, folds=True),
        )
    )
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


def _state(one: RequestView) -> Cell:
    state = one.state.value if one.state else "?"
    adopt = f"coord plan adopt {quoted(one.plan, one.repo)} --pr {one.number}"
    news = f", has commits of others: {adopt}" if one.has_others else ", outdated" if one.outdated else ""
    return Cell(f"{state}{news}", tone_of(f"pull request {one.state}") if one.state else Tone.BAD)


def _checks(one: RequestView) -> Cell:
    if one.state is None:
        return Cell("?", Tone.BAD)
    if one.failing:
        return Cell(f"red: {', '.join(one.failing[:3])}", Tone.BAD)
    if waiting := sum(check.state is CheckState.PENDING for check in one.checks):
        return Cell(f"{waiting} of {len(one.checks)} running", Tone.ACTIVE)
    return Cell(f"{len(one.checks)} green" if one.checks else "-", Tone.GOOD if one.checks else Tone.NEUTRAL)


def _reviews(one: RequestView) -> Cell:
    if one.state is None:
        return Cell("?", Tone.BAD)
    if wanted := [each.author for each in one.reviews if each.state is ReviewState.CHANGES_REQUESTED]:
        return Cell(f"changes requested by {', '.join(wanted[:3])}", Tone.BAD)
    approved = sum(review.state is ReviewState.APPROVED for review in one.reviews)
    return Cell(counted(approved, "approval") if approved else "-", Tone.GOOD if approved else Tone.NEUTRAL)


def _merge(one: RequestView) -> str:
    if one.state is None:
        return "?"
    return "conflict" if one.mergeable is False else one.blocked or ("possible" if one.mergeable else "-")


class RequestView(FrozenModel):
    """A pull request of a change set, as its forge has it now."""

    shown: ClassVar = Table(
        columns=(
            Column("PLAN"),
            Column("REPO"),
            Column("NUMBER"),
            Column("STATE", of=_state, flexible=True, folds=True),
            Column("CHECKS", of=_checks, flexible=True, folds=True),
            Column("REVIEWS", of=_reviews, flexible=True, folds=True),
            Column("MERGE", of=_merge, flexible=True, folds=True),
            Column("PAGE", of="url", flexible=True, folds=True, wide=True),
        ),
        none="there is no pull request",
        no_match="no pull request matches",
        next_step="open them: coord pr create PLAN",
    )
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
    """Somebody else has pushed commits to it, which the change set lacks: `coord plan adopt PLAN REPO
    --pr N`.
    """
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
