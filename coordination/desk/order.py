"""No deed lets a record wait for itself."""

from __future__ import annotations

from coordination.desk.sheet import Sheet
from coordination.desk.ties import Ties
from coordination.errors import UsageError
from coordination.ring import cycle_through


def check_cycles(sheet: Sheet, after: Ties) -> None:
    """Raises UsageError with the first cycle that the deed would close. Whoever only takes one of two apart may do so."""
    for name in sheet.reordered:
        if (cycle := _cycle(after, name)) and not _cycle(sheet.ties_before, name):
            raise UsageError(f"a cycle: {' → '.join(cycle)}", "take one of these dependencies out first")


def _cycle(ties: Ties, name: str) -> list[str]:
    return cycle_through(name, ties.trace(name)) if name in ties.items else []
