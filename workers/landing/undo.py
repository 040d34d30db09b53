"""Take a landing back by one commit, whatever its method; open a change set again after that."""

from __future__ import annotations

from workers.landing.records import BaseBranch, Nothing, Prepared, Refused


def revert_commit(
    at: BaseBranch, *, base: str, landed: str, before: str, message: str
) -> Prepared | Nothing | Refused:
    """Return the commit on `base` without the change that landed.

    `landed`: the landed commit. `before`: the commit (or tree) of the base branch before it. Nothing: the
    base has nothing of it any more. Refused: CONFLICT with the files, NO_COMMIT.
    """
    raise NotImplementedError


def reopen(at: BaseBranch, *, tip: str, base: str, revert: str, message: str) -> Prepared | Refused:
    """Return the change set's new tip after a revert: a merge of tip and base that has all the work again.

    `revert`: the commit of `revert_commit`, which `base` contains. The new tip contains `base`, which is
    thereby the commit that was merged last. Refused: CONFLICT, NO_COMMIT, REWRITTEN (`base` lacks `revert`).
    """
    raise NotImplementedError
