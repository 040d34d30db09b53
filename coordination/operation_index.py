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
    "message.send": Indexed(
        "coordination.api.messages:Messages",
        "Send a message to a repository, an agent or a person",
        "edit",
        False,
    ),
    "message.list": Indexed(
        "coordination.api.messages:Messages",
        "List the messages that wait for a repository, an agent or a person, or for all",
        "read",
        False,
    ),
    "message.register": Indexed(
        "coordination.api.messages:Messages", "Keep messages to a recipient from now on", "edit", False
    ),
    "message.dead": Indexed(
        "coordination.api.messages:Messages",
        "List the dead letters, newest first: messages given up after too many deliveries",
        "read",
        False,
    ),
    "message.resend": Indexed(
        "coordination.api.messages:Messages", "Send a dead letter again", "edit", False
    ),
    "message.ack": Indexed(
        "coordination.api.messages:Messages",
        "Acknowledge messages: they are deleted from the inbox and not delivered again",
        "edit",
        False,
    ),
    "topic.publish": Indexed(
        "coordination.api.messages:Topics", "Publish an event on a topic", "edit", False
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
