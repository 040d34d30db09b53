"""No deed lets a record wait for itself."""

from __future__ import annotations

from coordination.cycles import cycle_through
from coordination.errors import UsageError
from coordination.tracker.sheet import Transaction
from coordination.tracker.ties import Relations


def check_cycles(sheet: Transaction, after: Relations) -> None:
    """Raises UsageError with the first cycle that the deed would close. Whoever only takes one of two apart may do so."""
    for name in sheet.reordered:
        if (cycle := _cycle(after, name)) and not _cycle(sheet.ties_before, name):
            raise UsageError(f"a cycle: {' → '.join(cycle)}", "take one of these dependencies out first")


def _cycle(ties: Relations, name: str) -> list[str]:
    return cycle_through(name, ties.trace(name)) if name in ties.items else []
