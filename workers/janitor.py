"""Takes away what runs that succeeded have left on this machine: worktrees, and commits carried here; their branches and logs
stay. Of runs that were rolled back the commits that were carried here: what undid their todos has taken the rest, and what it left
somebody has let stay. Of other runs all is kept, to be looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from coordination.runs.cleaning import Kind, Remnant
from coordination.runs.records import RunStatus
from coordination.runs.store import RunStore
from workers.remains import Remains

OVER = (RunStatus.SUCCEEDED, RunStatus.ROLLED_BACK)
"""A run that nobody takes up again."""

logger = logging.getLogger(__name__)


class Janitor:
    """Called for a run by the worker that settled its last todo; in rounds, for what that one could not see or reach."""

    def __init__(self, store: RunStore, state: Path, places: Mapping[str, Path]) -> None:
        self._store = store
        self._state = state
        self._places = places

    def run_once(self) -> list[Remnant]:
        """One round; returns what was removed."""
        remains = Remains(self._state, self._places)
        return [gone for run in remains.worked_in() for gone in _clear(remains, run, self._store.status(run))]

    def clear(self, run: str, status: str) -> list[Remnant]:
        """Of this run, which has ended so."""
        return _clear(Remains(self._state, self._places), run, status)


def _clear(remains: Remains, run: str, status: str | None) -> list[Remnant]:
    if status not in OVER:
        return []
    worktrees = remains.worktrees_of(run) if status == RunStatus.SUCCEEDED else []
    removed = []
    for remnant in map(remains.remove, (*worktrees, *remains.folders_of(run, [Kind.CARRIED]))):
        if remnant.gone:
            removed.append(remnant)
        else:
            logger.warning("%s of run %s stays for now: %s", remnant.path, run, remnant.stays)
    return removed
