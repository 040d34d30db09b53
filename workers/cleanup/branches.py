"""Remove branches that coord has made in one repository of this host, without a person's work.

The branch of a run is removed only if every commit on it is in another branch or recorded by
a run (its own, or one that carried it on), and if it is checked out nowhere. So the branch of a person who
continued to work on it stays, and so does that of a run that is forgotten. The branch of a run that has
succeeded is removed without a command if the branch of its change set contains all of it. If it is removed
although it is unmerged, its commit stays reachable below `refs/coord/discarded`.

The branch of a change set is removed when the change set has landed or is discarded. A job removes no other
branch: its name must be that of the change set, with a prefix that coord has used in the checkout. A branch
with a commit that the change set does not have is a person's, and one that is checked out is in use: both
stay. A discarded tip stays reachable as `refs/coord/discarded/<branch>/<commit>`, with such commits of a
person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coordination.branches import (
    HEADS,
    OwnBranches,
    copy_ref,
    discarded_ref,
    is_named,
    last_part,
    name_of_set,
    run_branch,
)
from coordination.errors import GitRefused
from coordination.git import SEEN, is_commit
from coordination.models import OWN_BRANCHES
from coordination.models.values import RUN_ID
from coordination.runs.cleanup_jobs import Artifact, ChangeSetBranch, Kind
from workers.cleanup.landed import Checkout
from workers.process.trouble import GitInterrupted
from workers.workspace.git import Hold, ask, git
from workers.workspace.repository import REFS, commit_at, contains, has_commit, inspect, worktrees

_REMOTE = re.compile(r"refs/remotes/[^/]+/")
_KEPT = "refs/coord/discarded/"


def keep(checkout: Path, branch: str, commit: str) -> str:
    """Keep a commit of a branch that is removed; return the ref. Raises GitRefused."""
    ref = discarded_ref(branch, commit)
    git("update-ref", ref, commit, cwd=checkout)
    return ref


def is_own(ref: str, ours: OwnBranches) -> bool:
    """Return whether a whole ref is a branch of coord, here or as it was seen at a remote."""
    return ours.have(_REMOTE.sub(HEADS, ref, count=1))


class RunBranches:
    """The branches at the moment of the first look. Raises GitRefused."""

    def __init__(self, repo: str, checkout: Path, recorded: Collection[str] = ()) -> None:
        self._repo = repo
        self._checkout = checkout
        self._recorded = recorded
        """The commits at which runs left the repository."""

    @cached_property
    def heads(self) -> Mapping[str, str]:
        """Return run → the commit of its branch."""
        return {run: self._refs[ref] for run, ref in self._of_runs.items()}

    def name_of(self, run: str) -> str:
        """Return the branch of a run: the one that is there, else the one that it would have by default."""
        ref = self._of_runs.get(run)
        return ref.removeprefix(HEADS) if ref else run_branch(run, OWN_BRANCHES)

    @cached_property
    def _of_runs(self) -> Mapping[str, str]:
        """Return run → its branch, as a whole ref."""
        named = ((last_part(ref), ref) for ref in self._refs)
        return {run: ref for run, ref in named if RUN_ID.fullmatch(run) and self._ours.is_of(ref, run)}

    @cached_property
    def _ours(self) -> OwnBranches:
        return OwnBranches.of(self._checkout)

    @cached_property
    def places(self) -> Mapping[Path, str]:
        """Return each worktree that git knows, the checkout among them, and its branch (empty if none)."""
        return dict(worktrees(self._checkout)) if self._has_git else {}

    def of(self, run: str, *, base: str | None, own: Path) -> Artifact | None:
        """Return the run's branch, if there is one. `base`: where it began. `own`: its worktree."""
        head = self.heads.get(run)
        if head is None:
            return None
        return Artifact(
            run=run,
            kind=Kind.BRANCH,
            repo=self._repo,
            path=str(self._checkout),
            run_branch=self.name_of(run),
            unmerged=head in self._unmerged and not self._squashed(head),
            stays="it has commits that no run has recorded"
            if head in self._foreign and head != base
            else self._checked_out(run, self.places, own),
        )

    def remove(self, artifact: Artifact, alone: Callable[[], AbstractContextManager[Hold]]) -> Artifact:
        """Remove the branch, unless it was moved or checked out meanwhile.

        `alone` locks the run's worktree, and yields that lock for git. Raises GitInterrupted or
        WorkspaceBusy.
        """
        stays, kept = self._checked_out(artifact.run, dict(worktrees(self._checkout))), ""
        try:
            if not stays:
                ref, head = self._of_runs[artifact.run], self.heads[artifact.run]
                if head in self._unmerged and not self._squashed(head):
                    kept = self._kept(head) or keep(self._checkout, artifact.run, head)
                with alone() as hold:
                    self._unlock(ref)
                    git("update-ref", "--no-deref", "-d", ref, head, cwd=self._checkout, hold=hold)
        except GitInterrupted:
            raise
        except GitRefused as refused:
            stays = refused.message
        return artifact.model_copy(update={"stays": stays, "gone": not stays, "kept": kept})

    def _kept(self, head: str) -> str:
        """Return a ref that keeps the commit already, such as that of the change set; empty without one."""
        asked = ("--count=1", "--format=%(refname)", f"--contains={head}", _KEPT)
        return git("for-each-ref", *asked, cwd=self._checkout).strip()

    def remove_if_contained(
        self, run: str, branch: str, alone: Callable[[], AbstractContextManager[Hold]]
    ) -> bool:
        """Remove the branch of a run whose commits are all on that of its change set, in one step of git that
        sees both; return whether it is gone. Raises as `remove`.
        """
        ours, theirs = self._of_runs.get(run, ""), f"{HEADS}{branch}"
        head, tip = self._refs.get(ours, ""), self._refs.get(theirs, "")
        if not head or not tip or not contains(self._checkout, head, tip):
            return False
        if self._checked_out(run, dict(worktrees(self._checkout))):
            return False
        changes = f"verify {theirs} {tip}\ndelete {ours} {head}\n"
        with alone() as hold:
            self._unlock(ours)
            done = ask("update-ref", "--no-deref", "--stdin", cwd=self._checkout, stdin=changes, hold=hold)
        return done.returncode == 0

    def _unlock(self, ref: str) -> None:
        """Remove a lock file of the branch.

        No other process may write it now, so the git that left it was killed.
        """
        if common_dir := inspect(self._checkout)[1]:
            (common_dir / f"{ref}.lock").unlink(missing_ok=True)

    def _checked_out(self, run: str, places: Mapping[Path, str], own: Path | None = None) -> str:
        branch = f"{HEADS}{self.name_of(run)}"
        place = next((place for place, on in places.items() if on == branch and place != own), None)
        return f"it is checked out in {place}" if place else ""

    def _squashed(self, head: str) -> bool:
        """Return whether the checkout's own branch has the whole work, in other commits."""
        try:
            return Checkout(path=self._checkout, revision="HEAD").has(head)
        except GitRefused:  # it has no commit
            return False

    @cached_property
    def _has_git(self) -> bool:
        return not inspect(self._checkout)[0]

    @cached_property
    def _refs(self) -> Mapping[str, str]:
        if not self._has_git:
            return {}
        listing = git("for-each-ref", "--format=%(refname) %(objectname)", *REFS, cwd=self._checkout)
        return {ref: commit for ref, _, commit in (line.rpartition(" ") for line in listing.splitlines())}

    @cached_property
    def _unmerged(self) -> frozenset[str]:
        """Return heads with a commit that no branch or tag has, besides those of runs and change sets."""
        return self._heads_beyond(
            [commit for ref, commit in self._refs.items() if not is_own(ref, self._ours)]
        )

    @cached_property
    def _foreign(self) -> frozenset[str]:
        """Return the unmerged heads with a commit that no run has recorded."""
        return self._unmerged & self._heads_beyond(self._recorded)

    def _heads_beyond(self, known: Iterable[str]) -> frozenset[str]:
        heads = frozenset(self.heads.values())
        if not heads:
            return heads
        revisions = "\n".join([*heads, *(f"^{commit}" for commit in known if is_commit(commit))])
        # A recorded commit may have been made on another host, and never arrived here.
        beyond = git("rev-list", "--ignore-missing", "--stdin", cwd=self._checkout, stdin=revisions)
        return heads & frozenset(beyond.split())


