"""Roles of people and programs, the rights that each role has, and the right that each operation needs.

These are the roles of the trust file. `role` of a repository says what it is for, and a role of `coord acl`
is a set of Redis permissions; neither gives a right here.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordination.models import Word
from coordination.operation_index import INDEX


class Right(Word):
    """A right that operations need."""

    READ = "read"
    """Show the file, runs, logs and messages."""
    SEE_FILES = "see-files"
    """Let an agent see the files of a repository in which it does not work (`reads`)."""
    EDIT = "edit"
    """Change records of the file and shared values; send and acknowledge messages."""
    SWEEP = "sweep"
    """Run a plan; retry, pause, resume, cancel and undo runs."""
    EXECUTE = "execute"
    """Run one todo."""
    APPROVE = "approve"
    """Approve or reject at a gate; complete a manual todo of a run."""
    LAND = "land"
    """Bring a change set into the base branches."""
    MERGE = "merge"
    """Merge a pull request."""
    RELEASE_LOCK = "release-lock"
    """Release a lock of somebody else; reset a breaker; disconnect and connect a repository; forget the
    services of a host that is gone.
    """
    OVERRIDE = "override"
    """Continue against a verdict, or without one: count a failed compensation as undone, land without quality
    checks, complete what is incomplete, remove the only copy of work.
    """
    ADMINISTER = "administer"
    """Import runs, remove what runs have left, delete cached values, and load the steps into a server."""


class Role(Word):
    """A set of rights. Each role of LADDER has the rights of the role before it and more."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"
    BREAK_GLASS = "break-glass"
    """No rights, except for one hour after `coord trust break-glass`: see EMERGENCY."""


LADDER = (Role.VIEWER, Role.SUBMITTER, Role.APPROVER, Role.OPERATOR, Role.ADMIN)
_ADDED: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.READ, Right.SEE_FILES}),
    Role.SUBMITTER: frozenset({Right.EDIT, Right.SWEEP, Right.EXECUTE}),
    Role.APPROVER: frozenset({Right.APPROVE}),
    Role.OPERATOR: frozenset({Right.LAND, Right.MERGE, Right.RELEASE_LOCK}),
    Role.ADMIN: frozenset({Right.OVERRIDE, Right.ADMINISTER}),
}
VERDICTS = frozenset({Right.APPROVE, Right.OVERRIDE})
"""Rights that judge work."""
RIGHTS: Mapping[Role, frozenset[Right]] = {
    **{role: frozenset().union(*(_ADDED[r] for r in LADDER[: n + 1])) for n, role in enumerate(LADDER)},
    Role.BREAK_GLASS: frozenset(),
}
EMERGENCY = frozenset(Right) - VERDICTS
"""Rights of the role break-glass while emergency access lasts; reviews cannot be skipped."""

OPERATIONS: Mapping[str, Right] = {
    "read": Right.READ,
    "see_files": Right.SEE_FILES,
    "edit": Right.EDIT,
    "clear_checkpoints": Right.SWEEP,
    "complete": Right.APPROVE,
    "merge": Right.MERGE,
    "accept": Right.OVERRIDE,
    "override": Right.OVERRIDE,
    "clear_cache": Right.ADMINISTER,
    "credential": Right.ADMINISTER,
    **{row.order: Right(row.right) for row in INDEX.values()},
}
"""The right that each operation needs, by the name that its events and orders have."""


def right_of(operation: str) -> Right:
    """Return the right that an operation needs; for an operation that is not listed, the highest right."""
    return OPERATIONS.get(operation, Right.ADMINISTER)


def weakest_role(right: Right) -> Role:
    """Return the first role that has a right."""
    return next(role for role in LADDER if right in RIGHTS[role])
