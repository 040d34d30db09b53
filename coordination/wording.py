"""What pydantic says about a value, in our words: what is wanted there. For the file and for settings alike."""

from __future__ import annotations

from pydantic_core import ErrorDetails

_DATE = "a date like 2026-01-31, with or without a time"
_DURATION = "a duration like 90s, 10m, 1.5h or a number of seconds"
WANTED = {
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number that is not infinite",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "time_delta_type": _DURATION,
    "time_delta_parsing": _DURATION,
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "datetime_type": _DATE,
    "datetime_parsing": _DATE,
    "datetime_from_date_parsing": _DATE,
    "model_type": "a mapping with fields",
    "model_attributes_type": "a command, or a mapping with a 'type'",
}
"""Kinds of values by the error that says one was not found; several at one place become `text or a list`."""

PATTERNS = {
    r"^[a-z0-9-]{8,64}$": "must be 8 to 64 lower-case letters, digits and -",
    r"^[A-Za-z0-9._-]+$": "may hold letters, digits, '.', '_' and '-' only",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "may hold letters, digits, '.', '_' and '-' only, and begins with one of the first two",
    r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$": "must be written like package.module:function",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "is not the name of a variable: letters, digits and '_' only",
    r"^[^:,\s]+:[^,\s]+$": "must be written like user:password, without blanks and commas",
    r"^[!-~]{16,}$": "must have 16 characters or more, without blanks",
    r"^\s*\d+(\.\d+)?\s*([KMGT]iB)?\s*$": "must be written like 512MiB or 1.5GiB, or be a number of bytes",
    r"^[A-Za-z0-9_-]+$": "may hold letters, digits, '_' and '-' only",
}

BOUNDS = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "string_too_long": ("max_length", "must not be longer than {} characters"),
}

MILLION = 1_000_000
"""What is longer is written in groups of three digits; a port is not."""


def limit(detail: ErrorDetails) -> str:
    """What is wrong with a value of the right kind."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        bound = context[name]
        if str(bound) == "datetime.timedelta(0)":
            return words.format(0)
        return words.format(f"{bound:{',' if bound > MILLION else ''}.12g}")
    if kind in ("string_too_short", "too_short"):
        return "must not be empty"
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], "is not written as it must be")
    if kind in ("enum", "literal_error"):
        return f"must be one of {', '.join(known_words(context))}"
    return detail["msg"].removeprefix("Value error, ")


def known_words(context: dict[str, object]) -> list[str]:
    """Those that could have stood there."""
    expected = str(context.get("expected") or context["expected_tags"])
    return expected.replace("'", "").replace(" or ", ", ").split(", ")


def wrong_value(details: list[ErrorDetails]) -> str:
    """One value, and what each kind that it might have been says of it."""
    strict = [detail for detail in details if detail["type"] not in WANTED]
    if strict:
        return limit(strict[0])
    return "needs " + " or ".join(dict.fromkeys(WANTED[detail["type"]] for detail in details))
