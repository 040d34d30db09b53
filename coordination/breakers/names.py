"""What a breaker is called: `repo:<name>`, `resource:<name>`, or `action:<name>` for what a script does."""

from __future__ import annotations

import re
from collections.abc import Collection

from coordination.errors import NotFound, UsageError
from coordination.phrases import listed

ACTION = "action"
KINDS = ("repo", "resource", ACTION)
_NAME = re.compile(rf"({'|'.join(KINDS)}):[A-Za-z0-9._-]{{1,100}}")


def check_name(name: object) -> None:
    """Raises UsageError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} names no circuit breaker", "name it repo:NAME, resource:NAME or action:NAME")


def of_call(name: str) -> str:
    """With its kind: a bare name is one of an action. Raises UsageError."""
    whole = name if not isinstance(name, str) or ":" in name else f"{ACTION}:{name}"
    check_name(whole)
    return whole


def whole_name(name: str, tripped: Collection[str]) -> str:
    """The one of these breakers that is meant, be it by its bare name. Raises NotFound, or UsageError where two fit."""
    if ":" in name:
        check_name(name)
    fitting = [one for one in tripped if name in (one, one.partition(":")[2])]
    if len(fitting) > 1:
        raise UsageError(f"{name} may be {' or '.join(sorted(fitting))}", "name it in full")
    if not fitting:
        there = f"there are: {listed(sorted(tripped))}" if tripped else "all of them are closed, and nothing has failed"
        raise NotFound(f"the circuit breaker of {name} is at rest: there is nothing to reset", there)
    return fitting[0]
