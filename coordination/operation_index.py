"""The declared operations, so that their names are known without their modules; `make docs` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Indexed(NamedTuple):
    """A declared operation: the class that declares it, the first sentence of its text, its right, and
    whether it leaves the event `command.NAME`.
    """

    part: str
    line: str
    right: str
    event: bool


INDEX: Mapping[str, Indexed] = {
    "lock.list": Indexed(
        "coordination.api.exclusion:Locks",
        "List the locks with their holders and waiters, ages and times to live",
        "read",
        False,
    ),
    "lock.released": Indexed(
        "coordination.api.exclusion:Locks",
        "List the locks that were released by force, latest first",
        "read",
        False,
    ),
    "lock.release": Indexed(
        "coordination.api.exclusion:Locks",
        "Release a lock that somebody else holds, or all locks of an owner",
        "release-lock",
        False,
    ),
    "resource.list": Indexed(
        "coordination.api.exclusion:Resources",
        "List the resources of the file: capacity, use, waiters",
        "read",
        False,
    ),
    "breaker.reset": Indexed(
        "coordination.api.exclusion:Breakers",
        "Close a circuit breaker: its failures are forgotten, and the todos behind it continue",
        "release-lock",
        False,
    ),
    "pr.create": Indexed(
        "coordination.api.requests:PullRequests",
        "Open the pull requests of a plan's change set, or bring them up to date",
        "sweep",
        True,
    ),
    "pr.list": Indexed(
        "coordination.api.requests:PullRequests", "List the pull requests of plans", "read", False
    ),
    "pr.close": Indexed(
        "coordination.api.requests:PullRequests",
        "Close the open pull requests of a plan without a merge",
        "sweep",
        True,
    ),
}
