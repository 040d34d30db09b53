"""Decide whether a pull request may be merged, and name what is missing; pure.

A request is ready if it has the required number of approvals at this head, its required checks are green, it
merges without a conflict, and the rules of the forge allow the merge. The required checks are those that the
rules of the base branch name; if they name none, all checks of the commit. Facts that could not be read count
as unknown, never as good.

An approval holds for the approved commit, and for the commits that coord made from it by merging the base
branch (`ObservedRequest.heads`). If a forge does not say which commit was approved (GitLab), the approval
counts for the commit at which coord first saw it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from coordination.forges.models import (
    Check,
    CheckState,
    Protection,
    PullRequest,
    RequestState,
    Review,
    ReviewState,
)
from coordination.text import counted, listed

SHOWN = 3
DEPENDS = "coord/depends"
"""The status that coord itself sets, and never waits for: pending until the requests before have merged."""
_GREEN = frozenset({CheckState.SUCCESS, CheckState.SKIPPED})
_EXPLAINED = frozenset(
    {
        *("blocked", "behind", "draft", "dirty"),
        *("not_approved", "ci_must_pass", "ci_still_running", "draft_status", "requested_changes"),
        *("need_rebase", "conflict", "broken_status", "not_open"),
    }
)
"""States that forges report for obstacles which `missing_of` finds itself, from facts."""


class Lack(StrEnum):
    """The reason why a pull request cannot be merged."""

    CLOSED = "closed"
    """Somebody has closed it without merging it."""
    FOREIGN = "foreign"
    """coord did not push its head."""
    CONFLICT = "conflict"
    DRAFT = "draft"
    CHANGES_REQUESTED = "changes_requested"
    APPROVALS = "approvals"
    RED = "red"
    """A required check failed."""
    PENDING = "pending"
    """A required check has no result yet."""
    BEHIND = "behind"
    """It must contain the tip of the base branch; coord merges the base branch into it."""
    RULES = "rules"
    """The forge refuses it for another reason."""
    UNKNOWN = "unknown"
    """The forge has not answered, or does not know yet."""


LASTING = frozenset({Lack.CLOSED, Lack.FOREIGN, Lack.CONFLICT})
"""Obstacles that only a person can remove, other than by a review; the landing does not wait for them."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An obstacle to the merge of a pull request, with a text for people."""

    lack: Lack
    text: str


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """The requirements of the plan."""

    approvals: int = 0
    ignored: Collection[str] = ()
    """Checks that need not be green yet."""


@dataclass(frozen=True, kw_only=True)
class ObservedRequest:
    """A pull request as its forge shows it now; None for facts that could not be read."""

    request: PullRequest
    heads: Collection[str]
    """The commits whose approvals hold: the head, and the commits from which coord made it. Empty if somebody
    else pushed the head.
    """
    checks: Sequence[Check] | None
    reviews: Sequence[Review] | None
    protection: Protection | None
    first_seen: Mapping[str, str] = field(default_factory=dict)
    """Person → the head at which coord first saw the approval, if the forge does not name the commit."""


def missing_of(seen: ObservedRequest, required: Requirements) -> tuple[Missing, ...]:
    """Return what an open pull request lacks, lasting obstacles first; empty if it is ready."""
    found = tuple(_missing(seen, required))
    return tuple(sorted(found, key=lambda one: one.lack not in LASTING))


