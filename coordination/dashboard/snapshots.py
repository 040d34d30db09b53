"""Answers of the facade for pages, and the notification of open pages.

Answers are read in a few threads, shared by all open pages for a moment, and kept with their age for the time
when Redis is away. A follower of the event stream notifies open pages of changes.

A page names the last event that it knows, by its id in the Redis stream, and reloads when there is a newer
one. So a page continues after a restart of the server, and no event is sent twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from coordination.api import BEGINNING, POSITION
from coordination.api.coord import Coord, CurrentCoord
from coordination.background import BackgroundService
from coordination.environment import acting_for
from coordination.errors import CoordinationError, Unreachable

T = TypeVar("T")
THREADS = 8
FRESH_S = 0.25
"""Seconds for which pages share an answer; also the shortest time between two readings of it."""
PATIENCE_S = 3.0
"""Seconds after which a page shows the former answer instead of waiting."""
QUICK_S = 0.2
SLOW_FACTOR = 2.0
"""Pause after reading an answer, as a multiple of the reading time: reading never takes all of the time."""
KEPT = 200
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Seen(Generic[T]):
    """An answer, and when it was read."""

    value: T
    at: datetime
    changes: int = 0
    """`Snapshots.changes` when the reading began; later events may be missing."""
    position: str = ""
    """Id of the newest event then; empty for an answer that is kept for a fixed time."""
    stale: str = ""
    """Reason why a newer answer could not be read; empty if this one is current."""


class Snapshots:
    """Reads and keeps answers by their keys. `path` is the ecosystem file."""

    def __init__(self, path: Path | None, redis_url: str | None = None) -> None:
        self._current = CurrentCoord(path, redis_url)
        self._threads = ThreadPoolExecutor(THREADS, "dashboard")
        self._history = ThreadPoolExecutor(1, "dashboard history")  # SQLite stays in its thread
        self._kept: dict[Hashable, tuple[float, Seen[Any]]] = {}
        """Key → the time before which the answer is not read again, and the answer."""
        self.position = ""
        """Id of the newest event; empty until the first look."""
        self.changes = 0
        """Number of events and of operations on this dashboard so far."""
        self._done_here = 0
        """Value of `changes` after the last operation on this dashboard, which every answer must show."""
        self._reading: dict[Hashable, asyncio.Future[Any]] = {}

    @property
    def coord(self) -> Coord:
        """Return the ecosystem. Raises InvalidFile until the file was valid once."""
        return self._current.get()

    def running(self) -> Coord:
        """Return the ecosystem if its Redis runs; start no server. Raises Unreachable."""
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
        """Return an answer that shows all events so far, or an older one if Redis does not answer.

        `fresh_s`: an answer of this age in seconds is new enough, whatever has happened; `at_once`: the
        shared answer is new enough; `live`: reading needs a running Redis; `history`: it reads the history.
        Raises the errors of `read`.
        """
        needed = self._done_here if at_once or fresh_s is not None else self.changes
        kept, now = self._kept.get(key), time.monotonic()
        if kept is not None and now < kept[0] and kept[1].changes >= needed:
            return kept[1]
        patience = None if kept is None else max(0.0, kept[0] - now) + PATIENCE_S
        try:
            async with asyncio.timeout(patience):
                while True:
                    # An ended reading stays in the table until its callbacks run; waiting for it would
                    # keep them from running, and this loop would never end.
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

    async def get_if_quick(
        self, key: Hashable, read: Callable[[Coord], T], *, fresh_s: float
    ) -> Seen[T | None]:
        """Return an answer as `get` does if it comes at once; else the former one, or one with None."""
        getting = asyncio.ensure_future(self.get(key, read, fresh_s=fresh_s))
        getting.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait([getting], timeout=QUICK_S)
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
            reading.exception()  # the error of a reading without a waiting page is not reported

    async def do(self, operation: Callable[[], T], person: str = "") -> T:
        """Execute an operation in a thread, in the name of `person` if it is not empty."""

        def call() -> T:
            with acting_for(person):
                return operation()

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def moved(self, position: str) -> None:
        """Count an event: answers read before it are outdated."""
        if position != self.position:
            self.position = position
            self.changes += 1

    def forget(self) -> None:
        """Read all answers again: a person has changed something on this dashboard."""
        self.changes += 1
        self._done_here = self.changes
        self._kept = {key: (0.0, seen) for key, (_, seen) in self._kept.items()}

    def close(self) -> None:
        """End the threads and close the connections; runs continue."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._current.close(lambda coord: self._history.submit(_close_history, coord).result())
        self._history.shutdown(wait=False)


def _close_history(coord: Coord) -> None:
    if "memory" in vars(coord):
        vars(coord).pop("memory").close()


TICK_S = 5.0
"""Seconds without an event after which a page reloads, because durations and expected ends change."""
PAUSE_S, PAUSE_PER_PAGE_S, LONGEST_PAUSE_S = 0.4, 0.007, 0.75
"""Shortest pause in seconds between two messages to a page, which grows with the number of open pages: a run
makes many events, and rendering a page takes some milliseconds of a processor that the run needs.
"""
AGAIN_S = 0.5


class PageNews(BackgroundService):
    """Follows the events in a thread, and notifies the pages in the event loop."""

    name = "dashboard events"
    interval_s = AGAIN_S
    first_at_once = True
    join_s = 0.0

    def __init__(self, snapshots: Snapshots) -> None:
        super().__init__()
        self._snapshots = snapshots
        self._since = ""
        """Id of the newest event, for the thread; empty until the first look."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moved = asyncio.Event()
        self._ended = False
        self._pages = 0
        """Number of streams of open pages."""

    def open(self) -> None:
        """Begin, in the event loop of the pages."""
        self._loop = asyncio.get_running_loop()
        self.start()

    def close(self) -> None:
        self.stop()
        self.end_streams()

    def end_streams(self) -> None:
        """End the streams of all pages; the pages connect again after a restart of the server."""
        self._ended = True
        self._tell()

    def run_once(self) -> None:
        coord = self._snapshots.running()
        if not self._since:
            self._since = coord.events.position()
            self._tell()
        for event in coord.events.follow(since=self._since):
            if self.stopping.is_set():
                return
            if event is not None:
                self._since = event.id
                self._tell()
            elif coord.running_redis() is None:
                return

    def failed(self, error: Exception) -> float:
        if not isinstance(error, CoordinationError):
            return super().failed(error)
        logger.debug("no events: %s", error)
        self._tell()
        return AGAIN_S

    def _tell(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, so there are no pages
                self._loop.call_soon_threadsafe(self._wake_pages)

    @property
    def position(self) -> str:
        """Return the id of the newest known event; empty until the first look."""
        return self._snapshots.position

    def _wake_pages(self) -> None:
        self._snapshots.moved(self._since)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def messages(self, since: str) -> AsyncIterator[str]:
        """Yield a message whenever the page is to reload. `since`: the last event that the page knows."""
        known = since if POSITION.fullmatch(since) else self.position
        self._pages += 1
        try:
            yield f"retry: 1000\n{_id(known)}: connected\n\n"
            while not self._ended:
                moved = self._moved
                if known == self.position:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(moved.wait(), TICK_S)
                if self._ended:
                    return
                known = self.position
                yield f"event: moved\n{_id(known)}data: {known}\n\n"
                await asyncio.sleep(min(LONGEST_PAUSE_S, PAUSE_S + PAUSE_PER_PAGE_S * self._pages))
        finally:
            self._pages -= 1


def _id(position: str) -> str:
    return f"id: {position}\n" if position and position != BEGINNING else ""
