"""Remove a run that is rolled back from a repository: from its change set, and with worktree and branch.

**The change set**, when the last of the run's todos there is undone: its branch goes back to where it was
before the run. Where a pull request has commits of the run, or it has taken along commits of people, the
branch gets an inverse commit instead, of the work of the todos only. That commit is recorded as the tip, and
the end of the rollback (lua/run/_changes.lua) leaves it there.

**Worktree and branch** of the run, and those of the runs that it took up. The repository's own branch is
never moved, and no commit of a person is lost: a branch with one stays, with everything else, and the
rollback says so. Each branch is judged by the records of its own run:

* the commit that Redis recorded as the run's tip;
* the commit at which the last attempt left it (`lock.py`); an attempt that was killed could not record it,
  but its commit bears its fence, and commits of a compensation are no person's work in any case.

A commit that was never recorded and is on no other branch counts as a person's. So do the commits of a todo
that commits by itself and was killed: they cannot be told from a person's. In a run that had not ended there
is no doubt: its branch is the attempts' alone, and each of them sets it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from coordination.branches import HEADS, discarded_ref, run_branch
from coordination.errors import CoordinationError, GitRefused, NotAllowed
from coordination.files import below
from coordination.models import OWN_BRANCHES
from coordination.runs.attempt_store import Grant
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.cleanup_jobs import Artifact, Kind
from coordination.runs.records import RunBrief
from coordination.text import counted, quoted
from coordination.trailers import FENCES
from workers.cleanup.artifacts import RunArtifacts
from workers.landing.commits import merge, merge_from, revert_commit
from workers.landing.records import BaseBranch, NoChange, Prepared, Refused
from workers.process.trouble import until_answered
from workers.trust.signed_results import SignedResults
from workers.workspace.base_commit import Carried
from workers.workspace.change_set import BranchCopy
from workers.workspace.git import ask, git
from workers.workspace.lock import LockHolder, Superseded, occupant_in
from workers.workspace.repository import (
    commit_at,
    commits_without_run,
    common_dir_of,
    contains,
    has_commit,
    inspect,
    worktrees,
)

UNDOING = "/compensate"


@dataclass(frozen=True, kw_only=True)
class ChangeSetRollback:
    """Removes rolled back runs from change sets."""

    change_sets: ChangeSets
    signed_results: SignedResults
    checkouts: Mapping[str, Path]
    send: Callable[[Grant, str, str], None]
    """Sends a tip that builds on a commit of the base branch to other hosts."""
    read_signed: Callable[[Grant, Sequence[str]], Mapping[str, str]]
    """Reads the signed results of these todos of the run."""

    def roll_back(self, grant: Grant, brief: RunBrief) -> str:
        """Move the branch of the change set; return why it stays where it is. Raises GitRefused."""
        repo = grant.spec.repo.name
        if not (branch := brief.lineage.within(repo).branch):
            return ""
        checkout, sets = self.checkouts[repo], self.change_sets
        copy = BranchCopy(checkout=checkout, common_dir=common_dir_of(repo, checkout), branch=branch)
        before = until_answered(lambda: sets.tip_before(grant.run_id, repo))
        found = until_answered(lambda: sets.read(brief.change_set))
        change = found.repos.get(repo) if found else None
        if before and not self._is_of_run(grant, brief, change, before):
            return f"{branch} stays where it is: {before[:12]} is no commit from which the run went on"
        if change is None:
            return copy.move(before)
        if until_answered(lambda: sets.inverse_of(grant.run_id, repo)) == change.tip:
            return copy.move(change.tip)
        since = self._signed_since(grant, brief.change_set, change)
        change = change.model_copy(update={"base": since or change.base})
        todos = [todo for todo, place in brief.repo_of.items() if place == repo]
        parts = until_answered(lambda: sets.parts_of(grant.run_id, todos, brief.lineage.takes_up))
        work = _Work(checkout=checkout, tip=change.tip, since=tuple(filter(None, (before, change.base))))
        is_published = _is_published(grant, brief, change, before, checkout)
        theirs = work.of_people(parts)
        if not theirs and not is_published:
            return copy.move(before)
        at = BaseBranch(repo=repo, path=checkout, branch=branch)
        message = _message(grant.run_id, brief.change_set)
        if theirs:
            made = work.without(at, parts, message)
        else:
            made = _without_run(at, change, before, grant.tip or change.tip, message)
        if isinstance(made, Refused) and not is_published:
            kept = discarded_ref(branch, change.tip)
            git("update-ref", kept, change.tip, cwd=checkout)
            stays, count = copy.move(before), counted(len(theirs), "commit")
            line = f"{count} of people cannot stay without the run ({made.error}): kept as {kept}"
            return f"{line}; {stays}" if stays else line
        used = {change.base, *(commit for part in parts for commit in part)} if theirs else {change.base}
        is_ours = all(contains(checkout, commit, change.tip) for commit in used if commit)
        signs = is_ours and since is not None
        if signs and theirs:
            signs = self.signed_results.are_signed(grant, brief, parts, partial(self.read_signed, grant))
        return copy.move(self._record(grant, brief.change_set, change, made, signs=signs))

    def _record(
        self, grant: Grant, name: str, change: RepoChange, made: Prepared | NoChange | Refused, *, signs: bool
    ) -> str:
        """Record the inverse as the tip of the change set; return it. `signs`: it comes from commits of the
        change set alone.
        """
        repo = change.repo
        if isinstance(made, Refused):
            adopt = f"coord plan adopt {name} {repo} {change.branch}"
            hint = f"take it out by hand on {change.branch}, then: {adopt}"
            raise GitRefused(made.error, hint)
        tip = made.base if isinstance(made, NoChange) else made.commit
        self.send(grant, tip, change.base)
        signed = self.signed_results.seal_tip(grant, tip, change.base, name) if signs else ""

        def note() -> bool:
            return self.change_sets.note_reverted(grant, name, repo, tip=tip, base=change.base, signed=signed)

        if not until_answered(note):
            raise Superseded("another attempt undoes the todo, or has undone it", "")
        return tip

    def _is_of_run(self, grant: Grant, brief: RunBrief, change: RepoChange | None, commit: str) -> bool:
        """Return whether what the run has left in the repository contains a commit that Redis names."""
        left, checkout = grant.tip, self.checkouts[grant.spec.repo.name]
        if left is None and change is not None:
            left = change.tip if self._signed_since(grant, brief.change_set, change) is not None else None
        return left is not None and has_commit(checkout, commit) and contains(checkout, commit, left)

    def _signed_since(self, grant: Grant, name: str, change: RepoChange) -> str | None:
        """Return the commit at which the change set began, as the signed result of its tip states it. None if
        none states this tip, where that is required: else a worker would sign what others have made.
        """
        try:
            return self.signed_results.check_landing(grant, change.tip, change.signed, name) or ""
        except NotAllowed:
            return None


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The commits of a run, and of those that it takes up, in one repository."""

    checkout: Path
    tip: str
    since: Sequence[str]
    """The tip before them, and the commit of the base branch that was merged in last."""

    def of_people(self, parts: Sequence[tuple[str, str]]) -> list[str]:
        """Return the commits that neither a todo of these parts nor coord has made. Raises GitRefused."""
        excluded = [f"^{commit}" for commit in self.since]
        unnamed = commits_without_run(self.checkout, self.tip, *excluded)
        if not unnamed:
            return []
        made = set[str]()
        for began, commit in parts:
            if has_commit(self.checkout, began) and has_commit(self.checkout, commit):
                made.update(git("rev-list", f"{began}..{commit}", cwd=self.checkout).split())
        return [commit for commit in unnamed if commit not in made]

    def without(
        self, at: BaseBranch, parts: Sequence[tuple[str, str]], message: str
    ) -> Prepared | NoChange | Refused:
        """Return the commit on the tip that takes out these parts, the newest first, and nothing else."""
        joined: list[tuple[str, str]] = []
        for began, commit in parts:
            if joined and joined[-1][0] == commit:
                began, commit = began, joined.pop()[1]
            joined.append((began, commit))
        tree = self.tip
        for began, commit in joined:
            merged = merge_from(at, commit, tree, began)
            if isinstance(merged, Refused):
                return merged
            tree = merged.tree
        # all of it at once: the difference between the tip and this tree
        return revert_commit(at, base=self.tip, landed=self.tip, before=tree, message=message)


def _without_run(
    at: BaseBranch, change: RepoChange, before: str, left: str, message: str
) -> Prepared | NoChange | Refused:
    """Return the commit on the tip that takes out all between `before`, with the base branch as it was merged
    last, and the commit at which the run left the repository.
    """
    began = merge(at, before or change.base, change.base)
    if isinstance(began, Refused):
        return began
    return revert_commit(at, base=change.tip, landed=left, before=began.tree, message=message)


def _message(run: str, change_set: str) -> str:
    subject = f"Take back run {run} of {change_set}"
    return f"{subject}\n\nCoord-Plan: {change_set}\nCoord-Run: {run}\nCoord-Reverts-Run: {run}\n"


def _is_published(grant: Grant, brief: RunBrief, change: RepoChange, before: str, checkout: Path) -> bool:
    """Return whether a pull request has commits of the run, or of those that it takes up."""
    if change.request is None or not {grant.run_id, *brief.lineage.takes_up}.intersection(change.runs):
        return False
    head = change.request.head
    return not (before and has_commit(checkout, head) and contains(checkout, head, before))


class NotRemoved(CoordinationError):
    """An artifact of a run cannot be removed: it is still needed."""


@dataclass(frozen=True, kw_only=True)
class RollbackCleanup:
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
