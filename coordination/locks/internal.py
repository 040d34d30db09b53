"""Names of the locks that coord takes for itself; lists hide them unless asked."""

from __future__ import annotations

START = "start"
"""Held while a run is submitted."""
LEADER = "keeper"
"""Held by the maintenance leader."""
SWEEPER = "sweeper"
"""Held by the process that removes the entries of dead processes."""
RESULT = "cache:"
"""Prefix: a todo whose result is being computed for the result cache."""
COMPUTED = "cache "
"""Prefix: a cached value that one process computes while others wait."""


def is_internal(name: str) -> bool:
    """Tell whether coord takes the lock of this name for itself."""
    return name in (START, LEADER, SWEEPER) or name.startswith((RESULT, COMPUTED))
