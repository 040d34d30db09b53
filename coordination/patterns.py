"""Validation of regular expressions (Python's syntax) that people write."""

from __future__ import annotations

import re


def mistake_in(pattern: str) -> str | None:
    """Return why the pattern is invalid, as a phrase that follows its name; None if it is valid."""
    try:
        re.compile(pattern)
    except (OverflowError, RecursionError):
        return "repeats or nests too much for a regular expression; simplify it"
    except re.error as error:
        at = f" (character {error.pos + 1})" if error.pos is not None else ""
        return f"is not a valid regular expression: {error.msg}{at}"
    return None
