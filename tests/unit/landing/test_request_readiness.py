"""The readiness of a pull request: a table of what a forge answers, and what is missing then."""

from __future__ import annotations

from typing import Any

import pytest

from coordination.forges.models import (
    Check,
    CheckState,
    Protection,
    PullRequest,
    RequestState,
    Review,
    ReviewState,
)
from coordination.landing.readiness import Lack, ObservedRequest, Requirements, is_lasting, missing_of

HEAD, OLD, THEIRS = "a" * 40, "b" * 40, "c" * 40


def request(**facts: Any) -> PullRequest:
    known = {
        "number": 7, "url": "http://forge/7", "title": "t", "body": "", "head": "coord/P", "head_sha": HEAD,
        "head_project": "acme/a", "base": "main", "state": RequestState.OPEN, "mergeable": True,
        "author": "coord",
    }  # fmt: skip
    return PullRequest.model_validate({**known, **facts})


def approved(head: str = HEAD, author: str = "ann", state: ReviewState = ReviewState.APPROVED) -> Review:
    return Review(author=author, state=state, head=head)


def check(state: CheckState, name: str = "build", required: bool | None = None) -> Check:
    return Check(name=name, state=state, required=required)


RED, GREEN, PENDING = check(CheckState.FAILURE), check(CheckState.SUCCESS), check(CheckState.PENDING)
WHOLE = Check(name="pipeline", state=CheckState.FAILURE, whole=True)
OWN = check(CheckState.PENDING, "coord/depends")
PENDING_WHOLE = Check(name="pipeline", state=CheckState.PENDING, whole=True)
NAMED = Protection(checks=("build",))


@pytest.mark.parametrize(
    ("facts", "lacks"),
    [
        ({}, set()),
        ({"approvals": 1}, {Lack.APPROVALS}),
        ({"approvals": 1, "reviews": [approved()]}, set()),
        ({"approvals": 2, "reviews": [approved(), approved()]}, set()),
        ({"approvals": 1, "reviews": [approved(author="coord")]}, {Lack.APPROVALS}),
        # an approval holds for a head, and survives coord's own update of it
        ({"approvals": 1, "reviews": [approved(OLD)]}, {Lack.APPROVALS}),
        ({"approvals": 1, "reviews": [approved(OLD)], "heads": (HEAD, OLD)}, set()),
        ({"approvals": 1, "reviews": [approved(state=ReviewState.DISMISSED)]}, {Lack.APPROVALS}),
        # GitLab names no head: it is that at which the approval was seen first
        ({"approvals": 1, "reviews": [approved("")]}, set()),
        ({"approvals": 1, "reviews": [approved("")], "first_seen": {"ann": OLD}}, {Lack.APPROVALS}),
        # the rules of the forge win
        ({"protection": Protection(approvals=2), "reviews": [approved()]}, {Lack.APPROVALS}),
        ({"request": {"blocked": "blocked"}}, {Lack.RULES}),
        ({"request": {"blocked": "discussions_not_resolved"}}, {Lack.RULES}),
        ({"request": {"blocked": "blocked"}, "approvals": 1}, {Lack.APPROVALS}),
        ({"reviews": [approved(OLD, state=ReviewState.CHANGES_REQUESTED)]}, {Lack.CHANGES_REQUESTED}),
        # checks: those that the branch requires; where it requires none, all
        ({"checks": [RED]}, {Lack.RED}),
        ({"checks": [PENDING]}, {Lack.PENDING}),
        ({"checks": [GREEN, check(CheckState.SKIPPED, "docs")]}, set()),
        ({"checks": [GREEN, check(CheckState.FAILURE, "docs")], "protection": NAMED}, set()),
        ({"checks": [], "protection": NAMED}, {Lack.PENDING}),
        ({"checks": [check(CheckState.FAILURE, required=False)]}, set()),
        ({"checks": [RED, check(CheckState.SUCCESS, "lint", required=True)]}, set()),
        ({"checks": [GREEN, check(CheckState.FAILURE, "docs")], "protection": Protection(all_checks=True)},
         {Lack.RED}),
        ({"checks": [RED], "protection": NAMED, "ignored": ("build",)}, set()),
        ({"checks": [RED], "protection": NAMED, "ignored": ("build",), "request": {"blocked": "blocked"}},
         set()),
        ({"checks": [RED, WHOLE], "ignored": ("build",)}, set()),
        # coord does not wait for its own status, and tells by it why the forge refuses a merge
        ({"checks": [GREEN, OWN]}, set()),
        ({"checks": [GREEN, OWN, PENDING_WHOLE], "protection": Protection(all_checks=True)}, set()),
        ({"checks": [RED, OWN], "protection": Protection(checks=("coord/depends",))}, {Lack.RED}),
        ({"checks": [GREEN, OWN], "protection": Protection(checks=("coord/depends",)),
          "request": {"blocked": "blocked"}}, set()),
        ({"protection": Protection(checks=("coord/depends",)), "request": {"blocked": "blocked"}}, set()),
        ({"checks": [GREEN, OWN], "request": {"blocked": "blocked"}}, {Lack.RULES}),
        ({"checks": [GREEN, WHOLE], "ignored": ("build",)}, {Lack.RED}),
        # what could not be read is unknown, and no good news
        ({"checks": None}, {Lack.UNKNOWN}),
        ({"reviews": None}, {Lack.UNKNOWN}),
        ({"protection": None}, {Lack.UNKNOWN}),
        ({"request": {"mergeable": None}}, {Lack.UNKNOWN}),
        # the request itself
        ({"request": {"state": RequestState.DRAFT, "blocked": "draft"}}, {Lack.DRAFT}),
        ({"request": {"blocked": "behind"}}, {Lack.BEHIND}),
        ({"request": {"blocked": "need_rebase", "mergeable": False}}, {Lack.BEHIND}),
        ({"request": {"mergeable": False, "blocked": "dirty"}}, {Lack.CONFLICT}),
        ({"request": {"state": RequestState.CLOSED}}, {Lack.CLOSED}),
        ({"request": {"head_sha": THEIRS}, "reviews": [approved(THEIRS)]}, {Lack.FOREIGN}),
    ],
)  # fmt: skip
def test_a_request_lacks(facts: dict[str, Any], lacks: set[Lack]):
    seen = ObservedRequest(
        request=request(**facts.get("request", {})),
        heads=facts.get("heads", (HEAD,)),
        checks=facts.get("checks", []),
        reviews=facts.get("reviews", []),
        protection=facts.get("protection", Protection()),
        first_seen=facts.get("first_seen", {}),
    )
    found = missing_of(
        seen, Requirements(approvals=facts.get("approvals", 0), ignored=facts.get("ignored", ()))
    )
    assert {one.lack for one in found} == lacks
    assert is_lasting(found) is bool(lacks & {Lack.CLOSED, Lack.FOREIGN, Lack.CONFLICT})
