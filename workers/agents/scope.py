"""The paths that an agent may change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from workers.agents.fields import line

_SPECIAL, _ESCAPED = re.compile(r"[\\\[^&~|]"), r"\\\g<0>"
PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^]/]+\]|[^*?\[]+|\[")


def shown(paths: Sequence[str], most: int = 5) -> str:
    """Return the first of these paths for a log, an error or a prompt: a program may have given names with
    control characters, and such that are no UTF-8.
    """
    return ", ".join(map(line, paths[:most]))


def outside(paths: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the paths that no pattern allows, or that one with `!` forbids. Without a pattern that allows,
    all are allowed but those that are forbidden.

    A pattern is a glob: `*` and `?` match within a folder, `**` over several. One that matches a folder
    matches everything below it.
    """
    forbidden = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    allowed = [pattern for pattern in patterns if not pattern.startswith("!")]
    return [path for path in paths if (allowed and not _matches(path, allowed)) or _matches(path, forbidden)]


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(_regex(pattern).fullmatch(path) for pattern in patterns)


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    parts = (_part(part) for part in PARTS.findall(pattern.removeprefix("./").rstrip("/")))
    return re.compile(f"{''.join(parts)}(/.*)?", re.DOTALL)


def _part(part: str) -> str:
    if part == "**/":
        return "(.*/)?"
    if part == "**":
        return ".*"
    if part == "*":
        return "[^/]*"
    if part == "?":
        return "[^/]"
    if part.startswith("[") and part.endswith("]") and len(part) > 2:
        return _set(part)
    return re.escape(part)


def _set(part: str) -> str:
    """Return a set of characters, which never has a `/`; the text itself if it is no set: `[z-a]`."""
    negation, inner = ("^", part[2:-1]) if part.startswith("[!") else ("", part[1:-1])
    found = f"(?!/)[{negation}{_SPECIAL.sub(_ESCAPED, inner)}]"
    try:
        re.compile(found)
    except re.error:
        return re.escape(part)
    return found
