"""The ecosystem that a server serves.

It is opened when a tool first needs it, so that an agent hears from a tool what is wrong with the file, and opened again
when the file's settings have changed: a server lives for days. Nothing in here is stale: `Coord.manager` reads the file
anew, `Coord.redis_url` starts the embedded server again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coordination.api.coord import Coord
from coordination.api.runs import Run
from coordination.errors import InvalidFile
from coordination.mcp.followers import Followers
from coordination.runs.records import RunView

RECORDED_S = 10.0
"""How long a run that has ended may take to be written into the file, before it is shown all the same."""


class Session:
    """Tools come in from several threads at once."""

    def __init__(self, path: Path, redis_url: str | None = None) -> None:
        self.path = path
        self._redis_url = redis_url
        self._opened: list[Coord] = []
        """The last one is in use; those before may be, by a tool that began earlier."""
        self._settings: Mapping[str, Any] = {}
        self._lock = threading.Lock()
        self._followers = Followers()

    @property
    def coord(self) -> Coord:
        """Raises InvalidFile, until it could be opened once; from then on a broken file takes nobody's runs out of hand."""
        with self._lock:
            if not self._opened or self._outdated(self._opened[-1]):
                coord = Coord(self.path, self._redis_url)
                self._settings = coord.manager.document.ecosystem.settings
                self._opened.append(coord)
            return self._opened[-1]

    def begun(self, run: Run, wait_s: float) -> RunView:
        """A run that was started here: it goes on without us, and is seen through while we are there."""
        self.coord.detach()
        return self.seen(run, wait_s)

    def seen(self, run: Run, wait_s: float = 0) -> RunView:
        """As soon as it has ended, or as it stands after so long. Who waits for one that ended while nobody followed it
        has it marked in the file, as `coord watch` does.
        """
        view = run.view()
        if view.status.ended:
            if wait_s:
                self._followers.follow(run)
            self._followers.wait(run.id, RECORDED_S)
            return view
        self._followers.follow(run)
        self._followers.wait(run.id, wait_s)
        return run.view() if wait_s else view

    def close(self) -> None:
        """Gives back what was started for reading; runs that were started go on."""
        self._followers.leave()
        with self._lock:
            for coord in self._opened:
                coord.close()
            self._opened.clear()

    def _outdated(self, coord: Coord) -> bool:
        try:
            return coord.manager.document.ecosystem.settings != self._settings
        except InvalidFile:
            return False
