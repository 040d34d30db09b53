"""Takes the worktrees of runs that succeeded away from this machine; their branches stay. Others are kept, to be looked at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.models import Repo
from coordination.runs.records import RunStatus
from coordination.runs.store import RunStore
from workers.worktree import Worktree

PATIENCE = timedelta(seconds=2)

logger = logging.getLogger(__name__)


class Janitor:
    def __init__(self, store: RunStore, state: Path, places: Mapping[str, Path]) -> None:
        self._store = store
        self._state = state
        self._places = places

    def run_once(self) -> list[Path]:
        """One round; returns the worktrees that were removed."""
        removed = []
        for folder in sorted((self._state / "worktrees").glob("*")):
            if self._store.status(folder.name) == RunStatus.SUCCEEDED:
                ours = sorted(set(_names(folder)) & set(self._places))
                removed += [path for name in ours for path in self._remove(folder.name, name)]
        return removed

    def _remove(self, run_id: str, repo: str) -> list[Path]:
        worktree = Worktree(state=self._state, run=run_id, repo=Repo(name=repo), checkout=self._places[repo])
        try:
            worktree.remove(PATIENCE)
        except CoordinationError as error:
            logger.warning("the worktree of %s of run %s stays for now: %s", repo, run_id, error.message)
            return []
        return [worktree.path]


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:  # another worker of this machine was faster
        return []
