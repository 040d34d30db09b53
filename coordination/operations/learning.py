"""What earlier runs have taught of how long todos take, for whoever looks ahead: an answer at once, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coordination.operations.glance import glance
from coordination.settings import Settings

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph


def knowing(ecosystem: Path, settings: Settings, graph: PlanGraph) -> PlanGraph:
    """The graph as it is where all of it is estimated, or no Redis answers."""
    if not graph.unknown:
        return graph
    seen = glance(ecosystem, settings, lambda live: live.learned(graph.unknown))
    return graph.knowing(seen.answer) if seen else graph
