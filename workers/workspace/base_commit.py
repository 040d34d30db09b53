"""Choose the commit at which a run begins in a repository that takes up an earlier one, or a change set.

1. The commit that Redis recorded as the earlier run's tip, if that run came as far as this repository.
2. Commits of a person on top, on the earlier run's branch: in the worktree that was kept for inspection. A
   commit of an attempt that did not count must not be taken for one of a person. So the branch is trusted
   only if the record of its last attempt says that it left in order, and that its last commit counted: it is
   the tip, or the attempt had added nothing (`lock.py`). A branch that was rewritten must still have the work
   of the tip, as its commits or by content (amended, rebased, squashed).
3. Commits of a person on top, on the branch of the change set (`change_set.py`). A branch of that name that
   lacks the work of the change set is refused.
4. New commits of the base branch: merged in, without a checkout; `git merge-tree` is from 2.38 on. A merge
   that would drop work of the change set, because people have merged and reverted it, is refused.
5. Where the tip was set back behind a published commit: a commit on top of the published one, which undoes
   the work that the commits above lack.

Commits of people that a run does again without them are kept under `refs/coord/discarded`, and the log names
them.

The first attempt chooses, and records the commit (worktree.py): every attempt begins at the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coordination.branches import discarded_ref, run_branch
from coordination.errors import GitRefused
from coordination.git import DURABLE
from coordination.text import counted, listed, quoted
from workers.workspace.change_set import BranchCopy, BranchHeads
from workers.workspace.commit import commit_tree
from workers.workspace.git import ask, git
from workers.workspace.lock import LockHolder
from workers.workspace.repository import (
    commit_at,
    commits_without_run,
    contains,
    is_shallow,
    tip,
    worktrees,
)

FILES_SHOWN = 5
MERGE = ("--write-tree", "--name-only", "--no-messages", "-z")
NO_SUCH_OPTION = 129
"""git's exit code for an option that it does not know."""


class TakenOut(Protocol):
    """Finds the todos of a commit whose work people have merged into the base branch and taken out again."""

    def __call__(self, *, base: str, tip: str) -> Sequence[str]:
        """Return the todos. `base`: the commit of the base branch."""


@dataclass(frozen=True, kw_only=True)
class RunBase:
    """The commit of the base branch at which a run begins."""

    commit: str
    lines: tuple[str, ...] = ()
    """Lines for the log: the remote is away, local commits are left out."""


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The earlier runs that a run takes up, and the change set that it continues."""

    runs: tuple[str, ...]
    """The run before it, the one that that run took up, and so on. Not all have worked on this repository.

    None where their work beyond `tip` is repeated.
    """
    tip: str | None
    """The commit at which they, or the change set, left the repository, as Redis recorded it."""
    change_set: str = ""
    """The id of the change set; empty for a run without one."""
    branch: str = ""
    """The branch of the change set."""
    published: str = ""
    """A published commit whose work beyond `tip` was undone."""
    again: str = ""
    """The earlier run whose work is done again, with that of the runs before it."""
    base: Callable[[], RunBase] | None = None
    """Looks the base branch up at the remote; None: the base is the local branch."""
    has_landed: Callable[[str, str], bool] | None = None
    """Tells whether a commit's work is, or was, in that commit of the base branch."""
    taken_out: TakenOut | None = None
    """Finds work of `tip` that people have merged into the base branch and taken out again."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The last of those runs that worked on this repository, on this host."""

    run_id: str
    """Empty if none of them counts any more."""
    tip: str | None
    """The commit that Redis recorded."""
    lock_holder: LockHolder | None = None
    """The last attempt in its worktree."""
    mended: bool = False
    """True if it began with more than the repository's own branch, being itself a retry."""
    base: str = ""
    """The commit at which it began, if that was chosen."""

    @property
    def last_commit(self) -> str:
        """Return the commit of its branch when the last attempt left, if that commit counted; else empty."""
        last = self.lock_holder
        return last.stood if last and last.left and last.stood in (last.began, self.tip) else ""


