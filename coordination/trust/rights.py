"""Roles of people and programs, and the rights that each role has.

These are the roles of the trust file. `role` of a repository says what it is for, and a role of `coord acl`
is a set of Redis permissions; neither gives a right here.
"""

from __future__ import annotations

from coordination.models import Word


class Right(Word):
    """What an operation needs."""

    READ = "read"
    """Show the file, runs, logs and messages."""
    EDIT = "edit"
    """Change records of the file, and send messages."""
    SWEEP = "sweep"
    """Run a plan; retry, pause, resume and cancel runs."""
    EXECUTE = "execute"
    """Run one todo."""
    APPROVE = "approve"
    """Approve or reject at a gate; complete a manual todo."""
    LAND = "land"
    """Bring a change set into the base branches."""
    MERGE = "merge"
    """Merge a pull request."""
    RELEASE_LOCK = "release-lock"
    """Release a lock of somebody else; reset a breaker."""
    OVERRIDE = "override"
    """Continue against a verdict: accept a failed compensation, clean the artifacts of a run."""
    ADMINISTER = "administer"
    """Change processes, Redis users and credentials; import runs."""


class Role(Word):
    """A set of rights; each has those of the one before it and more."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"


_ADDED: dict[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.SUBMITTER: frozenset({Right.EDIT, Right.SWEEP, Right.EXECUTE}),
    Role.APPROVER: frozenset({Right.APPROVE}),
    Role.OPERATOR: frozenset({Right.LAND, Right.MERGE, Right.RELEASE_LOCK}),
    Role.ADMIN: frozenset({Right.OVERRIDE, Right.ADMINISTER}),
}

RIGHTS: dict[Role, frozenset[Right]] = {
    role: frozenset().union(*(_ADDED[lower] for lower in list(Role)[: place + 1]))
    for place, role in enumerate(Role)
}
VERDICTS = frozenset({Right.APPROVE, Right.OVERRIDE})
"""Rights that judge work; emergency access never gives them."""


def weakest_role(right: Right) -> Role:
    """Return the first role that has a right."""
    return next(role for role in Role if right in RIGHTS[role])
