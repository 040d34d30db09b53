"""The changes that a predecessor has committed, for the prompt of an agent: as git lists and shows them.

They are those of its commit where this host has it: in the checkout that it serves, or in the repository from
which agents read. Of a large difference git's output is read no further than it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.git import diff_pieces, has_commit
from workers.workspace.repository import is_partial

MOST_BYTES = 8 * 1024
"""Bytes of the changes of a predecessor in a prompt."""
OPTIONS = ("--no-color", "--no-renames", "--submodule=short", "--stat=100", "--stat-count=50", "--patch")


def changes_of(places: Iterable[Path], began: str, commit: str) -> str:
    """Return the changes between two commits: the changed files, then the difference, cut at MOST_BYTES.
    Empty if there are none, or none of these repositories has both commits.
    """
    if began == commit:
        return ""
    for place in places:
        try:
            # a partial clone would fetch the files that it lacks
            if not is_partial(place) and has_commit(place, began) and has_commit(place, commit):
                return _text(place, began, commit)
        except CoordinationError:  # this repository is damaged or away; the prompt does without
            continue
    return ""


def _text(place: Path, began: str, commit: str) -> str:
    found = b""
    for piece in diff_pieces(place, began, commit, *OPTIONS):
        found += piece
        if len(found) > MOST_BYTES:
            break
    text = found[:MOST_BYTES].decode(errors="replace").strip("\n")
    return f"{text}\n… (cut)" if len(found) > MOST_BYTES else text
