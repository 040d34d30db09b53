"""Prepare the commit that lands a change set, without a checkout.

It is made like all commits of coord: durable, with the user's identity, signed as git's configuration says.
No hook runs: `git commit-tree` knows none, as with a merge on a server.
"""

from __future__ import annotations

from workers.landing.records import BaseBranch, Method, Nothing, Prepared, Refused


def prepare(
    at: BaseBranch, *, base: str, tip: str, since: str, method: Method, message: str
) -> Prepared | Nothing | Refused:
    """Return the commit that brings the change set `since..tip` onto `base`.

    `base`: the base tip now. `since`: the commit at which the change set began, or that was merged into it
    last (RepoChange.base). `message`: the whole message, with trailers (`landing_message`); not used by ff.
    Refused: CONFLICT with the files, NOT_FAST_FORWARD, REWRITTEN (tip does not contain `since`), NO_COMMIT,
    SHALLOW.
    """
    raise NotImplementedError


def landing_message(subject: str, *, plan: str, run: str, base: str, tip: str) -> str:
    """Return a message with the trailers Coord-Plan, Coord-Run, Coord-Base and Coord-Tip."""
    raise NotImplementedError