@dataclass(frozen=True, kw_only=True)
class SetBranch:
    """The branch of a change set in one repository."""

    wanted: ChangeSetBranch
    checkout: Path

    def artifact(self) -> Artifact | None:
        """Return the branch, if there is one, or, of a discarded change set, its tip."""
        if not self._is_own:  # a job removes no branch of people
            return None
        head, known = self._head, has_commit(self.checkout, self.wanted.tip)
        if not head and not (self.wanted.keep and known):
            return None
        return Artifact(
            run=self.wanted.run,
            kind=Kind.BRANCH,
            repo=self.wanted.repo,
            path=str(self.checkout),
            branch=self._name,
            stays=self._stays(head) if head else "",
        )

    def remove(self) -> Artifact | None:
        """Keep the tip of a discarded change set, and remove the branch; return it as gone, or with the
        reason why it stays.
        """
        found = self.artifact()
        if found is None or found.stays:
            return found
        head, kept = self._head, ""
        try:
            keeps = self.wanted.keep or not self._is_elsewhere(head)
            for commit in dict.fromkeys([self.wanted.tip, head]) if keeps else ():
                if has_commit(self.checkout, commit):
                    kept = keep(self.checkout, self._name, commit)
            if head:
                git("update-ref", "--no-deref", "-d", self._ref, head, cwd=self.checkout)
            git("update-ref", "-d", copy_ref(self._name), cwd=self.checkout)
        except GitRefused as refused:
            return found.model_copy(update={"stays": refused.message})
        return found.model_copy(update={"gone": True, "kept": kept})

    def _is_elsewhere(self, head: str) -> bool:
        """Return whether another branch, or the base branch as it was seen last, has all of the branch: that
        it has landed is a record in Redis, which proves nothing.
        """
        asked = ("--format=%(refname)", f"--contains={head}", "refs/heads/", "refs/remotes/", "refs/tags/")
        others = git("for-each-ref", *asked, cwd=self.checkout).splitlines()
        ours = OwnBranches.of(self.checkout)
        if any(not is_own(ref, ours) for ref in others):
            return True
        seen = git("for-each-ref", "--format=%(refname)", SEEN, cwd=self.checkout).splitlines()
        try:
            return any(Checkout(path=self.checkout, revision=ref).has(head) for ref in ("HEAD", *seen))
        except GitRefused:  # no commit is checked out
            return False

    @property
    def _is_own(self) -> bool:
        named = is_named(self._name, name_of_set(self.wanted.change_set))
        return named and OwnBranches.of(self.checkout).have(self._ref)

    @property
    def _name(self) -> str:
        return self.wanted.branch

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self._name}"

    @property
    def _head(self) -> str:
        return commit_at(self.checkout, self._ref)

    def _stays(self, head: str) -> str:
        if place := next((place for place, on in worktrees(self.checkout) if on == self._ref), None):
            return f"it is checked out in {place}"
        if not self.wanted.keep and not contains(self.checkout, head, self.wanted.tip):
            return "it has commits that the change set does not have"
        return ""
