"""Answers of the facade for pages: read in a few threads, shared by all open pages for a moment, and kept,
with their age, for the time when Redis is away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from coordination.api.coord import Coord, CurrentCoord
from coordination.environment import acting_for
from coordination.errors import Unreachable

T = TypeVar("T")
THREADS = 8
FRESH_S = 0.25
"""Time for which pages share an answer, and least time between two readings of it."""
PATIENCE_S = 3.0
"""Time after which a page shows the answer that it had before."""
GLANCE_S = 0.2
SLOW_FACTOR = 2.0
"""It is not read again for so many times as long as it took to read: reading never takes all of the time."""
KEPT = 200
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Seen(Generic[T]):
    """An answer, and when it was read."""

    value: T
    at: datetime
    changes: int = 0
    """`Snapshots.changes` when the reading began: what happened later may be missing."""
    position: str = ""
    """Id of the newest event then; empty for an answer that is good for some time whatever happens."""
    stale: str = ""
    """Why a newer one could not be read; empty if this one is new."""


class Snapshots:
    """Reads by keys. `path` is the ecosystem file."""

    def __init__(self, path: Path | None, redis_url: str | None = None) -> None:
        self._current = CurrentCoord(path, redis_url)
        self._threads = ThreadPoolExecutor(THREADS, "dashboard")
        self._history = ThreadPoolExecutor(1, "dashboard history")  # SQLite stays in its thread
        self._kept: dict[Hashable, tuple[float, Seen[Any]]] = {}
        """Key → the time before which it is not read again, and the answer."""
        self.position = ""
        """Id of the newest event; empty until the first look."""
        self.changes = 0
        """Number of events so far, and of operations of people here."""
        self._done_here = 0
        """Value of `changes` after the last operation of a person here, which every answer must show."""
        self._reading: dict[Hashable, asyncio.Future[Any]] = {}

    @property
    def coord(self) -> Coord:
        """Return the ecosystem. Raises InvalidFile until it could be opened once."""
        return self._current.get()

    def running(self) -> Coord:
        """Return the ecosystem whose Redis runs; start no server. Raises Unreachable."""
        coord = self.coord
        if coord.running_redis() is None:
            raise Unreachable("no Redis runs for this file", "start it: coord up")
        return coord

    async def get(
        self,
        key: Hashable,
        read: Callable[[Coord], T],
        *,
        live: bool = True,
        history: bool = False,
        fresh_s: float | None = None,
        at_once: bool = False,
    ) -> Seen[T]:
        """Return an answer that shows all events so far, or an older one where Redis does not answer.

        `fresh_s`: one that old will do, whatever has happened; `at_once`: so will the one that pages share;
        `live`: it needs a Redis that runs; `history`: it reads the history. Raises what `read` raises.
        """
        needed = self._done_here if at_once or fresh_s is not None else self.changes
        kept, now = self._kept.get(key), time.monotonic()
        if kept is not None and now < kept[0] and kept[1].changes >= needed:
            return kept[1]
        patience = None if kept is None else max(0.0, kept[0] - now) + PATIENCE_S
        try:
            async with asyncio.timeout(patience):
                while True:
                    # One that has ended is still here until its callbacks run; to wait for it would not
                    # let them run, and this loop would never end.
                    if (reading := self._reading.get(key)) is None or reading.done():
                        reading = asyncio.ensure_future(self._read(key, read, live, history, fresh_s))
                        self._reading[key] = reading
                        reading.add_done_callback(partial(self._done, key))
                    found: Seen[T] = await asyncio.shield(reading)
                    if found.changes >= needed:
                        return found
        except TimeoutError:
            assert kept is not None
            return replace(kept[1], stale="Redis does not answer")
        except Unreachable as error:
            if kept is None:
                raise
            return replace(kept[1], stale=error.message)

    async def glance(self, key: Hashable, read: Callable[[Coord], T], *, fresh_s: float) -> Seen[T | None]:
        """Return an answer as `get` does, if there is one at once; else the one before, or None."""
        getting = asyncio.ensure_future(self.get(key, read, fresh_s=fresh_s))
        getting.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait([getting], timeout=GLANCE_S)
        if done:
            found: Seen[Any] = getting.result()
            return found
        kept = self._kept.get(key)
        return kept[1] if kept else Seen(value=None, at=datetime.now(UTC))

    async def _read(
        self, key: Hashable, read: Callable[[Coord], T], live: bool, history: bool, fresh_s: float | None
    ) -> Seen[T]:
        if key in self._kept:
            await asyncio.sleep(max(0.0, self._kept[key][0] - time.monotonic()))
        changes, position, began = self.changes, self.position, time.monotonic()
        threads = self._history if history else self._threads
        found = await asyncio.get_running_loop().run_in_executor(
            threads, lambda: read(self.running() if live else self.coord)
        )
        at, position = datetime.now(UTC), position if fresh_s is None else ""
        seen = Seen(value=found, at=at, changes=changes, position=position)
        self._kept.pop(key, None)
        ended = time.monotonic()
        self._kept[key] = (ended + max(fresh_s or FRESH_S, SLOW_FACTOR * (ended - began)), seen)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return seen

    def _done(self, key: Hashable, reading: asyncio.Future[Any]) -> None:
        if self._reading.get(key) is reading:
            del self._reading[key]
        if not reading.cancelled():
            reading.exception()  # one that no page waits for any more is not reported

    async def do(self, operation: Callable[[], T], person: str = "") -> T:
        """Execute an operation in a thread, for a person if one is named."""

        def call() -> T:
            with acting_for(person):
                return operation()

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def moved(self, position: str) -> None:
        """Count an event: answers that were read before it do not show it."""
        if position != self.position:
            self.position = position
            self.changes += 1

    def forget(self) -> None:
        """Read everything anew: a person has changed something here."""
        self.changes += 1
        self._done_here = self.changes
        self._kept = {key: (0.0, seen) for key, (_, seen) in self._kept.items()}

    def close(self) -> None:
        """Give back what was started for reading; runs continue."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._current.close(lambda coord: self._history.submit(_close_history, coord).result())
        self._history.shutdown(wait=False)


def _close_history(coord: Coord) -> None:
    if "memory" in vars(coord):
        vars(coord).pop("memory").close()
