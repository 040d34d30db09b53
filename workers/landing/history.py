"""Find out from git which work the base branch has, and by which commits it came there.

Facts about landed work come from git only, because a record in Redis proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from coordination.git import is_commit
from coordination.trailers import TrailerLog
from workers.landing.commits import REVERTS, Merged, merge, merge_from, synthetic
from workers.landing.records import BaseBranch, HasLanded, Prepared, Refused
from workers.landing.remote import contains, trees
from workers.workspace.git import ask, git
from workers.workspace.repository import commit_at

MERGES = TrailerLog(("Base",), fields=("%P", "%s"))
TODOS = TrailerLog(("Todo", "Base"), fields=("%P",))
MOST_UPDATES = 50
"""Merges of the base branch into the head of a request that are followed back."""


def has_landed(at: BaseBranch, *, base: str, tip: str, since: str) -> HasLanded:
    """Return whether the whole work `since..tip` is in this commit of the base branch, by content: ancestry
    is wrong for squash and rebase.

    Yes: merging the tip into the base changes nothing, and taking the work out of it would. No difference
    between `since` and `tip` is no: there is nothing to land. Unknown: later commits of the base changed the
    same lines. A landing must not guess there, so it merges; `workers/cleanup/landed.py` looks for the answer
    in the history of the base.
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


def taken_out(at: BaseBranch, *, base: str, tip: str, since: str = "") -> tuple[str, ...]:
    """Return the todos whose work people have merged into the base branch and taken out of it again.

    git takes such work for merged: the base contains the commits, and a merge of base and tip drops changes
    that the change set `since..tip` still has. `since`: empty: the commit of the base branch that the newest
    todo names. Without a merge, because of a conflict, no todo is named: people decide then.
    """
    since = since or _newest_base(at, tip)
    if not since or not (shared := merge_base(at, base, tip)) or contains(at, since, shared):
        return ()
    listing = _lines(at, "log", *TODOS.options, "--no-merges", f"{since}..{shared}")
    rows = [row for row in TODOS.rows(listing or "") if row["Todo"] and row["%P"]]
    merged = merge(at, base, tip)
    if not rows or isinstance(merged, Refused):
        return ()
    result = base if shared == tip else synthetic(at, merged.tree, base, tip)

    def has(commit: str, row: Mapping[str, str]) -> HasLanded:
        return has_landed(at, base=commit, tip=row["commit"], since=row["%P"])

    gone = (row for row in rows if has(tip, row) is HasLanded.YES and has(result, row) is HasLanded.NO)
    return tuple(sorted({todo for row in gone for todo in row["Todo"].split()}))


def _newest_base(at: BaseBranch, tip: str) -> str:
    """Return the commit of the base branch that the newest todo began with; empty if none names one."""
    words = ("--first-parent", "--max-count=1", "--grep=^Coord-Base: ", tip)
    rows = TODOS.rows(_lines(at, "log", *TODOS.options, *words) or "")
    named = next((row["Base"].split() for row in rows), [])
    known = [one for one in named if is_commit(one) and contains(at, tip, one)]
    return known[-1] if known else ""


def lands(at: BaseBranch, commit: str, tip: str) -> bool:
    """Return whether git shows that a commit lands this tip: a record in Redis proves nothing."""
    if commit == tip:
        return True
    body = _lines(at, "show", "-s", "--format=%(trailers:key=Coord-Tip,valueonly)", commit)
    return body is not None and tip in body.split()


def landing_of(at: BaseBranch, tip: str, run: str, base: str) -> str:
    """Return the commit on the base branch by which this run landed the tip; empty if there is none."""
    named = ("--all-match", f"--grep=^Coord-Tip: {tip}$", f"--grep=^Coord-Run: {run}$")
    return (_lines(at, "log", "--format=%H", "-1", "--first-parent", *named, base, f"^{tip}") or "").strip()


def revert_of(at: BaseBranch, commit: str, base: str) -> str:
    """Return the commit on the base branch that reverts another one; empty if there is none."""
    found = _lines(at, "log", "--format=%H", "-1", f"--grep=^{REVERTS}: {commit}$", f"{commit}..{base}")
    return (found or "").strip()


def had_tree(at: BaseBranch, base: str, commit: str, tree: str) -> bool:
    """Return whether the base branch had this tree: right before a commit, or ever. So a revert brings back
    what was there, and not what Redis names.
    """
    found = (_lines(at, "rev-parse", "--verify", "--quiet", f"{tree}^{{tree}}") or "").strip()
    parent = (_lines(at, "rev-parse", "--verify", "--quiet", f"{commit}^1^{{tree}}") or "").strip()
    if found and found == parent and contains(at, base, commit):
        return True
    return bool(found) and found in (_lines(at, "log", "--format=%T", base) or "").split()


