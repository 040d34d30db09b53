"""Find and remove the artifacts of runs in a state folder and in its repositories.

    <state>/worktrees/<run>/<repo>      with its records in <state>/workspaces/<run>/<repo>
    <state>/checks/<run>/<repo>         goes with the worktree
    <state>/carried/<run>               commits of other hosts
    <state>/logs/<run>
    the branch of the run in each repository, while no branch of a change set has all of it

Folders and branches with other names are ignored. A worktree is removed if git knows it as a worktree of its
repository and no attempt is in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path

from coordination.branches import prefix_of
from coordination.errors import CoordinationError
from coordination.files import below
from coordination.models import OWN_BRANCHES, Repo
from coordination.models.values import RUN_ID
from coordination.runs.cleanup_jobs import Artifact, Kind
from coordination.runs.not_committed import NotCommitted
from workers.cleanup.branches import RunBranches, keep
from workers.process.trouble import GitInterrupted
from workers.workspace.files import WORKSPACE_FOLDERS, remove_tree
from workers.workspace.worktree import Worktree, folder_of

PATIENCE = timedelta(seconds=2)

logger = logging.getLogger(__name__)


class RunArtifacts:
    """The artifacts at one moment: git is asked once, so a later look needs a new object."""

    def __init__(
        self,
        state: Path,
        places: Mapping[str, Path],
        tips: Iterable[Mapping[str, str]] = (),
        *,
        strict: bool = False,
    ) -> None:
        self._state = state.resolve()
        self._places = places
        self._tips = tuple(tips)
        """For each run: repository → the commit at which the run left it."""
        self._strict = strict
        """True: GitInterrupted is raised; False: a repository that git cannot read is logged and skipped."""

    def runs(self) -> list[str]:
        """Return the runs that have left artifacts on this host."""
        branches = {run for branches in self._branches.values() for run in branches.heads}
        return sorted(branches | self._named(*WORKSPACE_FOLDERS, "logs"))

    def with_workspaces(self) -> list[str]:
        """Return the runs that have left a workspace."""
        return sorted(self._named(*WORKSPACE_FOLDERS))

    def _named(self, *folders: str) -> set[str]:
        names = {path.name for folder in folders for path in _folders_in(self._state / folder)}
        return {name for name in names if RUN_ID.fullmatch(name)}

    def of(self, run: str, *, branches: bool = True) -> list[Artifact]:
        """Return the artifacts of a run, in the order in which they can be removed."""
        found = list(map(self._measured, self.worktrees_of(run)))
        if branches:
            found += self._branches_of(run)
        return found + [r.model_copy(update={"bytes": size_of(Path(r.path))}) for r in self.folders_of(run)]

    def of_repo(self, run: str, repo: str) -> list[Artifact]:
        """Return the worktree and the branch of one repository, in the order in which they can be removed."""
        return [r for r in (*self.worktrees_of(run), *self._branches_of(run)) if r.repo == repo]

    def worktrees_of(self, run: str) -> list[Artifact]:
        folders = (below(self._state, "worktrees", run), below(self._state, "workspaces", run))
        repos = sorted({path.name for folder in folders for path in _folders_in(folder)})
        return [self._worktree_of(run, repo) for repo in repos]

    def spared_if_changed(self, worktree: Artifact) -> Artifact:
        """Return the worktree, which stays if it has changes that are in no commit, or a commit that is on no
        branch.
        """
        there = not worktree.stays and Path(worktree.path).is_dir()
        if there and (self.loose(worktree) or self._worktree(worktree.run, worktree.repo).changed):
            return worktree.model_copy(update={"stays": "it has work that is on no branch"})
        return worktree

    def spared_if_kept(self, worktree: Artifact) -> Artifact:
        """Return the worktree, which stays if it has work in submodules that is in no commit of the run."""
        if not worktree.stays and (texts := [one.text for one in self._kept(worktree)]):
            return worktree.model_copy(update={"stays": f"it has work of submodules: {'; '.join(texts)}"})
        return worktree

    def _kept(self, worktree: Artifact) -> tuple[NotCommitted, ...]:
        if worktree.stays or not Path(worktree.path).is_dir():
            return ()
        return self._worktree(worktree.run, worktree.repo).kept

    def folders_of(self, run: str, kinds: Iterable[Kind] = (Kind.CARRIED, Kind.LOGS)) -> list[Artifact]:
        found = [(kind, below(self._state, kind, run)) for kind in kinds]
        return [
            Artifact(run=run, kind=kind, path=str(p))
            for kind, p in found
            if p.is_dir() and not p.is_symlink()
        ]

    def remove(self, artifact: Artifact) -> Artifact:
        """Remove an artifact; return it as gone, or with the reason why it stays."""
        try:
            return self.remove_or_raise(artifact)
        except CoordinationError as error:
            return artifact.model_copy(update={"stays": error.message})
        except OSError as error:
            return artifact.model_copy(
                update={"stays": f"{error.filename or artifact.path}: {error.strerror}"}
            )

    def remove_or_raise(self, artifact: Artifact) -> Artifact:
        """Remove an artifact as `remove` does, but raise errors that may pass: WorkspaceBusy,
        WorkspaceUnusable, GitInterrupted, OSError.
        """
        if artifact.stays:
            return artifact
        if artifact.kind is Kind.BRANCH:
            alone = partial(self._worktree(artifact.run, artifact.repo).alone, PATIENCE)
            return self._branches[artifact.repo].remove(artifact, alone)
        if artifact.kind is Kind.WORKTREE:
            loose, kept = self.loose(artifact), ""
            if loose:
                kept = keep(self._places[artifact.repo], artifact.run, loose)
            self._worktree(artifact.run, artifact.repo).remove(PATIENCE)
            return artifact.model_copy(update={"gone": True, "kept": kept})
        remove_tree(Path(artifact.path))
        return artifact.model_copy(update={"gone": True})

    def remove_contained(self, run: str, repo: str, branch: str) -> None:
        """Remove the branch of a run whose commits are on this branch of its change set. A failure leaves it:
        `coord run clean` removes it.
        """
        alone = partial(self._worktree(run, repo).alone, PATIENCE)
        try:
            if repo in self._branches:
                self._branches[repo].remove_if_contained(run, branch, alone)
        except (CoordinationError, OSError) as error:
            logger.warning("the branch of run %s in %s stays: %s", run, repo, error)

    def loose(self, worktree: Artifact) -> str:
        """Return the worktree's commit that is on no branch, and would be lost; empty if there is none."""
        there = not worktree.stays and Path(worktree.path).is_dir()
        return self._worktree(worktree.run, worktree.repo).loose if there else ""

    def _worktree_of(self, run: str, repo: str) -> Artifact:
        path = self._path(run, repo)
        return Artifact(
            run=run, kind=Kind.WORKTREE, repo=repo, path=str(path), stays=self._not_ours(repo, path)
        )

    def _measured(self, artifact: Artifact) -> Artifact:
        path = Path(artifact.path)
        loose = self.loose(artifact)
        there = not artifact.stays and path.is_dir()
        kept = bool(loose) or bool(self._kept(artifact))
        changed = kept or (there and self._worktree(artifact.run, artifact.repo).changed)
        check = folder_of(self._state, artifact.run, artifact.repo, judges=True)
        size = size_of(path) + size_of(check)
        return artifact.model_copy(update={"bytes": size, "changed": changed, "loose": loose})

    def _branches_of(self, run: str) -> list[Artifact]:
        found = (
            branches.of(run, base=self._base(run, repo), own=self._path(run, repo))
            for repo, branches in self._branches.items()
        )
        return [artifact for artifact in found if artifact is not None]

    def _path(self, run: str, repo: str) -> Path:
        return folder_of(self._state, run, repo, judges=False)

    def _worktree(self, run: str, repo: str) -> Worktree:
        names = self._branches.get(repo)
        prefix = prefix_of(names.name_of(run)) if names else OWN_BRANCHES
        place = self._places[repo]
        return Worktree(state=self._state, run=run, repo=Repo(name=repo), checkout=place, prefix=prefix)

    def _not_ours(self, repo: str, path: Path) -> str:
        if repo not in self._branches:
            return f"no worker here serves {repo}, or its folder cannot be read"
        if path.is_symlink() or (path.exists() and path not in self._branches[repo].places):
            return f"git does not know it as a worktree of {self._places[repo]}"
        return ""

    @cached_property
    def _branches(self) -> Mapping[str, RunBranches]:
        known = {repo: RunBranches(repo, path, self._recorded(repo)) for repo, path in self._places.items()}
        return {repo: branches for repo, branches in known.items() if self._readable(repo, branches)}

    def _readable(self, repo: str, branches: RunBranches) -> bool:
        try:
            branches.places  # noqa: B018 (asks git)
        except CoordinationError as error:
            if self._strict and isinstance(error, GitInterrupted):
                raise
            logger.warning("%s cannot be looked at: %s", repo, error.message)
            return False
        return True

    def _recorded(self, repo: str) -> frozenset[str]:
        return frozenset(tips[repo] for tips in self._tips if repo in tips)

    def _base(self, run: str, repo: str) -> str | None:
        file = below(self._state, "workspaces", run, repo, "base")
        return file.read_text() if file.is_file() else None


def size_of(path: Path) -> int:
    """Return the size of a folder in bytes, without files that are removed meanwhile."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):  # another worker of this machine was faster
        return []
