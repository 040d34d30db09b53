"""The ecosystem of a process that lives for days: opened when needed, and again when its settings change.

`Coord.manager` reads the file anew whenever it has changed, and `Coord.redis_url` starts the embedded server
again; only new settings need a new Coord.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coordination.api.coord import Coord
from coordination.errors import InvalidFile


class CurrentCoord:
    """The Coord of a file, or of the file that a command finds where `path` is None; for several threads."""

    def __init__(self, path: Path | None, redis_url: str | None = None) -> None:
        self._path, self._redis_url = path, redis_url
        self._opened: list[Coord] = []
        """The last one is in use; an earlier one may be, by an operation that began earlier."""
        self._settings: Mapping[str, Any] = {}
        self._lock = threading.Lock()

    def get(self) -> Coord:
        """Return the ecosystem. Raises InvalidFile until it could be opened once; a file that breaks later
        does not stop the process.
        """
        with self._lock:
            if not self._opened or self._outdated(self._opened[-1]):
                coord = Coord(self._path, self._redis_url)
                self._settings = coord.document.ecosystem.settings
                self._opened.append(coord)
            return self._opened[-1]

    def close(self, before: Callable[[Coord], object] = lambda _: None) -> None:
        """Give back what was started for reading; runs continue. `before`: called with each Coord first."""
        with self._lock:
            for coord in self._opened:
                before(coord)
                coord.close()
            self._opened.clear()

    def _outdated(self, coord: Coord) -> bool:
        try:
            return coord.document.ecosystem.settings != self._settings
        except InvalidFile:
            return False