def tree_of(at: BaseBranch, commit: str) -> str:
    """Return the tree of a commit. Raises GitRefused."""
    return git("rev-parse", "--verify", f"{commit}^{{tree}}", cwd=at.path).strip()


def as_checked(at: BaseBranch, made: Prepared, checked: str) -> Prepared:
    """Return the checked commit if its tree and parents are those of the new commit; else the new commit."""
    if not checked or checked == made.commit:
        return made
    shape = ("show", "-s", "--format=%T %P")
    same = _lines(at, *shape, checked) == _lines(at, *shape, made.commit)
    return replace(made, commit=checked) if same else made


def merge_base(at: BaseBranch, base: str, tip: str) -> str:
    """Return the newest common ancestor of two commits; empty if they have no common history."""
    return (_lines(at, "merge-base", base, tip) or "").strip()


def heads_of(at: BaseBranch, *, tip: str, head: str, pushed: str, base: str) -> tuple[str, ...]:
    """Return the commits for which an approval of `head` holds: it, and those down to the tip of the change
    set from which coord made it by merging the base branch in. Empty where the head is of somebody else.

    `pushed`: the ref of the commit that this clone has pushed last; `base`: the base branch now. Each merge
    is computed again and must give the same tree: no record is believed.
    """
    if head == tip:
        return (tip,)
    if head != commit_at(at.path, pushed):
        return ()
    found = [head]
    while found[-1] != tip:
        parents = _parents(at, found[-1])
        if len(parents) != 2 or len(found) > MOST_UPDATES or not contains(at, base, parents[1]):
            return ()
        merged = merge(at, *parents)
        if isinstance(merged, Refused) or merged.tree != tree_of(at, found[-1]):
            return ()
        found.append(parents[0])
    return tuple(found)


def tree_before(at: BaseBranch, *, merged: str, head: str, tip: str, since: str) -> str:
    """Return the tree of the base branch before a request was merged, for every method of the forge.

    `merged`: the commit on the base branch; `head`: the head of the request; `since..tip`: the work of the
    change set.
    """
    if merged == head or contains(at, head, merged):  # a fast-forward
        return _tree_before_forward(at, head, tip, since)
    if len(_parents(at, merged)) > 1:
        return tree_of(at, f"{merged}^1")
    return tree_of(at, f"{merged}~{_replayed(at, merged, head)}")


def _tree_before_forward(at: BaseBranch, head: str, tip: str, since: str) -> str:
    """Return the tree of the base branch before a fast-forward to a head, into which somebody may have merged
    the base branch, or which was rebased onto it: then the history of the head since the change set began
    contains work of others, which a revert must keep.

    It is the head without the work of the change set, if the history has such a tree. If later work changed
    the same lines, it is the newest commit of the base branch that a merge names; `since` without one.
    """
    without = merge_from(at, tip, head, since)
    if isinstance(without, Merged):
        trees_since = (_lines(at, "log", "--format=%T", head, f"^{since}") or "").split()
        if without.tree in trees_since:
            return without.tree
    return tree_of(at, _base_in(at, head, since))


def _base_in(at: BaseBranch, head: str, since: str) -> str:
    """Return the newest commit of the base branch that was merged into a head: by coord, which names it in a
    trailer, or by people, whose git or forge names the branch in the subject; `since` without one.
    """
    by_people = re.compile(rf"Merge (remote-tracking )?branch '([^']*/)?{re.escape(at.branch)}'")
    options = (*MERGES.options, "--first-parent", "--merges")
    for row in MERGES.rows(_lines(at, "log", *options, head, f"^{since}") or ""):
        _, other, *_ = row["%P"].split()
        if other in row["Base"].split() or by_people.match(row["%s"]):
            return other
    return since


def _replayed(at: BaseBranch, merged: str, head: str) -> int:
    """Return how many commits of the base branch a request without a merge commit became: one by a squash,
    all of its own by a rebase.
    """
    count = ask("rev-list", "--no-merges", "--count", f"{merged}..{head}", cwd=at.path).stdout.strip()
    most, tree = int(count) if count.isdecimal() else 1, tree_of(at, merged)
    best = 1
    for number in range(2, most + 1):
        before = commit_at(at.path, f"{merged}~{number}")
        if not before or contains(at, head, commit_at(at.path, f"{merged}~{number - 1}")):
            break
        whole = merge(at, before, head)
        if not isinstance(whole, Refused) and whole.tree == tree:
            best = number
    return best


def _parents(at: BaseBranch, commit: str) -> tuple[str, ...]:
    done = ask("rev-list", "--parents", "-n", "1", commit, cwd=at.path)
    return tuple(done.stdout.split()[1:]) if done.returncode == 0 else ()


def _lines(at: BaseBranch, *args: str) -> str | None:
    """Return the lines that git prints; None if git fails."""
    done = ask(*args, cwd=at.path)
    return None if done.returncode else str(done.stdout)
