"""Regular expressions that people write: Python's."""

from __future__ import annotations

import re


def mistake_in(pattern: str) -> str | None:
    """Why it cannot be looked for, to be read after its name; None where it can."""
    try:
        re.compile(pattern)
    except (OverflowError, RecursionError):
        return "repeats or nests more than a regular expression can: make it simpler"
    except re.error as error:
        at = f" (character {error.pos + 1})" if error.pos is not None else ""
        return f"is no regular expression: {error.msg}{at}"
    return None
