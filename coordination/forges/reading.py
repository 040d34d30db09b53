"""Functions that the adapters share: they read answers into records and classify refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.http import HttpClient
from coordination.forges.models import Check, CheckState, PullRequest, Review, ReviewState
from coordination.git import is_commit
from coordination.text import listed

Rule = tuple[str, ForgeProblem, str, str]
"""A pattern for the status and reason of a refusal; then its problem, message and hint."""
TOO_LONG: Rule = (
    "too long",
    ForgeProblem.TOO_LONG,
    "a text is longer than the forge accepts",
    "shorten it",
)
REFUSED_REQUEST: tuple[Rule, ...] = (
    (
        "already exists",
        ForgeProblem.ALREADY_EXISTS,
        "there is an open request of this branch",
        "see it: coord pr list",
    ),
    ("no commits between", ForgeProblem.NO_DIFFERENCE, "there is nothing to propose", "see: coord changes"),
    (
        r"(head|base)\w* is invalid|(base|branch).*(not.*exist|not found|is missing|invalid)",
        ForgeProblem.NO_BRANCH,
        "the forge does not have the branch",
        "push it; see `branch` of the repository in the file",
    ),
    TOO_LONG,
)
"""Refusals to open or change a request."""
HEAD_MOVED = (ForgeProblem.HEAD_MOVED, "the head of the request is another commit by now", "look at it again")
NOT_REOPENED = (ForgeProblem.CLOSED, "the forge does not open the request again", "see its page")
NOT_MERGEABLE = (ForgeProblem.NOT_MERGEABLE, "the forge refuses the merge", "see its page")
WORST_FIRST = (CheckState.FAILURE, CheckState.PENDING, CheckState.SUCCESS, CheckState.SKIPPED)
VERDICTS = frozenset({ReviewState.APPROVED, ReviewState.CHANGES_REQUESTED, ReviewState.DISMISSED})


@dataclass(frozen=True, kw_only=True)
class DraftTitle:
    """Marks the titles of drafts by a prefix, for forges without a field for drafts."""

    prefix: str
    pattern: re.Pattern[str]

    def marked(self, title: str, *, draft: bool) -> str:
        return f"{self.prefix if draft else ''}{self.plain(title)}"

    def plain(self, title: str) -> str:
        return self.pattern.sub("", title)


def read_repository(http: HttpClient, path: str, project: str, *, name: str) -> Any:
    """Return the API's data of the repository. Raises RENAMED with the new name if it was renamed."""
    try:
        return http.get(path)
    except ForgeError as error:
        if error.problem is not ForgeProblem.RENAMED:
            raise
        now = ""
        if urlsplit(error.reason)[:2] == urlsplit(http.api)[:2]:
            moved = http.call("GET", error.reason).data
            now = http.sanitized(str(moved.get(name) or "")) if isinstance(moved, dict) else ""
        if not now:
            raise
        raise ForgeError(
            ForgeProblem.RENAMED,
            f"{project} is now {now}",
            "correct the url of the repository in the file",
            status=error.status,
            reason=now,
        ) from error


def already_closed(request: PullRequest) -> ForgeError:
    """Return the refusal of a request that is merged or closed."""
    return ForgeError(
        ForgeProblem.CLOSED, f"{request.url} is already {request.state}", "see its page", status=405
    )


@contextmanager
def classified(*rules: Rule) -> Iterator[None]:
    """Replace a refusal by the one of the first rule whose pattern matches.

    Limits, and failures without an answer, are raised unchanged.
    """
    try:
        yield
    except ForgeError as error:
        if not error.status or error.retry_at is not None:
            raise
        for pattern, problem, message, hint in rules:
            if re.search(pattern, f"{error.status} {error.reason}", re.IGNORECASE | re.DOTALL):
                suffix = f": {error.reason}" if error.reason else ""
                raise ForgeError(
                    problem, f"{message}{suffix}", hint, status=error.status, reason=error.reason
                ) from error
        raise


@contextmanager
def merging(get: Callable[[], PullRequest], *rules: Rule) -> Iterator[None]:
    """Classify the refusal of a merge; raise CLOSED if the request is closed. `get` reads the request."""
    try:
        with classified(*rules):
            yield
    except ForgeError as error:
        refused = error.problem in (ForgeProblem.NOT_MERGEABLE, ForgeProblem.NOT_FOUND)
        if refused and not (found := get()).is_open:
            raise already_closed(found) from error
        raise


def full_commit(commit: str) -> str:
    """Return the commit. Raises ForgeError for an abbreviated one, which would not guard a merge."""
    if not is_commit(commit):
        raise ForgeError(
            ForgeProblem.INVALID,
            f"{commit!r:.60} is not the whole name of a commit",
            "read the request again: a merge needs the whole name of its head",
        )
    return commit


def refuse_long(what: str, text: str | None, longest: int) -> None:
    """Raise TOO_LONG before a call that the forge would refuse."""
    if text is not None and len(text) > longest:
        raise ForgeError(
            ForgeProblem.TOO_LONG,
            f"the {what} has {len(text):,} characters; the forge accepts {longest:,}",
            f"shorten the {what}",
        )


def refuse_unknown(
    what: ForgeProblem, wanted: Iterable[str], known: Iterable[str], where: str, *, fold: bool
) -> None:
    """Raise UNKNOWN_LABEL or UNKNOWN_PERSON for the names that are not known."""
    plain: Callable[[str], str] = str.casefold if fold else str
    there = {plain(name) for name in known}
    missing = [name for name in wanted if plain(name) not in there]
    if not missing:
        return
    if what is ForgeProblem.UNKNOWN_LABEL:
        raise ForgeError(
            what,
            f"{where} has no label {listed(missing)}",
            "create it at the forge, or leave it out; the request itself is unchanged",
        )
    raise ForgeError(
        what,
        f"{where}: {listed(missing)} cannot be asked: unknown there, or without access",
        "correct the name, or give access to the repository; the request itself is unchanged",
    )


def worst_by_name(found: Iterable[Check]) -> tuple[Check, ...]:
    """Return one check for each name, with the worst of its states, sorted by name."""
    by_name: dict[str, Check] = {}
    for check in found:
        other = by_name.get(check.name)
        if other is None or WORST_FIRST.index(check.state) < WORST_FIRST.index(other.state):
            by_name[check.name] = check
    return tuple(by_name[name] for name in sorted(by_name))


def last_verdicts(reviews: Iterable[Review]) -> tuple[Review, ...]:
    """Return the last verdict of each reviewer. `reviews`: old to new; a comment replaces no verdict."""
    found: dict[str, Review] = {}
    for review in reviews:
        if review.state in VERDICTS or review.author not in found:
            found[review.author] = review
    return tuple(found[author] for author in sorted(found))


def names_of(items: Iterable[Mapping[str, str]] | None, field: str) -> tuple[str, ...]:
    return tuple(str(item[field]) for item in items or ())


def merged_names(before: Iterable[str], added: Iterable[str]) -> list[str]:
    """Return the names in order without repetitions, which may differ in case."""
    return list({name.casefold(): name for name in (*added, *before)}.values())
