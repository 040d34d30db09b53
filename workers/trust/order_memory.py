"""Remember on the disk of a machine which orders have ended, and which order has landed last.

Redis says that a run has ended or was cancelled, and its owner, or somebody who restores an older copy of its
data, can take that back. So workers that require signatures keep in `orders.db` of their state folder

* each run that they saw ended, until its order expires: no todo of it starts again, but its compensations;
* the newest order that has landed or reverted a change set in a repository: an older one does neither again.

The workers of a state folder share the file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import redis

from coordination.background import BackgroundService
from coordination.errors import CoordinationError, NotTrusted, TrustCause
from coordination.files import make_private, open_own
from coordination.runs.records import RunStatus
from coordination.runs.store import RunStore
from coordination.trust.orders import Audience, RunOrder

FILE = "orders.db"
WAIT_S = 10.0
"""Limit of the wait for another process that writes."""
LOOK_S = 5.0
PAGE = 1000
"""Runs that a look goes through: so many of the newest ones, and as many of all others, in turns. Whoever can
write to Redis may invent any number of runs.
"""
SCHEMA = """
CREATE TABLE IF NOT EXISTS ended (run TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS landed (
  place TEXT, change_set TEXT, repo TEXT, run TEXT NOT NULL, ordered_at REAL NOT NULL,
  PRIMARY KEY (place, change_set, repo)) WITHOUT ROWID;
"""

logger = logging.getLogger(__name__)


class OrderMemory:
    """The memory of a state folder. Any thread may call it. Methods raise CoordinationError for a damaged
    file, or a disk that cannot be written: then todos wait.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._guard = threading.Lock()

    def note_ended(self, order: RunOrder) -> None:
        """Remember that a run has ended, and forget those whose order has expired."""
        with self._guard:
            self._write("DELETE FROM ended WHERE until < ?", (time.time(),))
            self._write(
                "INSERT OR REPLACE INTO ended VALUES (?, ?)", (order.run, order.expires_at.timestamp())
            )

    def note_landed(self, order: RunOrder, here: Audience, change_set: str, repo: str) -> None:
        """Remember that an order has landed or reverted a change set, unless a newer one has."""
        place, at = _place(here), order.issued_at.timestamp()
        with self._guard:
            self._write(
                "INSERT INTO landed VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET run = excluded.run, "
                "ordered_at = excluded.ordered_at WHERE ordered_at < excluded.ordered_at",
                (place, change_set, repo, order.run, at),
            )

    def has_ended(self, run: str) -> bool:
        """Return whether the run has ended on this machine."""
        with self._guard:
            return bool(self._read("SELECT 1 FROM ended WHERE run = ?", (run,)))

    def refuse_ended(self, run: str) -> None:
        """Raise NotTrusted for a run that has ended."""
        if self.has_ended(run):
            raise NotTrusted(
                TrustCause.FOREIGN,
                f"run {run} has ended or was cancelled before, and nothing of it starts again",
                "Redis has older data, or somebody changed it: start a new run",
            )

    def refuse_older(self, order: RunOrder, here: Audience, change_set: str, repo: str) -> None:
        """Raise NotTrusted if a later order has landed or reverted the change set in the repository."""
        query = "SELECT run, ordered_at FROM landed WHERE place = ? AND change_set = ? AND repo = ?"
        with self._guard:
            found = self._read(query, (_place(here), change_set, repo))
        for run, ordered_at in found:
            if run != order.run and ordered_at > order.issued_at.timestamp():
                raise NotTrusted(
                    TrustCause.FOREIGN,
                    f"run {run}, which was ordered later, has landed or reverted {change_set} in {repo}",
                    "Redis has older data, or somebody changed it: order it again",
                )

    @cached_property
    def _database(self) -> sqlite3.Connection:
        make_private(self._file.parent)
        os.close(open_own(self._file, os.O_RDWR | os.O_CREAT))  # private, before SQLite opens it
        opened = sqlite3.connect(self._file, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        opened.execute("PRAGMA synchronous = FULL")
        opened.executescript(SCHEMA)
        return opened

    def _read(self, query: str, values: tuple[object, ...]) -> list[tuple[str, float]]:
        try:
            return self._database.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        self._read(statement, values)

    def _broken(self, error: Exception) -> CoordinationError:
        hint = "make room, or remove a damaged file: the orders that it knows then count again"
        return CoordinationError(f"{self._file} cannot be used: {error}", hint)

    def close(self) -> None:
        with self._guard, suppress(sqlite3.Error):
            if opened := self.__dict__.pop("_database", None):
                opened.close()


def _place(here: Audience) -> str:
    return f"{here.server} {here.namespace} {here.ecosystem or ''}"


class EndedOrders(BackgroundService):
    """Looks for runs that have ended, also without a todo of this worker, such as cancelled ones.

    Runs whose orders this worker has verified are looked at each time, whatever else Redis lists.
    """

    name = "ended-orders"
    interval_s = LOOK_S
    first_at_once = True

    def __init__(
        self, store: RunStore, remember: Callable[[str], None], verified: Callable[[], Collection[str]]
    ) -> None:
        """`remember` keeps that a run has ended; `verified` returns the runs with verified orders that are
        not known to have ended.
        """
        super().__init__()
        self._store = store
        self._remember = remember
        self._verified = verified
        self._seen: frozenset[str] = frozenset()
        self._next = PAGE

    def run_once(self) -> list[str]:
        """Remember runs that have ended since the last look; return them."""
        client, keys = self._store.redis, self._store.keys
        newest = frozenset(client.zrevrange(keys.runs, 0, PAGE - 1))
        older = self._older_page() if len(newest) == PAGE else frozenset()
        listed = (newest | older) - frozenset(client.zrange(keys.live, 0, -1))
        ended = (listed | frozenset(self._verified())) - self._seen
        found = [run for run in sorted(ended) if self._has_ended(run)]
        for run in found:
            self._remember(run)
        self._seen = (self._seen & newest) | (newest & frozenset(found))
        return found

    def _older_page(self) -> frozenset[str]:
        page = frozenset(
            self._store.redis.zrevrange(self._store.keys.runs, self._next, self._next + PAGE - 1)
        )
        self._next = self._next + PAGE if page else PAGE
        return page

    def finish(self) -> None:
        self.run_once()

    def failed(self, error: Exception) -> float:
        if not isinstance(error, CoordinationError | redis.RedisError):
            return super().failed(error)
        logger.log(
            logging.DEBUG if isinstance(error, redis.RedisError) else logging.WARNING,
            "ended orders are remembered later: %s",
            error,
        )
        return self.interval_s

    def _has_ended(self, run: str) -> bool:
        status = self._store.status(run)
        return status in set(RunStatus) and RunStatus(status).ended
