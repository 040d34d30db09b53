"""Three-way merges of any commits and trees, without a checkout; whether a change set has landed.

git before 2.45 has no `merge-tree --merge-base`, so an ancestor of our choice is given by synthetic commits:
ours and theirs as children of it. They have a fixed author and date, so that a second call makes no new
objects, and no ref, so that git removes them in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordination.errors import GitRefused
from coordination.git import is_commit
from coordination.text import listed, quoted
from workers.landing.records import BaseBranch, HasLanded, Prepared, Reason, Refused
from workers.landing.remote import NO_GRAFTS, TRUE_HISTORY, trees
from workers.workspace.base_commit import MERGE
from workers.workspace.commit import DURABLE, identity, signing
from workers.workspace.git import ask, git
from workers.workspace.repository import is_shallow

SYNTHETIC = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "coord"), ("EMAIL", "coord@localhost"), ("DATE", "@0 +0000"))
}


@dataclass(frozen=True, kw_only=True)
class Merged:
    tree: str


def merge(at: BaseBranch, ours: str, theirs: str) -> Merged | Refused:
    """Merge two commits of a common history. Refused: CONFLICT with the files, SHALLOW, REWRITTEN."""
    settings = (*DURABLE, *TRUE_HISTORY)
    done = ask("merge-tree", *MERGE, ours, theirs, cwd=at.path, settings=settings, variables=NO_GRAFTS)
    tree, *files = done.stdout.rstrip("\0").split("\0")
    if done.returncode == 0 and is_commit(tree):
        return Merged(tree=tree)
    if done.returncode == 1 and files:
        named = list(dict.fromkeys(files))
        words = f"{at.repo}: both {ours[:12]} and {theirs[:12]} change {listed(named)}"
        return Refused(reason=Reason.CONFLICT, words=words, files=named)
    if "unrelated histories" in done.stderr:
        words = f"{at.repo}: {ours[:12]} and {theirs[:12]} have no common history"
        if is_shallow(at.path):
            hint = f"the clone is shallow: git -C {quoted(at.path)} fetch --unshallow"
            return Refused(reason=Reason.SHALLOW, words=f"{words} here; {hint}")
        return Refused(reason=Reason.REWRITTEN, words=words)
    raise GitRefused(
        f"{at.repo}: {ours[:12]} cannot be merged with {theirs[:12]}: {done.stderr.strip()}",
        "fix the cause that git names; landing needs git 2.38",
    )


def merge_from(at: BaseBranch, ancestor: str, ours: str, theirs: str) -> Merged | Refused:
    """Bring the difference between the commits or trees `ancestor` and `theirs` to `ours`."""
    if isinstance(found := trees(at, ancestor, ours, theirs), Refused):
        return found
    root = _synthetic(at, found[0])
    return merge(at, _synthetic(at, found[1], root), _synthetic(at, found[2], root))


def has_landed(at: BaseBranch, *, base: str, tip: str, since: str) -> HasLanded:
    """Return whether the work `since..tip` is in `base`, by content: ancestry is wrong for squash and rebase.

    Yes: merging the tip into the base changes nothing, and taking the work out of it would. No difference
    between `since` and `tip` is no: there is nothing to land.
    """
    if isinstance(found := trees(at, base, tip, since), Refused):
        return HasLanded.UNKNOWN
    stands, after, before = found
    if after == before:
        return HasLanded.NO
    merged = merge(at, base, tip)
    if isinstance(merged, Refused):
        return HasLanded.UNKNOWN
    if merged.tree != stands:
        return HasLanded.NO
    without = merge_from(at, tip, base, since)
    if isinstance(without, Refused):
        return HasLanded.UNKNOWN
    return HasLanded.NO if without.tree == stands else HasLanded.YES


def commit(at: BaseBranch, tree: str, parents: Sequence[str], message: str) -> str:
    """Make a commit: durable, with the user's identity, signed as git's configuration says."""
    options = [word for parent in parents for word in ("-p", parent)]
    settings = (*DURABLE, *identity(at.path), "i18n.commitEncoding=UTF-8")
    options += signing(at.path)
    return git("commit-tree", *options, "-F", "-", tree, cwd=at.path, stdin=message, settings=settings)


def made(at: BaseBranch, tree: str, parents: Sequence[str], message: str, base: str) -> Prepared:
    return Prepared(commit=commit(at, tree, parents, message), tree=tree, base=base)


def _synthetic(at: BaseBranch, tree: str, *parents: str) -> str:
    options = [word for parent in parents for word in ("-p", parent)]
    settings = ("i18n.commitEncoding=UTF-8",)
    return git(
        "commit-tree", *options, "-m", "compare", tree, cwd=at.path, settings=settings, variables=SYNTHETIC
    )