@dataclass(frozen=True, kw_only=True)
class MergeContext:
    """The repository, and the run that begins in it."""

    run_id: str
    repo: str
    checkout: Path
    branch: str
    """The repository's own branch."""
    prefix: str
    """Beginning of the names of the branches of this run, and of those that it takes up."""
    change_set: str = ""
    copy: BranchCopy | None = None
    """The branch of the change set."""
    base: str = ""
    """The commit of the base branch; empty: of the local branch."""
    published: str = ""
    """A published commit, on which the run must build."""
    again: str = ""
    """The earlier run whose work is done again."""
    is_explained: Callable[[str, str], bool] = lambda _commit, _base: True
    """Tells, for a commit at which coord left the branch and one of the base branch, whether its work may go
    though the change set has no tip: it has landed, or never counted.
    """
    taken_out: TakenOut | None = None

    def last_here(self, runs: Sequence[str]) -> str:
        """Return the first of these runs that has a branch in the repository; if none has, the first."""
        return next((run for run in runs if self.head(self.branch_of(run))), runs[0])

    def branch_of(self, run: str) -> str:
        return run_branch(run, self.prefix)

    def head(self, branch: str) -> str:
        return commit_at(self.checkout, f"refs/heads/{branch}")

    def contains(self, old: str, new: str) -> bool:
        return contains(self.checkout, old, new)

    def lacking(self, head: str, work: str) -> list[str]:
        """Return the files of `work` that a merge would bring back to `head`. A file with a conflict was
        amended.
        """
        if self.contains(work, head):
            return []
        answer = ask("merge-tree", *MERGE, "--allow-unrelated-histories", head, work, cwd=self.checkout)
        tree, *amended = answer.stdout.rstrip("\0").split("\0")
        if answer.returncode not in (0, 1):
            raise GitRefused(
                f"{self.repo}: {head[:12]} cannot be compared with {work[:12]}: {answer.stderr.strip()}"
            )
        options = ("-r", "-z", "--name-status", "--find-copies=100%", "--find-copies-harder")
        fields = iter(git("diff-tree", *options, head, tree, cwd=self.checkout).split("\0"))
        found = []
        for status in filter(None, fields):
            file = next(fields)
            if status[0] in "RC":  # C: the same content has another name there
                file = next(fields)
            if status[0] in "AR" or (status[0] != "C" and file not in amended):
                found.append(file)
        return found

    def commit(self, tree: str, parents: Sequence[str], subject: str) -> str:
        return commit_tree(self.checkout, tree, parents, f"{subject}\n\nCoord-Run: {self.run_id}\n")


@dataclass(frozen=True, kw_only=True)
class BaseCommit:
    commit: str
    mended: bool
    line: str
    """A line for the log: the parts of the commit."""


