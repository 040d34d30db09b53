"""Set the branches of a change set back, after a rollback took a run out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.runs.brief import RunBrief
from coordination.runs.change_sets import ChangeSets
from workers.workspace.branch_copy import BranchCopy
from workers.workspace.repository import look


def set_back(change_sets: ChangeSets, brief: RunBrief, checkouts: Mapping[str, Path]) -> Iterator[str]:
    """Bring each branch that is here to the tip in Redis, and delete it where there is none; yield a line for
    each that stays elsewhere. Those of other hosts are mended when the next run begins there.
    """
    if not brief.change_set:
        return
    found = change_sets.read(brief.change_set)
    for repo, branch in brief.branch_of_set.items():
        if (checkout := checkouts.get(repo)) is None:
            continue
        try:
            common_dir = look(checkout)[1]
        except CoordinationError as error:
            yield f"{repo}: {branch} stays where it is: {error.message}"
            continue
        if common_dir is None:
            continue
        change = found.repos.get(repo) if found else None
        copy = BranchCopy(checkout=checkout, common_dir=common_dir, branch=branch)
        if why := copy.follow(change.tip if change else ""):
            yield f"{repo}: {why}"
