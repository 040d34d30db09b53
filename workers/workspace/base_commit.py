"""Choose the commit at which a run begins in a repository that takes up an earlier one, or a change set.

1. The commit that Redis recorded as the earlier run's tip, if that run came as far as this repository.
2. Commits of a person on top, on the earlier run's branch: in the worktree that was kept to be looked at. An
   attempt that did not count must not come back as a mend, so the branch is trusted only if the record of its
   last attempt says that it left in order, and that the commit at which it left counted: it is the tip, or
   the attempt had added nothing (`lock.py`). A branch that was rewritten must still have the work of the tip,
   as its commits or by content (amended, rebased, squashed).
3. Commits of a person on top, on the branch of the change set (`change_set.py`). A branch of that name that
   lacks the work of the change set is refused.
4. New commits of the base branch: merged in, without a checkout; `git merge-tree` is from 2.38 on.
5. Where the tip was set back behind a commit that people have seen: a commit on top of that one which takes
   out all that it has beyond the others.

Commits of people that a run does again without them are kept under `refs/coord/discarded`, and the log names
them.

The first attempt chooses, and records the commit (worktree.py): every attempt begins at the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordination.errors import GitRefused
from coordination.runs.change_sets.records import discarded_ref
from coordination.text import counted, quoted
from workers.workspace.change_set import BranchCopy
from workers.workspace.commit import DURABLE, commit_tree
from workers.workspace.git import ask, git
from workers.workspace.lock import LockHolder
from workers.workspace.repository import (
    branch_of,
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

    None where their work beyond `tip` is done again.
    """
    tip: str | None
    """The commit at which they, or the change set, left the repository, as Redis recorded it."""
    change_set: str = ""
    """The id of the change set; empty for a run without one."""
    branch: str = ""
    """The branch of the change set."""
    published: str = ""
    """A commit that people have seen, and whose work beyond `tip` was taken back."""
    again: str = ""
    """The earlier run whose work is done again, with that of the runs before it."""
    base: Callable[[], RunBase] | None = None
    """Looks the base branch up at the remote; None: the base is the local branch."""


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
    def stood(self) -> str:
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
    change_set: str = ""
    copy: BranchCopy | None = None
    """The branch of the change set."""
    base: str = ""
    """The commit of the base branch; empty: of the local branch."""
    published: str = ""
    """A commit that people have seen, and that the run must build on."""
    again: str = ""
    """The earlier run whose work is done again."""

    def last_here(self, runs: Sequence[str]) -> str:
        """Return the first of these runs that has a branch in the repository; if none has, the first."""
        return next((run for run in runs if self.head(branch_of(run))), runs[0])

    def head(self, branch: str) -> str:
        return commit_at(self.checkout, f"refs/heads/{branch}")

    def contains(self, old: str, new: str) -> bool:
        return contains(self.checkout, old, new)

    def lacking(self, head: str, work: str) -> list[str]:
        """Return the files of `work` that a merge would bring back to `head`.

        A file with a conflict was amended.
        """
        if self.contains(work, head):
            return []
        done = ask("merge-tree", *MERGE, "--allow-unrelated-histories", head, work, cwd=self.checkout)
        tree, *amended = done.stdout.rstrip("\0").split("\0")
        if done.returncode not in (0, 1):
            raise GitRefused(
                f"{self.repo}: {head[:12]} cannot be compared with {work[:12]}: {done.stderr.strip()}"
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
    """Return where the run begins.

    Raises Unmergeable, or GitRefused if the earlier run's branch was replaced.
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
    start, text = _go_on_from(merge_context, earlier)
    main = merge_context.base or tip(merge_context.repo, merge_context.checkout, merge_context.branch)
    if merge_context.copy is not None:
        start, more = _with_branch(merge_context, merge_context.copy, start, main)
        text += more
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


def _go_on_from(merge_context: MergeContext, earlier: Earlier) -> tuple[str | None, str]:
    """Return the commit, and text on what was mended; None: the earlier run left nothing here."""
    if not earlier.run_id:
        anew = earlier.tip and merge_context.copy is None
        return earlier.tip, ", from which all todos run again" if anew else ""
    known, stood = _known(merge_context, earlier), earlier.stood
    branch = branch_of(earlier.run_id)
    head = merge_context.head(branch)
    if not head or (known and merge_context.contains(head, known)):
        return known, ""
    if not stood or (known and not merge_context.contains(known, stood)):
        return known, f"; {branch} is left out, for its last attempt did not end in order"
    if merge_context.contains(head, stood):  # set back by hand or not moved at all: what was recorded counts
        return (stood if known or earlier.mended else None), ""
    count = git("rev-list", "--count", f"{stood}..{head}", cwd=merge_context.checkout)
    text = f" with what was committed on {branch} ({count})"
    if merge_context.contains(stood, head):
        return head, text
    if earlier.tip and (files := merge_context.lacking(head, earlier.tip)):
        raise _foreign(merge_context, branch, earlier.tip, files)
    # Amended, or rebased: the files are as somebody wants them, and the history still has what was recorded.
    return merge_context.commit(f"{head}^{{tree}}", (head, stood), f"Take {branch} as it was rewritten"), text


def _with_branch(
    merge_context: MergeContext, copy: BranchCopy, start: str | None, main: str
) -> tuple[str | None, str]:
    """Return the commit together with a person's commits on the branch of the change set, and a text on them.

    Raises GitRefused where the branch lacks the work of the change set, or has work that was taken back.
    """
    heads, work = copy.read(), start or main
    if not heads.is_moved or merge_context.contains(heads.head, work):
        return start, ""
    builds_on_it = bool(start or heads.left) and merge_context.contains(work, heads.head)
    taken_back = heads.left and not merge_context.contains(heads.left, work)
    if not builds_on_it or (taken_back and merge_context.contains(heads.left, heads.head)):
        raise _not_ours(merge_context, copy.branch, heads.head, "was taken back" if taken_back else "", work)
    count = git("rev-list", "--count", f"{work}..{heads.head}", cwd=merge_context.checkout)
    return heads.head, f" with what was committed on {copy.branch} ({count})"


def keep_left_out(merge_context: MergeContext, commit: str) -> Iterator[str]:
    """Keep the commits of people that a run leaves behind which begins at `commit`; yield lines on them."""
    copy, again, known = merge_context.copy, merge_context.again, [commit]
    for branch in (*([branch_of(again)] if again else ()), *([copy.branch] if copy else ())):
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


def _not_ours(merge_context: MergeContext, branch: str, head: str, why: str, work: str) -> GitRefused:
    checkout, name = merge_context.checkout, merge_context.change_set
    what = f"builds on work that {why}" if why else f"does not contain {work[:12]}, where {name} stands"
    hint = (
        f"take it as it is: coord adopt {name}; or keep it under another name: "
        f"git -C {quoted(checkout)} branch -m {quoted(branch)} NAME; then: coord retry {merge_context.run_id}"
    )
    if is_shallow(checkout):
        hint = f"the clone is shallow: git -C {quoted(checkout)} fetch --unshallow; or {hint}"
    return GitRefused(f"{merge_context.repo}: {branch} ({head[:12]}) {what}", hint)


def _foreign(merge_context: MergeContext, branch: str, tip: str, files: Sequence[str]) -> GitRefused:
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


def _known(merge_context: MergeContext, earlier: Earlier) -> str | None:
    """Return the commit that always counts: the recorded tip, or the start of a run begun on mended work."""
    if (
        earlier.mended
        and earlier.base
        and (earlier.tip is None or merge_context.contains(earlier.tip, earlier.base))
    ):
        return earlier.base
    return earlier.tip


def _merge(merge_context: MergeContext, ours: str, theirs: str) -> str:
    done = ask("merge-tree", *MERGE, ours, theirs, cwd=merge_context.checkout, settings=DURABLE)
    tree, *files = done.stdout.rstrip("\0").split("\0")
    if done.returncode == 1 and files:
        raise Unmergeable(ours, f"both change {_shown(files)}")
    if done.returncode == NO_SUCH_OPTION:
        raise Unmergeable(ours, "this git is older than 2.38 and cannot merge without a checkout")
    if done.returncode:
        checkout, text = merge_context.checkout, done.stderr.strip()
        if is_shallow(checkout):
            text += f"; the clone is shallow: git -C {quoted(checkout)} fetch --unshallow"
        raise Unmergeable(ours, text)
    return merge_context.commit(
        tree, (ours, theirs), f"Merge {merge_context.branch} into {branch_of(merge_context.run_id)}"
    )


def _shown(files: Sequence[str]) -> str:
    return ", ".join(files[:FILES_SHOWN]) + (" …" if len(files) > FILES_SHOWN else "")
