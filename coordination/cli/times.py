"""Times for people, in the zone of the reader. JSON has UTC."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

LOCALTIME = Path("/etc/localtime")
_IN_UTC = re.compile(r"(?<!['\"])\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")


def format_time(at: datetime | str | None, *, milliseconds: bool = False) -> str:
    """Return `2026-11-22 11:20:10 CET`, in the zone of the reader. `at` is aware, or ISO 8601."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    if moment is None:
        return ""
    here = moment.astimezone()
    fraction = f".{here.microsecond // 1000:03}" if milliseconds else ""
    return f"{here:%Y-%m-%d %H:%M:%S}{fraction} {_zone(here)}"


def with_local_times(text: str) -> str:
    """Return a text with UTC times, of a run or a breaker, with times as `format_time` writes them. Quoted
    times are the user's own words and stay.
    """

    def local(found: re.Match[str]) -> str:
        try:
            return format_time(found[0])
        except ValueError:  # no such day
            return found[0]

    return _IN_UTC.sub(local, text)


def how_long(waited: timedelta) -> str:
    """Return `4 s`, `3 min`, `2 h 5 min`."""
    seconds = max(0, int(waited.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _zone(here: datetime) -> str:
    """Return the abbreviation that the zone has at this time, or the offset where it has none.

    The system reads a TZ that names no zone as UTC but keeps its name, so names count only if the database
    of zones has them.
    """
    name = here.tzname() or ""
    if name.isalpha() and _has_named_zone():
        return name
    offset = f"{here:%z}"
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"


@cache
def _has_named_zone() -> bool:
    named = os.environ.get("TZ")
    if named is None:
        return LOCALTIME.exists()
    try:
        return bool(named) and bool(ZoneInfo(named).key)
    except (LookupError, ValueError, OSError):  # words of POSIX, or a mistake
        return False
