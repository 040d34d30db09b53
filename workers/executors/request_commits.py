"""Facts that git tells of a pull request: whose commits its head has, and what its merge has changed."""

from __future__ import annotations

from coordination.git import commit_of
from workers.executors.landed_commits import contains, tree_of
from workers.landing.merging import made, merge
from workers.landing.records import BaseBranch, Prepared, Refused
from workers.workspace.git import ask

MOST_UPDATES = 50


def heads_of(at: BaseBranch, *, tip: str, head: str, pushed: str, base: str) -> tuple[str, ...]:
    """Return the commits for which an approval of `head` holds: it, and those down to the tip of the change
    set from which coord made it by merging the base branch in. Empty where the head is of somebody else.

    `pushed`: the ref of the commit that this clone has pushed last; `base`: the base branch now. Each merge
    is computed again and must give the same tree: no record is believed.
    """
    if head == tip:
        return (tip,)
    if head != commit_of(at.path, pushed):
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


def update_commit(at: BaseBranch, *, head: str, base: str, change_set: str) -> Prepared | Refused:
    """Return the commit that merges the base branch into the head of a request. Refused: CONFLICT."""
    merged = merge(at, head, base)
    if isinstance(merged, Refused):
        return merged
    message = f"Merge {at.branch} into {change_set}\n\nCoord-Plan: {change_set}\nCoord-Base: {base}\n"
    return made(at, merged.tree, (head, base), message, base)


def tree_before(at: BaseBranch, *, merged: str, head: str, since: str) -> str:
    """Return the tree of the base branch before a request came in, whatever the method of the forge was.

    `merged`: the commit on the base branch; `head`: the head of the request; `since`: the commit at which the
    change set began.
    """
    if merged == head or contains(at, head, merged):
        return tree_of(at, since)
    if len(_parents(at, merged)) > 1:
        return tree_of(at, f"{merged}^1")
    return tree_of(at, f"{merged}~{_replayed(at, merged, head)}")


def _replayed(at: BaseBranch, merged: str, head: str) -> int:
    """Return how many commits of the base branch a request without a merge commit became: one by a squash,
    all of its own by a rebase.
    """
    count = ask("rev-list", "--no-merges", "--count", f"{merged}..{head}", cwd=at.path).stdout.strip()
    most, tree = int(count) if count.isdecimal() else 1, tree_of(at, merged)
    best = 1
    for number in range(2, most + 1):
        if contains(at, head, f"{merged}~{number - 1}") or not _exists(at, f"{merged}~{number}"):
            break
        whole = merge(at, _commit(at, f"{merged}~{number}"), head)
        if not isinstance(whole, Refused) and whole.tree == tree:
            best = number
    return best


def _parents(at: BaseBranch, commit: str) -> tuple[str, ...]:
    done = ask("rev-list", "--parents", "-n", "1", commit, cwd=at.path)
    return tuple(done.stdout.split()[1:]) if done.returncode == 0 else ()


def _exists(at: BaseBranch, name: str) -> bool:
    return bool(_commit(at, name))


def _commit(at: BaseBranch, name: str) -> str:
    return ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=at.path).stdout.strip()
