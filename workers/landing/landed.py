"""Tell by content whether a change set has landed: ancestry is wrong for squash and rebase."""

from __future__ import annotations

from workers.landing.records import BaseBranch, HasLanded


def has_landed(at: BaseBranch, *, base: str, tip: str, since: str) -> HasLanded:
    """Return whether the work `since..tip` is in `base`.

    Yes: merging the tip into the base changes nothing, and taking the work out of it would. No difference
    between `since` and `tip` is no: there is nothing to land.
    """
    raise NotImplementedError