def without_own(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks of a request without coord's own status, which no work on the request makes green."""
    return tuple(one for one in checks if one.name != DEPENDS)


def is_lasting(missing: Sequence[Missing]) -> bool:
    """Return whether one of the obstacles lasts until a person acts."""
    return any(one.lack in LASTING for one in missing)


def missing_text(missing: Sequence[Missing]) -> str:
    return "; ".join(one.text for one in missing)


def approvals_of(seen: ObservedRequest) -> tuple[str, ...]:
    """Return the people whose approval holds for the head."""
    return tuple(
        review.author
        for review in seen.reviews or ()
        if review.state is ReviewState.APPROVED
        and review.author != seen.request.author
        and (review.head or seen.first_seen.get(review.author, seen.request.head_sha)) in seen.heads
    )


def red_of(seen: ObservedRequest) -> tuple[str, ...]:
    """Return the required checks that have failed."""
    return tuple(name for name, state in _not_green(seen, ()).items() if state is CheckState.FAILURE)


def _missing(seen: ObservedRequest, required: Requirements) -> Iterator[Missing]:
    request = seen.request
    if not request.is_open:
        yield Missing(lack=Lack.CLOSED, text="somebody has closed it")
        return
    if request.head_sha not in seen.heads:
        yield Missing(
            lack=Lack.FOREIGN,
            text=f"somebody has pushed {request.head_sha[:12]} to {request.head}, which coord did not make",
        )
        return
    if request.mergeable is False and not _is_behind(seen):
        yield Missing(lack=Lack.CONFLICT, text=f"it conflicts with {request.base}")
    if request.state is RequestState.DRAFT:
        yield Missing(lack=Lack.DRAFT, text="it is a draft: mark it as ready for review")
    yield from _of_reviews(seen, required)
    yield from _of_checks(seen, required)
    if _is_behind(seen):
        yield Missing(lack=Lack.BEHIND, text=f"it must contain the tip of {request.base}")
    if request.mergeable is None:
        yield Missing(lack=Lack.UNKNOWN, text="the forge does not know yet if it merges")
    elif _is_refused(seen, required):
        yield Missing(lack=Lack.RULES, text=f"the forge refuses it: {request.blocked}")


def _is_behind(seen: ObservedRequest) -> bool:
    return seen.request.blocked in ("behind", "need_rebase")


def _is_refused(seen: ObservedRequest, required: Requirements) -> bool:
    """Return whether the forge names an obstacle that the other facts do not explain."""
    word = seen.request.blocked
    if not word or word in _EXPLAINED - {"blocked"}:
        return False
    return word != "blocked" or not (tuple(_of_reviews(seen, required)) or _explained_by_checks(seen))


def _explained_by_checks(seen: ObservedRequest) -> bool:
    """Return whether a required check is not green; coord's own check counts if the branch requires it."""
    named = seen.protection.checks if seen.protection else ()
    own = next((one for one in seen.checks or () if one.name == DEPENDS), None)
    is_required = DEPENDS in named or bool(own and own.required)
    own_waits = is_required and not (own and own.state in _GREEN)
    return own_waits or bool(_not_green(seen, ()))


def _of_reviews(seen: ObservedRequest, required: Requirements) -> Iterator[Missing]:
    if seen.reviews is None or seen.protection is None:
        yield Missing(lack=Lack.UNKNOWN, text="its reviews could not be read")
        return
    refusing = [one.author for one in seen.reviews if one.state is ReviewState.CHANGES_REQUESTED]
    if refusing:
        text = f"{listed(refusing[:SHOWN])} asked for changes"
        yield Missing(lack=Lack.CHANGES_REQUESTED, text=text)
    needed, there = max(required.approvals, seen.protection.approvals), len(approvals_of(seen))
    if there < needed:
        outdated = sum(one.state is ReviewState.APPROVED for one in seen.reviews) - there
        older = (
            f", and {counted(outdated, 'approval')} of another commit, or of its author" if outdated else ""
        )
        text = f"it has {there} of {counted(needed, 'approval')}{older}"
        yield Missing(lack=Lack.APPROVALS, text=text)


def _of_checks(seen: ObservedRequest, required: Requirements) -> Iterator[Missing]:
    if seen.checks is None or seen.protection is None:
        yield Missing(lack=Lack.UNKNOWN, text="its checks could not be read")
        return
    not_green = _not_green(seen, required.ignored)
    red = [name for name, state in not_green.items() if state is CheckState.FAILURE]
    pending = [name for name, state in not_green.items() if state is not CheckState.FAILURE]
    if red:
        yield Missing(lack=Lack.RED, text=f"red: {_some(red)}")
    if pending:
        yield Missing(lack=Lack.PENDING, text=f"not green yet: {_some(pending)}")


def _not_green(seen: ObservedRequest, ignored: Collection[str]) -> dict[str, CheckState]:
    """Return the required checks that are not green, without coord's own status. A check that the commit does
    not have yet is pending.
    """
    if seen.checks is None or seen.protection is None:
        return {}
    own = any(check.name == DEPENDS and check.state not in _GREEN for check in seen.checks)
    states = {check.name: check.state for check in seen.checks if check.required is not False}
    named = {*seen.protection.checks, *(check.name for check in seen.checks if check.required)} - {DEPENDS}
    required = states.keys() | named if seen.protection.all_checks or not named else named
    left_out = set(ignored)
    if own or any(states.get(name) not in _GREEN for name in left_out):  # they also turn the whole red
        left_out |= {check.name for check in seen.checks if check.whole}
    left_out.add(DEPENDS)
    found = {name: states.get(name, CheckState.PENDING) for name in sorted(required) if name not in left_out}
    return {name: state for name, state in found.items() if state not in _GREEN}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
