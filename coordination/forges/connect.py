"""Open the forge of a repository, with its token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from coordination.forges.answers import KeptAnswers
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.github import GitHub
from coordination.forges.gitlab import GitLab
from coordination.forges.http import HttpClient
from coordination.forges.locate import ForgeAddress
from coordination.forges.models import ForgeType

PATIENCE = timedelta(seconds=60)
_MEMBERS: Mapping[ForgeType, type[GitHub | GitLab]] = {ForgeType.GITHUB: GitHub, ForgeType.GITLAB: GitLab}


def open_forge(
    address: ForgeAddress,
    token: str,
    *,
    spend: Callable[[], None] = lambda: None,
    answers: Path | None = None,
    patience: timedelta = PATIENCE,
) -> Forge:
    """Return the forge of a repository.

    `spend` is called before each request and raises ForgeError where the budget is used up; `answers`: folder
    of kept answers for conditional requests (None: in memory only); `patience`: the longest time for pauses
    at a rate limit and before retries in one call; a longer one is an error with `retry_at`.
    """
    member = _MEMBERS.get(address.type)
    if member is None:
        raise ForgeError(
            ForgeProblem.UNSUPPORTED,
            f"coord has no pull requests at {address.type} yet",
            "land by push: coord land --via push",
        )
    http = HttpClient(
        address.api,
        token=token,
        headers=member.headers(token),
        kept=KeptAnswers(answers, sha256(token.encode()).hexdigest()),
        spend=spend,
        patience=patience,
    )
    return member(http, address.project)
