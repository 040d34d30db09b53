"""Takes away what runs that succeeded have left on this machine: worktrees, and commits carried here; their branches and logs
stay. Of runs that were rolled back the same goes, what undid their todos has taken the rest. Of others all is kept, to be looked at.
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
"""A run whose worktrees nobody needs any more."""

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
        over = (run for run in remains.worked_in() if self._store.status(run) in OVER)
        return [gone for run in over for gone in _clear(remains, run)]

    def clear(self, run: str) -> list[Remnant]:
        """Of this run, which is over."""
        return _clear(Remains(self._state, self._places), run)


def _clear(remains: Remains, run: str) -> list[Remnant]:
    removed = []
    for remnant in map(remains.remove, (*remains.worktrees_of(run), *remains.folders_of(run, [Kind.CARRIED]))):
        if remnant.gone:
            removed.append(remnant)
        else:
            logger.warning("%s of run %s stays for now: %s", remnant.path, run, remnant.stays)
    return removed
