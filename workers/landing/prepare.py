"""Prepare commits without a checkout: one that lands a change set, that takes it back, that opens it again.

Each is made like all commits of coord: durable, with the user's identity, signed as git's configuration says.
No hook runs: `git commit-tree` knows none, as with a merge on a server.
"""

from __future__ import annotations

from coordination.text import quoted
from workers.landing.merging import made, merge, merge_from
from workers.landing.records import BaseBranch, Method, Nothing, Prepared, Reason, Refused
from workers.landing.remote import contains, trees
from workers.workspace.repository import is_shallow


def prepare(
    at: BaseBranch, *, base: str, tip: str, since: str, method: Method, message: str
) -> Prepared | Nothing | Refused:
    """Return the commit that brings the change set `since..tip` onto `base`.

    `base`: the base tip now. `since`: the commit at which the change set began, or that was merged into it
    last (RepoChange.base). `message`: the whole message, with trailers (`landing_message`); not used by ff.
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
        return Nothing(base=base)
    if method is not Method.FF:
        parents = (base, tip) if method is Method.MERGE else (base,)
        return made(at, merged.tree, parents, message, base)
    if not contains(at, tip, base):
        words = f"{at.branch} of {at.repo} has commits that {tip[:12]} does not contain: no fast-forward"
        return Refused(reason=Reason.NOT_FAST_FORWARD, words=words, base=base)
    return Prepared(commit=tip, tree=merged.tree, base=base)


def landing_message(subject: str, *, plan: str, run: str, base: str, tip: str) -> str:
    """Return a message with the trailers Coord-Plan, Coord-Run, Coord-Base and Coord-Tip."""
    facts = {"Plan": plan, "Run": run, "Base": base, "Tip": tip}
    trailers = [f"Coord-{name}: {' '.join(fact.split())}\n" for name, fact in facts.items() if fact]
    return f"{' '.join(subject.split()) or f'Land {plan}'}\n\n{''.join(trailers)}".replace("\0", "")


def revert_commit(
    at: BaseBranch, *, base: str, landed: str, before: str, message: str
) -> Prepared | Nothing | Refused:
    """Return the commit on `base` without the change that landed: one commit, whatever its method.

    `landed`: the landed commit. `before`: the commit (or tree) of the base branch before it. Nothing: the
    base has nothing of it any more. Refused: CONFLICT with the files, NO_COMMIT.
    """
    if isinstance(found := trees(at, base, landed, before), Refused):
        return found
    merged = merge_from(at, landed, base, before)
    if isinstance(merged, Refused):
        return _explained(merged, at, f"reverting {landed[:12]}")
    if merged.tree == found[0]:
        return Nothing(base=base)
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
    words = f"{at.branch} of {at.repo} has later changes in the same places; {step}: {refused.words}"
    return Refused(reason=refused.reason, words=words, files=refused.files)


def _rewritten(at: BaseBranch, tip: str, since: str) -> Refused:
    words = f"{at.repo}: {tip[:12]} does not contain {since[:12]}, where the change set began"
    if is_shallow(at.path):
        words = f"{words}, as far as this shallow clone tells: git -C {quoted(at.path)} fetch --unshallow"
        return Refused(reason=Reason.SHALLOW, words=words)
    return Refused(reason=Reason.REWRITTEN, words=f"{words}: its history was rewritten")
