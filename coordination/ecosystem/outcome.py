"""What a run came to, as far as the file is told of it. Whoever only looks at runs need not import what edits files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Outcome:
    plan: str
    succeeded: Mapping[str, float | None]
    """Todo → hours that it took; None: it was given an earlier result, and took none."""
    undone: Mapping[str, float | None]
    """The same, of what had succeeded before it was undone, or in a run that this one took up, and no longer stands."""
    filed: frozenset[str] = frozenset()
    """Those of `undone` that the file calls completed because the run, or one that it took up, wrote that there."""
    reopened: frozenset[str] = frozenset()
    """Those that were written back as pending already: what calls them completed now is a person."""
    reached: frozenset[str] = frozenset()
    """Milestones of the plan that were approved."""
    lost: frozenset[str] = frozenset()
    """Those that had been, before what they stand for was undone."""
