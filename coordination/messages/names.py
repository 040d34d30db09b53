"""What a message may be: its names, its payload, its times. What is off is refused before anything is sent."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from coordination.errors import UsageError
from coordination.text import did_you_mean

KINDS = ("repo", "worker", "agent", "person", "run", "topic", "reply")
LONGEST_NAME = 200
LARGEST_PAYLOAD = 1024 * 1024
DEEPEST = 100
"""Lists and mappings in each other. Python reads some 900, less what its own stack has used up by then: never fails over 100."""
MOST_SEQUENCE = 2**53 - 1
"""Beyond it Lua does not tell a number from the next."""
PRIORITIES = range(-100, 101)
LONGEST = timedelta(days=365)
MOST_WAIT_S = 5.0
"""Of one wait for something: whoever waits looks around between two."""
MS = timedelta(milliseconds=1)
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def recipient(text: str) -> str:
    """`kind:name`; raises UsageError."""
    word = name(text, "a recipient")
    kind, _, rest = word.partition(":")
    if kind not in KINDS or not rest:
        hint = did_you_mean(kind, KINDS) if rest else ""
        raise UsageError(
            f"{word!r} is no recipient{hint}", f"write kind:name; kinds: {', '.join(KINDS)}, as in repo:billing"
        )
    return word


def name(text: str, what: str) -> str:
    """A word without blanks and control characters, of at most 200 characters; raises UsageError."""
    if not isinstance(text, str) or not text:
        raise UsageError(f"{what} needs a name, got {text!r}", "give one")
    if len(text) > LONGEST_NAME:
        raise UsageError(
            f"{what} of {len(text):,} characters: {text[:40]!r}…", f"{LONGEST_NAME} characters are the most"
        )
    if not text.isprintable() or " " in text:
        raise UsageError(f"{what} may hold no blanks and no control characters, got {text!r}", "write it without")
    return text


def encode(payload: Any) -> str:
    """The payload as JSON; raises UsageError for what is none, and for more than 1 MiB of it."""
    try:
        text = _ENCODE(payload)
        size = len(text) if text.isascii() else len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:  # a lone surrogate is a ValueError, too
        raise UsageError(f"the payload is not JSON: {error}", "send text, numbers, lists and mappings") from error
    if size > LARGEST_PAYLOAD:
        raise UsageError(
            f"the payload has {size:,} bytes as JSON, more than {LARGEST_PAYLOAD:,} (1 MiB)",
            "store it elsewhere and send where it is",
        )
    if text.count("[") + text.count("{") > DEEPEST and _depth(payload) > DEEPEST:
        raise UsageError(f"the payload is more than {DEEPEST} levels deep", "send it flatter, or as text")
    return text


def _depth(payload: Any) -> int:
    """Of lists and mappings in each other; no more than one beyond the deepest that may be."""
    level, depth = [payload], 0
    while level and depth <= DEEPEST:
        inner = [one for one in level if isinstance(one, dict | list | tuple)]
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
        depth += bool(inner)
    return depth


def milliseconds(duration: timedelta, what: str) -> int:
    """Raises UsageError for nothing and less, and for more than a year."""
    if not isinstance(duration, timedelta):
        raise UsageError(f"{what} must be a timedelta, got {duration!r}", "as in timedelta(seconds=5)")
    ms = duration // MS
    if ms < 1 or duration > LONGEST:
        raise UsageError(f"{what} must be between 1 ms and a year, got {duration}", "leave it out for the default")
    return ms


def priority(value: int) -> int:
    if value not in PRIORITIES:
        raise UsageError(
            f"priority {value!r} is out of range", f"{PRIORITIES[0]} to {PRIORITIES[-1]}, higher is sooner"
        )
    return int(value)


def sequence(value: int) -> int:
    if type(value) is not int or not 0 <= value <= MOST_SEQUENCE:
        raise UsageError(
            f"sequence {str(value)[:40]} is no number from 0 to 2^53 - 1", "count from 0, or take the clock in µs"
        )
    return value


def count(value: int, what: str) -> int:
    if type(value) is not int or not 1 <= value <= MOST_SEQUENCE:
        raise UsageError(f"{what} must be 1 or more, got {value!r}", "leave it out for the default")
    return value


def utf8(text: str) -> str:
    """The same, with half a surrogate pair, which cannot be written, as backslash and number."""
    return text.encode(errors="backslashreplace").decode()