class Unmergeable(GitRefused):
    """The repository's branch has new commits that cannot be merged with those of the run."""

    def __init__(self, start: str, message: str, hint: str = "", *, waits: bool = False) -> None:
        self.start = start
        """The commit at which the merge has to be made by hand."""
        self.waits = waits
        """True if the run waits for the merge."""
        super().__init__(message, hint)


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A merge that was left to a person."""

    start: str
    """The commit of the change set."""
    base: str
    """That of the base branch."""

    def is_resolved_on(self, merge_context: MergeContext, branch: str) -> bool:
        head = merge_context.head(branch)
        return bool(head) and all(merge_context.contains(one, head) for one in (self.start, self.base))


def begin(merge_context: MergeContext, earlier: Earlier) -> BaseCommit:
    """Return where the run begins. Raises Unmergeable, or GitRefused if the earlier run's branch was
    replaced.
    """
    found, seen = _begin(merge_context, earlier), merge_context.published
    if not seen or merge_context.contains(seen, found.commit):
        return found
    count = git("rev-list", "--count", "--no-merges", f"{found.commit}..{seen}", cwd=merge_context.checkout)
    parents = (seen,) if merge_context.contains(found.commit, seen) else (seen, found.commit)
    subject = f"Take back what {merge_context.change_set or merge_context.run_id} does again"
    commit = merge_context.commit(f"{found.commit}^{{tree}}", parents, subject)
    text = f"{found.line}, behind the inverse of {counted(int(count), 'commit')} of the pull request"
    if theirs := commits_without_run(merge_context.checkout, "--no-merges", f"{found.commit}..{seen}"):
        text += f"; not made by todos: {', '.join(one[:12] for one in theirs[:FILES_SHOWN])}"
    return BaseCommit(commit=commit, mended=True, line=text)


def _begin(merge_context: MergeContext, earlier: Earlier) -> BaseCommit:
    start, text = _continue_from(merge_context, earlier)
    main = merge_context.base or tip(merge_context.repo, merge_context.checkout, merge_context.branch)
    if merge_context.copy is not None:
        start, more = _with_commits_of_branch(merge_context, merge_context.copy, start, main)
        text += more
    if start is not None and not merge_context.contains(main, start):
        _refuse_taken_out(merge_context, start, main)
    if start is None or merge_context.contains(start, main):
        return BaseCommit(
            commit=main, mended=False, line=f"begins at {merge_context.branch} ({main[:12]}){text}"
        )
    if merge_context.contains(main, start):
        return BaseCommit(commit=start, mended=True, line=f"begins at {start[:12]}{text}")
    merged = _merge(merge_context, start, main)
    return BaseCommit(
        commit=merged,
        mended=True,
        line=f"begins at {start[:12]}{text}, with {merge_context.branch} merged in",
    )


def _refuse_taken_out(merge_context: MergeContext, start: str, main: str) -> None:
    """Raise GitRefused where the run would begin without work of the change set that git takes for merged."""
    if merge_context.taken_out and (todos := merge_context.taken_out(base=main, tip=start)):
        name = merge_context.change_set or merge_context.run_id
        raise GitRefused(*work_taken_out(name, merge_context.repo, merge_context.branch, todos))


def work_taken_out(change_set: str, repo: str, branch: str, todos: Sequence[str]) -> tuple[str, str]:
    """Return the error about work that people have merged and taken out again, and the next commands."""
    return (
        f"{branch} of {repo} had the work of {listed(todos)}, and people have taken it out again",
        f"bring it back: revert there the commit that took it out; or do it again: coord sweep "
        f"{quoted(change_set)} --fresh; or leave it out: coord plan discard {quoted(change_set)}",
    )


def _continue_from(merge_context: MergeContext, earlier: Earlier) -> tuple[str | None, str]:
    """Return the commit, and a text on corrections of people; None: the earlier run left nothing here."""
    if not earlier.run_id:
        anew = earlier.tip and merge_context.copy is None
        return earlier.tip, ", from which all todos run again" if anew else ""
    accepted, last = _accepted_commit(merge_context, earlier), earlier.last_commit
    branch = merge_context.branch_of(earlier.run_id)
    head = merge_context.head(branch)
    if not head or (accepted and merge_context.contains(head, accepted)):
        return accepted, ""
    if not last or (accepted and not merge_context.contains(accepted, last)):
        return accepted, f"; {branch} is left out, for its last attempt did not end in order"
    if merge_context.contains(head, last):  # set back by hand, or not moved: the recorded commit counts
        return (last if accepted or earlier.mended else None), ""
    count = git("rev-list", "--count", f"{last}..{head}", cwd=merge_context.checkout)
    text = f" with {counted(int(count), 'commit')} made on {branch}"
    if merge_context.contains(last, head):
        return head, text
    if earlier.tip and (files := merge_context.lacking(head, earlier.tip)):
        raise _rewritten_branch(merge_context, branch, earlier.tip, files)
    # Amended, or rebased: a person wants these files, and the history still has the recorded commits.
    return merge_context.commit(f"{head}^{{tree}}", (head, last), f"Take {branch} as it was rewritten"), text


def _with_commits_of_branch(
    merge_context: MergeContext, copy: BranchCopy, start: str | None, main: str
) -> tuple[str | None, str]:
    """Return the commit together with a person's commits on the branch of the change set, and a text on them.

    Raises GitRefused where the branch lacks the work of the change set, or has work that was taken back.
    """
    heads, work = copy.read(), start or main
    if not start and not merge_context.published:
        _refuse_unrecorded(merge_context, copy, heads, main)
    if not heads.is_moved or merge_context.contains(heads.head, work):
        return start, ""
    builds_on_it = bool(start or heads.left) and merge_context.contains(work, heads.head)
    taken_back = heads.left and not merge_context.contains(heads.left, work)
    if not builds_on_it or (taken_back and merge_context.contains(heads.left, heads.head)):
        raise _branch_without_our_work(
            merge_context, copy.branch, heads.head, "was taken back" if taken_back else "", work
        )
    count = git("rev-list", "--count", f"{work}..{heads.head}", cwd=merge_context.checkout)
    return heads.head, f" with {counted(int(count), 'commit')} made on {copy.branch}"


def _refuse_unrecorded(merge_context: MergeContext, copy: BranchCopy, heads: BranchHeads, main: str) -> None:
    """Raise GitRefused where coord left work on the branch and the change set has no tip: a record that is
    missing is no permission to begin without that work.
    """
    left = heads.left
    if not heads.head or not left or not merge_context.contains(left, heads.head):
        return
    if merge_context.contains(left, main) or merge_context.is_explained(left, main):
        return
    name = merge_context.change_set
    raise GitRefused(
        f"{merge_context.repo}: {copy.branch} ({heads.head[:12]}) has work that has not landed, of which "
        "Redis has no record",
        f"rebuild the change set from the branch: coord plan adopt {quoted(name)}; then begin again; or keep "
        "it under another name: "
        f"git -C {quoted(merge_context.checkout)} branch -m {quoted(copy.branch)} NAME",
    )


def keep_left_out(merge_context: MergeContext, commit: str) -> Iterator[str]:
    """Keep the commits of people that a run leaves behind which begins at `commit`; yield lines on them."""
    copy, again, known = merge_context.copy, merge_context.again, [commit]
    for branch in (*([merge_context.branch_of(again)] if again else ()), *([copy.branch] if copy else ())):
        head = merge_context.head(branch)
        if not head or any(merge_context.contains(head, one) for one in known):
            continue
        known.append(head)
        if theirs := commits_without_run(merge_context.checkout, f"{commit}..{head}"):
            kept = discarded_ref(copy.branch if copy else branch, head)
            git("update-ref", kept, head, cwd=merge_context.checkout)
            names = ", ".join(one[:12] for one in theirs[:FILES_SHOWN])
            text = f"without {counted(len(theirs), 'commit')} of people on {branch} ({names})"
            yield f"begins {text}: kept as {kept}"


def _branch_without_our_work(
    merge_context: MergeContext, branch: str, head: str, why: str, work: str
) -> GitRefused:
    checkout, name = merge_context.checkout, merge_context.change_set
    fact = f"builds on work that {why}" if why else f"does not contain {work[:12]}, the tip of {name}"
    hint = (
        f"take it up: coord plan adopt {quoted(name, merge_context.repo, branch)}; or keep it under another "
        f"name: git -C {quoted(checkout)} branch -m {quoted(branch)} NAME; "
        f"then: coord retry {merge_context.run_id}"
    )
    if is_shallow(checkout):
        hint = f"the clone is shallow: git -C {quoted(checkout)} fetch --unshallow; or {hint}"
    return GitRefused(f"{merge_context.repo}: {branch} ({head[:12]}) {fact}", hint)


def _rewritten_branch(merge_context: MergeContext, branch: str, tip: str, files: Sequence[str]) -> GitRefused:
    ref, work = f"refs/heads/{branch}", tip[:12]
    place = next(
        (place for place, on in worktrees(merge_context.checkout) if on == ref), f"CHECKOUT-OF-{branch}"
    )
    return GitRefused(
        f"{merge_context.repo}: {branch} was rewritten and lacks work of todos that succeeded ({work}): "
        f"{_shown(files)}",
        f"go on from that work: git -C {quoted(merge_context.checkout)} branch -m {quoted(branch)} NAME; "
        f"from both: git -C {quoted(place)} merge {work}; from the branch as it is: "
        f"git -C {quoted(place)} merge -s ours {work}; then: "
        f"coord retry {merge_context.run_id}",
    )


def _accepted_commit(merge_context: MergeContext, earlier: Earlier) -> str | None:
    """Return the commit that always counts: the recorded tip, or the start of a run begun on mended work."""
    if (
        earlier.mended
        and earlier.base
        and (earlier.tip is None or merge_context.contains(earlier.tip, earlier.base))
    ):
        return earlier.base
    return earlier.tip


def _merge(merge_context: MergeContext, ours: str, theirs: str) -> str:
    answer = ask("merge-tree", *MERGE, ours, theirs, cwd=merge_context.checkout, settings=DURABLE)
    tree, *files = answer.stdout.rstrip("\0").split("\0")
    if answer.returncode == 1 and files:
        raise Unmergeable(ours, f"both change {_shown(files)}")
    if answer.returncode == NO_SUCH_OPTION:
        raise Unmergeable(ours, "this git is older than 2.38 and cannot merge without a checkout")
    if answer.returncode:
        checkout, text = merge_context.checkout, answer.stderr.strip()
        if is_shallow(checkout):
            text += f"; the clone is shallow: git -C {quoted(checkout)} fetch --unshallow"
        raise Unmergeable(ours, text)
    return merge_context.commit(
        tree,
        (ours, theirs),
        f"Merge {merge_context.branch} into {merge_context.branch_of(merge_context.run_id)}",
    )


def _shown(files: Sequence[str]) -> str:
    return ", ".join(files[:FILES_SHOWN]) + (" …" if len(files) > FILES_SHOWN else "")
