"""Make the commits that land, revert and reopen a change set.

Commits are made without a checkout, and like all commits of coord: durable, with the user's identity, signed
as git's configuration says. No hook runs: `git commit-tree` knows none, as with a merge on a server.

git before 2.45 has no `merge-tree --merge-base`. A three-way merge therefore uses synthetic commits: ours and
theirs as children of the ancestor. They have a fixed author and date, so that a second call makes no new
objects, and no ref, so that git removes them in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordination.errors import GitRefused
from coordination.git import DURABLE, NO_GRAFTS, TRUE_HISTORY, is_commit
from coordination.models import Method
from coordination.text import listed, quoted
from workers.landing.records import BaseBranch, NoChange, Prepared, Reason, Refused
from workers.landing.remote import contains, trees
from workers.workspace.base_commit import MERGE
from workers.workspace.commit import commit_tree
from workers.workspace.git import ask, git
from workers.workspace.repository import is_shallow

SYNTHETIC = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "coord"), ("EMAIL", "coord@localhost"), ("DATE", "@0 +0000"))
}
REVERTS = "Coord-Reverts"
"""Trailer of a commit that reverts another one."""


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
        error = f"{at.repo}: {ours[:12]} and {theirs[:12]} both change {listed(named)}"
        return Refused(reason=Reason.CONFLICT, error=error, files=named)
    if "unrelated histories" in done.stderr:
        error = f"{at.repo}: {ours[:12]} and {theirs[:12]} have no common history"
        if is_shallow(at.path):
            hint = f"the clone is shallow: git -C {quoted(at.path)} fetch --unshallow"
            return Refused(reason=Reason.SHALLOW, error=f"{error} here; {hint}")
        return Refused(reason=Reason.REWRITTEN, error=error)
    raise GitRefused(
        f"{at.repo}: {ours[:12]} cannot be merged with {theirs[:12]}: {done.stderr.strip()}",
        "fix the cause that git names; landing needs git 2.38",
    )


def merge_from(at: BaseBranch, ancestor: str, ours: str, theirs: str) -> Merged | Refused:
    """Bring the difference between the commits or trees `ancestor` and `theirs` to `ours`."""
    if isinstance(found := trees(at, ancestor, ours, theirs), Refused):
        return found
    root = synthetic(at, found[0])
    return merge(at, synthetic(at, found[1], root), synthetic(at, found[2], root))


def made(at: BaseBranch, tree: str, parents: Sequence[str], message: str, base: str) -> Prepared:
    return Prepared(commit=commit_tree(at.path, tree, parents, message), tree=tree, base=base)


def synthetic(at: BaseBranch, tree: str, *parents: str) -> str:
    options = [option for parent in parents for option in ("-p", parent)]
    return git("commit-tree", *options, "-m", "compare", tree, cwd=at.path, variables=SYNTHETIC)


def prepare(
    at: BaseBranch, *, base: str, tip: str, since: str, method: Method, message: str
) -> Prepared | NoChange | Refused:
    """Return the commit that brings the change set `since..tip` onto `base`.

    `base`: the base tip now. `since`: the commit at which the change set began, or that was merged into it
    last (RepoChange.base). `method`: not rebase, which only forges have. `message`: the whole message, with
    trailers (`landing_message`); not used by ff.
    Refused: CONFLICT with the files, NOT_FAST_FORWARD, REWRITTEN (tip does not contain `since`), NO_COMMIT,
    SHALLOW.
    """
    if isinstance(found := trees(at, base, tip, since), Refused):
        return found
    if not contains(at, tip, since):
        return _rewritten(at, tip, since)
    merged = merge(at, base, tip)
    if isinstance(merged, Refused):
        return merged
    if merged.tree == found[0]:
        return NoChange(base=base)
    if method is not Method.FF:
        parents = {Method.MERGE: (base, tip), Method.SQUASH: (base,)}[method]
        return made(at, merged.tree, parents, message, base)
    if not contains(at, tip, base):
        error = f"{at.branch} of {at.repo} has commits that {tip[:12]} does not contain: no fast-forward"
        return Refused(reason=Reason.NOT_FAST_FORWARD, error=error, base=base)
    return Prepared(commit=tip, tree=merged.tree, base=base)


def landing_message(
    subject: str, *, plan: str, run: str, base: str, tip: str, todos: Sequence[str] = (), override: str = ""
) -> str:
    """Return a message with the trailers Coord-Plan, Coord-Run, Coord-Base and Coord-Tip. `todos`: those
    whose commits it replaces, each with a trailer Coord-Todo. `override`: the safeguards without which it
    lands, and the person who decided that, for Coord-Override.
    """
    facts = [("Plan", plan), ("Run", run), ("Base", base), ("Tip", tip), *(("Todo", todo) for todo in todos)]
    facts.append(("Override", override))
    trailers = [f"Coord-{name}: {' '.join(fact.split())}\n" for name, fact in facts if fact]
    return f"{' '.join(subject.split()) or f'Land {plan}'}\n\n{''.join(trailers)}".replace("\0", "")


def revert_commit(
    at: BaseBranch, *, base: str, landed: str, before: str, message: str
) -> Prepared | NoChange | Refused:
    """Return the commit on `base` without the change that landed: one commit, whatever its method.

    `landed`: the landed commit. `before`: the commit (or tree) of the base branch before it. NoChange: the
    base has nothing of it any more. Refused: CONFLICT with the files, NO_COMMIT.
    """
    if isinstance(found := trees(at, base, landed, before), Refused):
        return found
    merged = merge_from(at, landed, base, before)
    if isinstance(merged, Refused):
        return _explained(merged, at, f"reverting {landed[:12]}")
    if merged.tree == found[0]:
        return NoChange(base=base)
    return made(at, merged.tree, (base,), message, base)


def reopen(
    at: BaseBranch, *, tip: str, base: str, landed: str, before: str, message: str
) -> Prepared | Refused:
    """Return the change set's new tip after a revert: a merge of tip and base that has all the work again.

    `landed`, `before`: as for the revert, whoever made it. The new tip contains `base`, which is thereby the
    commit that was merged last. Refused: CONFLICT, NO_COMMIT.
    """
    if isinstance(found := trees(at, tip, base, landed, before), Refused):
        return found
    merged = merge_from(at, before, base, landed)
    if isinstance(merged, Refused):
        return _explained(merged, at, f"restoring {tip[:12]}")
    return made(at, merged.tree, (tip, base), message, base)


def _explained(refused: Refused, at: BaseBranch, step: str) -> Refused:
    error = f"{at.branch} of {at.repo} has later changes in the same places; {step}: {refused.error}"
    return Refused(reason=refused.reason, error=error, files=refused.files)


def _rewritten(at: BaseBranch, tip: str, since: str) -> Refused:
    error = f"{at.repo}: {tip[:12]} does not contain {since[:12]}, where the change set began"
    if is_shallow(at.path):
        error = f"{error}, as far as this shallow clone tells: git -C {quoted(at.path)} fetch --unshallow"
        return Refused(reason=Reason.SHALLOW, error=error)
    return Refused(reason=Reason.REWRITTEN, error=f"{error}: its history was rewritten")


def update_commit(at: BaseBranch, *, head: str, base: str, change_set: str) -> Prepared | Refused:
    """Return the commit that merges the base branch into the head of a request. Refused: CONFLICT."""
    merged = merge(at, head, base)
    if isinstance(merged, Refused):
        return merged
    message = f"Merge {at.branch} into {change_set}\n\nCoord-Plan: {change_set}\nCoord-Base: {base}\n"
    return made(at, merged.tree, (head, base), message, base)
