"""Tells open pages that something has changed: one reader of the event stream for all of them.

A page names the last event that it knows, an id of the Redis stream, and asks for itself again when there is
a newer one. So a page goes on where it was after a restart of the server, and no event is ever sent twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from coordination.api import BEGINNING, POSITION
from coordination.background import BackgroundService
from coordination.dashboard.snapshots import Snapshots
from coordination.errors import CoordinationError

logger = logging.getLogger(__name__)
TICK_S = 5.0
"""A page asks again after this time without an event: durations and expected ends move on."""
PAUSE_S, PAUSE_PER_PAGE_S, LONGEST_PAUSE_S = 0.4, 0.007, 0.75
"""Least time between two messages to a page, which grows with the number of open pages: a run makes many
events, and each page that follows it costs some milliseconds of a processor that the run needs.
"""
AGAIN_S = 0.5


class Pulse(BackgroundService):
    """Follows the events in a thread; `wait` is for the pages, in the event loop."""

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
        """Streams of open pages."""

    def open(self) -> None:
        """Begin, in the event loop of the pages."""
        self._loop = asyncio.get_running_loop()
        self.start()

    def close(self) -> None:
        self.stop()
        self.end_streams()

    def end_streams(self) -> None:
        """End the streams of all pages, which come again where the server does."""
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
            with suppress(RuntimeError):  # the loop is closed: no page is left
                self._loop.call_soon_threadsafe(self._wake_pages)

    @property
    def position(self) -> str:
        """Return the id of the newest event that pages can be asked for; empty until the first look."""
        return self._snapshots.position

    def _wake_pages(self) -> None:
        self._snapshots.moved(self._since)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def messages(self, since: str) -> AsyncIterator[str]:
        """Yield a message of the stream whenever the page is to ask again. `since`: the event it knows."""
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
