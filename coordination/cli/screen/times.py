"""Moments as people read them: in the zone of whoever looks, which a table names once. JSON has them in UTC."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

LOCALTIME = Path("/etc/localtime")


def shown(at: datetime | str | None) -> str:
    """`2026-11-22 11:20:10`; `at` is aware, or ISO 8601."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment else ""


def heading(word: str) -> str:
    """`started (Europe/Berlin)`, of a column with moments."""
    return f"{word} ({zone()})"


def zone() -> str:
    """The zone by its name, which holds in summer and winter; else its distance from UTC today.

    A TZ that names no zone is read as UTC by the system, hence by us.
    """
    named = os.environ.get("TZ")
    if named is None and LOCALTIME.is_symlink():
        named = str(LOCALTIME.readlink()).partition("zoneinfo/")[2]
    try:
        return ZoneInfo(named).key if named else _distance()
    except (LookupError, ValueError, OSError):  # no zone of the database: words of POSIX, or a mistake
        return _distance()


def _distance() -> str:
    offset = f"{datetime.now().astimezone():%z}"
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"
