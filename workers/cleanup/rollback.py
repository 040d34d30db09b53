"""Remove the worktree and the branch of a run that is rolled back from a repository, and those of the runs
that it took up.

The repository's own branch is never moved, and no commit of a person is lost: a branch with one stays, with
everything else, and the rollback says so. Each branch is judged by the records of its own run:

* the commit that Redis recorded as the run's tip;
* the commit at which the last attempt left it (`lock.py`); an attempt that was killed could not record it,
  but its commit bears its fence, and commits of a compensation are no person's work in any case.

A commit that was never recorded and is on no other branch counts as a person's. So do the commits of a todo
that commits by itself and was killed: they cannot be told from a person's. In a run that had not ended there
is no doubt: its branch is the attempts' alone, and each of them sets it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordination.branches import HEADS, run_branch
from coordination.errors import CoordinationError, GitRefused
from coordination.files import below
from coordination.models import OWN_BRANCHES
from coordination.runs.cleanup_jobs import Artifact, Kind
from coordination.text import quoted
from coordination.trailers import FENCES
from workers.cleanup.artifacts import RunArtifacts
from workers.workspace.base_commit import Carried
from workers.workspace.git import ask
from workers.workspace.lock import LockHolder, occupant_in
from workers.workspace.repository import commit_at, inspect, worktrees

UNDOING = "/compensate"


class NotRemoved(CoordinationError):
    """An artifact of a run cannot be removed: it is still needed."""


@dataclass(frozen=True, kw_only=True)
class RollbackCleanup:
    """Removes what a run has left in one repository, but for the change set."""

    state: Path
    repo: str
    checkout: Path
    run_id: str
    tip: str | None
    """The commit at which the run left the repository, as Redis recorded it; None if it committed nothing."""
    had_ended: bool
    """True if the run had ended before its rollback."""
    carried: Carried | None = None
    branch_prefix: str = OWN_BRANCHES
    """Beginning of the names of the branches of the run, and of those that it takes up."""

    def refuse_lost_repository(self) -> None:
        """Refuse a repository that was lost with the run's commits. Raises NotRemoved."""
        if self.tip and (why := inspect(self.checkout)[0]):
            raise GitRefused(
                f"{self.repo}: {self.checkout} {why}, and the run has worked on a branch of it",
                f"restore it, then: coord rollback {self.run_id}",
            )

    def refuse_losses(self, *, of_all: bool) -> None:
        """Refuse the loss of a person's work.

        `of_all`: also of the runs that it took up. Raises NotRemoved.
        """
        if self._has_git():
            for run in self._runs if of_all else (self.run_id,):
                self._refuse(run, self._judged_artifacts(self._artifacts(run), run))

    def remove(self) -> Iterator[str]:
        """Remove all artifacts, or none; yield a line for each removal. Artifacts that are gone are skipped.

        Raises WorkspaceBusy or NotRemoved.
        """
        self.refuse_losses(of_all=True)
        for run in self._runs if self._has_git() else ():
            artifacts = self._artifacts(run)
            for artifact in self._judged_artifacts(artifacts, run):
                line = self._removal_line(artifact)
                self._refuse(run, [artifacts.remove_or_raise(artifact)])
                yield line

    @property
    def _runs(self) -> tuple[str, ...]:
        return (self.run_id, *(self.carried.runs if self.carried else ()))

    def _has_git(self) -> bool:
        """Return whether the checkout is a repository.

        Raises GitRefused if that cannot be told: unreadable is not gone.
        """
        has = not inspect(self.checkout)[0]
        return has and next(worktrees(self.checkout), None) is not None

    def _judged_artifacts(self, artifacts: RunArtifacts, run: str) -> list[Artifact]:
        return [self._judged(artifacts, artifact) for artifact in artifacts.of_repo(run, self.repo)]

    def _judged(self, artifacts: RunArtifacts, artifact: Artifact) -> Artifact:
        """Return the artifact. A worktree stays if its HEAD has a person's commit that is on no branch."""
        loose = artifacts.loose(artifact) if artifact.kind is Kind.WORKTREE else ""
        last = occupant_in(below(self.state, "workspaces", artifact.run, self.repo))
        if not loose or (last and not last.left and self._is_of(last, artifact.run, loose)):
            return artifact
        stays = f"its HEAD is at {loose[:12]}, which is on no branch"
        return artifact.model_copy(update={"loose": loose, "stays": stays})

    def _artifacts(self, run: str) -> RunArtifacts:
        tips = [{self.repo: tip} for tip in self._recorded(run)]
        return RunArtifacts(self.state, {self.repo: self.checkout}, tips, strict=True)

    def _recorded(self, run: str) -> Iterator[str]:
        """Yield the commits on the branch of a run that are its own."""
        last = occupant_in(below(self.state, "workspaces", run, self.repo))
        if run == self.run_id and self.tip:
            yield self.tip
        elif self.carried and self.carried.tip and not (last and last.stood):
            yield self.carried.tip
        if last and last.left and last.stood:
            yield last.stood
        elif last and not last.left and self._is_of(last, run, head := self._head(run)):
            yield head

    def _is_of(self, killed: LockHolder, run: str, head: str) -> bool:
        """Return whether an attempt that was killed in its worktree made the commit."""
        if not head:
            return False
        if run == self.run_id and not self.had_ended:
            return True
        return killed.key.endswith(UNDOING) or self._trailers(head) == (run, str(killed.fence))

    def _trailers(self, commit: str) -> tuple[str, str]:
        shown = ask("log", *FENCES.options, "--max-count=1", commit, cwd=self.checkout).stdout
        return next(((row["Run"], row["Fence"]) for row in FENCES.rows(shown)), ("", ""))

    def _branch(self, run: str) -> str:
        return run_branch(run, self.branch_prefix)

    def _head(self, run: str) -> str:
        return commit_at(self.checkout, f"{HEADS}{self._branch(run)}")

    def _refuse(self, run: str, found: list[Artifact]) -> None:
        kept = [f"{self._name(artifact)} stays: {artifact.stays}" for artifact in found if artifact.stays]
        if kept:
            loose = next((artifact.path for artifact in found if artifact.loose), "")
            way = "branch NAME" if loose else f"branch -m {self._branch(run)} NAME"
            keep = f"git -C {quoted(loose or self.checkout)} {way}"
            raise NotRemoved(
                f"{self.repo}: {'; '.join(kept)}",
                f"keep what is yours ({keep}), then: coord rollback {self.run_id}",
            )

    def _name(self, artifact: Artifact) -> str:
        if artifact.kind is Kind.WORKTREE:
            return f"the worktree {artifact.path}"
        return f"branch {self._branch(artifact.run)} in {artifact.path}"

    def _removal_line(self, artifact: Artifact) -> str:
        if artifact.kind is Kind.WORKTREE:
            return f"{self._name(artifact)} is removed"
        head = self._head(artifact.run)
        merged = not artifact.unmerged and self._trailers(head)[0] == artifact.run
        elsewhere = "; its commits are on another branch or tag as well, and stay there" if merged else ""
        return f"{self._name(artifact)} is removed; it was at {head[:12]}{elsewhere}"
