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
