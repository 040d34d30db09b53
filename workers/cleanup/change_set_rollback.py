"""Take a run that is rolled back out of its change set in a repository, when the last of its todos there is
undone.

The branch of the change set goes back to where it was before the run. Where a pull request has commits of the
run, or it has taken along commits of people, the branch gets an inverse commit instead, of the work of the
todos only. That commit is recorded as the tip, and the end of the rollback (lua/run/_changes.lua) leaves it
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from coordination.branches import discarded_ref
from coordination.errors import GitRefused, NotAllowed
from coordination.runs.attempt_store import Grant
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.records import RunBrief
from coordination.text import counted
from workers.landing.commits import merge, merge_from, revert_commit
from workers.landing.records import BaseBranch, NoChange, Prepared, Refused
from workers.process.trouble import until_answered
from workers.trust.signed_results import SignedResults
from workers.workspace.change_set import BranchCopy
from workers.workspace.git import git
from workers.workspace.lock import Superseded
from workers.workspace.repository import commits_without_run, common_dir_of, contains, has_commit


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
