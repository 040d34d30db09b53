"""Clean up automatically after a run.

After a run that succeeded, the automatic cleanup removes its worktrees, its commits that were carried to this
host, and its branches if the branch of the change set contains them; logs stay. Only Redis says that a run
succeeded. If signatures are required, a worktree with uncommitted changes therefore stays, so that a forged
status destroys no work. A worktree with work in submodules that is in no commit of the run stays as well.
After a run that was rolled back, only the carried commits are removed. Everything of other runs stays for
people to inspect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from coordination.runs.attempt_store import AttemptStore
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.cleanup_jobs import Artifact, Kind
from coordination.runs.records import RunStatus
from workers.cleanup.artifacts import RunArtifacts
from workers.workspace.change_set import BranchCopy
from workers.workspace.repository import common_dir_of

logger = logging.getLogger(__name__)

OVER = (RunStatus.SUCCEEDED, RunStatus.ROLLED_BACK)
"""Final states of a run after which there is nothing to retry."""


class AutoCleanup:
    """Clean up after a run when its last todo settles, and at intervals retry removals that failed."""

    def __init__(
        self,
        store: AttemptStore,
        state: Path,
        places: Mapping[str, Path],
        *,
        spare_changes: bool = False,
        change_sets: ChangeSets | None = None,
    ) -> None:
        """`spare_changes`: keep worktrees with changes that are in no commit. `change_sets`: None for a
        worker that may not read them.
        """
        self._change_sets = change_sets
        self._checked: set[str] = set()
        """The rolled back runs after which the branches of their change sets were checked."""
        self._told: dict[str, str] = {}
        """Path → the reason why it stays, as it was logged."""
        self._spare_changes = spare_changes
        self._store = store
        self._state = state
        self._places = places

    def run_once(self) -> list[Artifact]:
        """Clean up after each ended run that has workspaces here; return the removed artifacts."""
        artifacts, removed = RunArtifacts(self._state, self._places), list[Artifact]()
        for run in artifacts.with_workspaces():
            status = self._store.status(run)
            removed += self._clear(artifacts, run, status)
            if status == RunStatus.ROLLED_BACK:
                self._restore_branches(run)
        return removed

    def _restore_branches(self, run: str) -> None:
        """Set the branches of a change set back to its tips, after a run that was rolled back without this
        worker, because a person accepted its last todos as undone. Only Redis says so; therefore commits
        that a branch loses are kept.
        """
        if self._change_sets is None or run in self._checked:
            return
        self._checked.add(run)
        brief = self._store.brief(run)
        found = self._change_sets.read(brief.change_set) if brief.change_set else None
        for repo, branch in brief.lineage.branches.items():
            if repo not in self._places or (found and (repo in found.writers or repo in found.set_back)):
                continue
            checkout = self._places[repo]
            copy = BranchCopy(checkout=checkout, common_dir=common_dir_of(repo, checkout), branch=branch)
            if why := copy.move(found.tip(repo) if found else ""):
                logger.warning("%s: %s", repo, why)

    def clear(self, run: str, status: str) -> list[Artifact]:
        """Clean up after a run that ended with this status; return the removed artifacts."""
        return self._clear(RunArtifacts(self._state, self._places), run, status)

    def _clear(self, artifacts: RunArtifacts, run: str, status: str | None) -> list[Artifact]:
        if status not in OVER:
            return []
        worktrees = artifacts.worktrees_of(run) if status == RunStatus.SUCCEEDED else []
        worktrees = list(map(artifacts.spared_if_kept, worktrees))
        if self._spare_changes:
            worktrees = list(map(artifacts.spared_if_changed, worktrees))
        removed, branches = [], self._store.brief(run).lineage.branches if worktrees else {}
        for artifact in map(artifacts.remove, (*worktrees, *artifacts.folders_of(run, [Kind.CARRIED]))):
            if artifact.gone:
                removed.append(artifact)
                if (branch := branches.get(artifact.repo)) and artifact.kind is Kind.WORKTREE:
                    artifacts.remove_contained(run, artifact.repo, branch)
            elif self._told.get(artifact.path) != artifact.stays:
                self._told[artifact.path] = artifact.stays
                logger.warning("%s of run %s stays for now: %s", artifact.path, run, artifact.stays)
        return removed
