"""What keys and contexts are called; judged before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence

from coordination.errors import UsageError

LONGEST_KEY = 255
GLOB = "*?[]"
"""In a pattern: hence not in a key, and whoever reads one knows which it is."""


def check_key(key: object) -> str:
    """Raises UsageError."""
    if not isinstance(key, str) or not key:
        raise UsageError(f"a key is a text that is not empty, not {key!r}", "name it as you would a variable or a path")
    if len(key) > LONGEST_KEY:
        raise UsageError(
            f"a key of {len(key):,} characters is too long", f"at most {LONGEST_KEY}: a digest of it will do"
        )
    if not key.isprintable() or key != key.strip():
        raise UsageError(f"{key!r} is no key", "leave out line breaks, control characters and blanks at its ends")
    if any(letter in GLOB for letter in key):
        raise UsageError(f"{key!r} is no key: {' '.join(GLOB)} make a pattern", "leave them out")
    return key


def check_value(value: bytes, most: int) -> None:
    """Raises UsageError."""
    if len(value) > most:
        raise UsageError(
            f"the value has {len(value):,} bytes, more than {most:,}",
            "keep a path or a digest instead, or raise cache_value_bytes",
        )


ECOSYSTEM = "ecosystem"


def plan(plan_id: str) -> str:
    return f"plan/{plan_id}"


def run(run_id: str) -> str:
    return f"run/{run_id}"


def todo(run_id: str, todo_id: str) -> str:
    """Of one todo of a run."""
    return f"todo/{run_id}/{todo_id}"


def store(name: str) -> str:
    """Of a Store, beside the tree."""
    return f"store/{name}"


Chain = tuple[str, ...]
"""A context with its outer ones, the inner one first."""


def check_contexts(contexts: Sequence[str]) -> Chain:
    """Raises UsageError: a name goes into a key of Redis."""
    for one in contexts:
        if not one or not one.isprintable() or any(letter.isspace() for letter in one) or len(one) > LONGEST_KEY * 2:
            raise UsageError(f"{one!r} names no context", "names of plans, runs and todos have no blanks")
    return tuple(contexts)
