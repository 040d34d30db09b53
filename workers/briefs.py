"""What all todos of a run share, read and parsed once in this process however many of its threads begin at the same time: of a run
of 50,000 todos it is megabytes, and a thread for each of 500 repositories would parse it for itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from coordination.runs.records import RunBrief

KEPT = 16
"""So many runs, those that were asked for last."""


@dataclass(frozen=True)
class Known:
    brief: RunBrief

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """Where each todo stands in the order of the run, which is topological."""
        return {todo: rank for rank, todo in enumerate(self.brief.predecessors)}

    def ancestors(self, todo: str) -> list[str]:
        """Every transitive predecessor, in the order of the run; what others there are in the run costs nothing."""
        seen: set[str] = set()
        heap = list(self.brief.predecessors.get(todo, ()))
        while heap:
            name = heap.pop()
            if name not in seen:
                seen.add(name)
                heap.extend(self.brief.predecessors[name])
        return sorted(seen, key=self.rank.__getitem__)


class Briefs:
    def __init__(self, read: Callable[[str], RunBrief]) -> None:
        self._read = read
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, run_id: str) -> Known:
        """Raises what reading raises; then the next one who asks reads it."""
        with self._guard:
            if run_id not in self._known:
                self._known[run_id] = Known(self._read(run_id))
            self._known.move_to_end(run_id)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return self._known[run_id]
