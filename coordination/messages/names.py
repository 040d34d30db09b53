"""Validation of names, payloads and times of messages before they are sent."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from coordination.durations import MS
from coordination.errors import UsageError
from coordination.text import did_you_mean

KINDS = ("repo", "worker", "agent", "person", "run", "topic", "reply")
LONGEST_NAME = 200
LARGEST_PAYLOAD = 1024 * 1024
DEEPEST = 100
"""Deepest nesting of lists and mappings. Python's parser handles about 900 less the present stack depth, so
100 is always safe.
"""
MOST_SEQUENCE = 2**53 - 1
"""Largest sequence; Lua cannot distinguish larger neighbours."""
MOST_AT_ONCE = 1000
PRIORITIES = range(-100, 101)
LONGEST = timedelta(days=365)
MOST_WAIT_S = 5.0
"""Longest single wait, after which the waiting code checks for other work."""
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def recipient(text: str) -> str:
    """Return a valid `kind:name`. Raises UsageError."""
    word = name(text, "a recipient")
    kind, _, rest = word.partition(":")
    if kind not in KINDS or not rest:
        hint = did_you_mean(kind, KINDS) if rest else ""
        raise UsageError(
            f"{word!r} is not a recipient{hint}",
            f"write kind:name, as in repo:billing; kinds: {', '.join(KINDS)}",
        )
    return word


def name(text: str, what: str) -> str:
    """Return a valid name: at most 200 characters without blanks and control characters.
    Raises UsageError.
    """
    if not isinstance(text, str) or not text:
        raise UsageError(f"{what} needs a name, got {text!r}", "give one")
    if len(text) > LONGEST_NAME:
        raise UsageError(
            f"{what} has {len(text):,} characters: {text[:40]!r}…", f"use at most {LONGEST_NAME} characters"
        )
    if not text.isprintable() or " " in text:
        raise UsageError(
            f"{what} may hold no blanks and no control characters, got {text!r}", "write it without"
        )
    return text


def encode(payload: Any) -> str:
    """Return the payload as JSON. Raises UsageError if it is not serialisable or larger than 1 MiB."""
    try:
        text = _ENCODE(payload)
        size = len(text) if text.isascii() else len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:  # a lone surrogate raises ValueError
        raise UsageError(
            f"the payload is not JSON: {error}", "send text, numbers, lists and mappings"
        ) from error
    if size > LARGEST_PAYLOAD:
        raise UsageError(
            f"the payload has {size:,} bytes as JSON, more than {LARGEST_PAYLOAD:,} (1 MiB)",
            "store it elsewhere and send its location",
        )
    if text.count("[") + text.count("{") > DEEPEST and _depth(payload) > DEEPEST:
        raise UsageError(f"the payload is more than {DEEPEST} levels deep", "send it flatter, or as text")
    return text


def _depth(payload: Any) -> int:
    """Return the nesting depth of lists and mappings, at most one more than DEEPEST."""
    level, depth = [payload], 0
    while level and depth <= DEEPEST:
        inner = [one for one in level if isinstance(one, dict | list | tuple)]
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
        depth += bool(inner)
    return depth


def milliseconds(duration: timedelta, what: str) -> int:
    """Return the milliseconds of a duration. Raises UsageError unless it is between 1 ms and a year."""
    if not isinstance(duration, timedelta):
        raise UsageError(f"{what} must be a timedelta, got {duration!r}", "as in timedelta(seconds=5)")
    ms = duration // MS
    if ms < 1 or duration > LONGEST:
        raise UsageError(
            f"{what} must be between 1 ms and a year, got {duration}", "leave it out for the default"
        )
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
            f"sequence must be a number from 0 to 2^53 - 1, got {str(value)[:40]}",
            "count from 0, or use the clock in µs",
        )
    return value


def count(value: int, what: str) -> int:
    if type(value) is not int or not 1 <= value <= MOST_SEQUENCE:
        raise UsageError(f"{what} must be 1 or more, got {value!r}", "leave it out for the default")
    return value


def at_once(number: int, least: int = 1) -> int:
    """Return a number of messages that one call may take or show. Raises UsageError."""
    if not least <= number <= MOST_AT_ONCE:
        raise UsageError(f"invalid number of messages: {number}", f"ask for {least} to {MOST_AT_ONCE:,}")
    return number


def utf8(text: str) -> str:
    """Return the text with lone surrogates, which cannot be encoded, as escape sequences."""
    return text.encode(errors="backslashreplace").decode()
