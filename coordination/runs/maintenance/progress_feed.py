"""Give the user's `progress_command` the progress of each run, as lines of JSON on its standard input.

The worker that leads maintenance starts the program once for each run, writes each change to its input, and
closes the input when the run has ended. When another worker becomes the leader, the former one closes its
programs, and the new one starts programs of its own for the live runs.

A program cannot slow a run down: one thread for each program writes to it, and a line that it has not read
when the next one is ready is replaced. A program that has died is not started again. The more it costs to
read the progress of a run, the less often it is read.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from coordination.errors import NotFound, Unreadable
from coordination.events.kinds import GAP
from coordination.runs.maintenance.program_service import ProgramService
from coordination.runs.views.progress_reader import ProgressReader
from coordination.runs.views.records import RunView
from coordination.runs.views.run_view import RunReader
from coordination.user_program import NotStarted, UserProgram

LOOK_S = 1.0
SHARE = 20
"""The progress of a run is read again after so many times the time that it took to read."""
MOST = 20
"""Greatest number of programs at once."""
CLOSING_S = 10.0
"""Time for a program to end after its input was closed."""
HURRY_S = 2.0
"""The same once the worker stops."""
FIRST_LOOK = timedelta(seconds=5)
BEGINNINGS = frozenset({"run.started", "run.imported", "run.rolling_back"})
CLOCKS = frozenset({"at", "eta", "left_s", "running_s"})
"""Fields that change with the time alone: a change of them makes no new line."""

logger = logging.getLogger(__name__)


class LatestLine:
    """The newest line for a program; a thread writes it as soon as the program reads."""

    def __init__(self, program: UserProgram) -> None:
        self._program = program
        self._changed = threading.Condition()
        self._line: bytes | None = None
        self._closed = False
        threading.Thread(target=self._write, name="progress line", daemon=True).start()

    def put(self, line: bytes) -> None:
        with self._changed:
            self._line = line
            self._changed.notify()

    def close(self) -> None:
        """Close the program's input after the newest line."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _write(self) -> None:
        reads = True
        while reads:
            with self._changed:
                self._changed.wait_for(lambda: self._line is not None or self._closed)
                line, self._line = self._line, None
            if line is None:
                break
            reads = self._program.feed(line)
        self._program.close_input()


class Feed:
    """One run and its program."""

    def __init__(self, program: UserProgram, reader: ProgressReader) -> None:
        self.program = program
        self.latest = LatestLine(program)
        self.reader = reader
        self.due = 0.0
        self.close_by = 0.0
        """Time at which a closed program is ended by force; 0 while its run goes on."""
        self._reported: Any = None

    def report(self, run: RunView) -> None:
        """Pass the progress on if anything but the time has changed."""
        shown = {
            "run": run.run_id,
            "plan": run.plan_id,
            "status": run.status,
            "counts": dict(run.counts),
            **(run.progress.model_dump(mode="json") if run.progress else {}),
        }
        news = _without_clocks(shown)
        if news != self._reported:
            self._reported = news
            self.latest.put(json.dumps(shown, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n")

    def close(self, wait_s: float) -> None:
        self.latest.close()
        self.close_by = self.close_by or time.monotonic() + wait_s


class ProgressFeed(ProgramService):
    name = "progress feed"
    interval_s = LOOK_S
    first_at_once = True
    join_s = 2 * HURRY_S + 1

    _position = ""
    """Behind the last event that was read; empty before the first look."""

    @cached_property
    def _feeds(self) -> dict[str, Feed]:
        return {}

    @cached_property
    def _runs(self) -> RunReader:
        return RunReader(self._redis, self._keys)

    def run_once(self) -> list[str]:
        """Report the progress of the live runs; return them."""
        self._look()
        self._end_closed()
        return [run_id for run_id, feed in self._feeds.items() if not feed.close_by]

    def finish(self) -> None:
        """Report the end of the runs that have ended, and end all programs."""
        try:
            self._look()  # also without a round before: a sweep may end first
        finally:
            self._close_all(HURRY_S)
            until = time.monotonic() + HURRY_S
            while time.monotonic() < until and not all(it.program.has_ended for it in self._feeds.values()):
                time.sleep(0.02)
            for feed in self._feeds.values():
                feed.program.end(0.2)
            self._feeds.clear()

    def _look(self) -> None:
        for run_id in self._begun():
            self._start(run_id)
        for run_id, feed in self._feeds.items():
            if not feed.close_by and time.monotonic() >= feed.due:
                self._update(run_id, feed)

    def _begun(self) -> Iterable[str]:
        """Return the runs that have started since the last round; in the first round, all live runs, too."""
        begun: dict[str, None] = {}
        if not self._position:
            self._position = self._stream.position_at(datetime.fromtimestamp(self._now_s(), UTC) - FIRST_LOOK)
            begun |= dict.fromkeys(self._redis.zrange(self._keys.live, 0, -1))
        while True:
            batch = self._stream.read(self._position)
            for event in batch.events:
                if event.kind in BEGINNINGS:
                    begun[event.run] = None
                elif event.kind == GAP:
                    begun |= dict.fromkeys(self._redis.zrange(self._keys.live, 0, -1))
            if batch.position == self._position:
                return [run_id for run_id in begun if run_id not in self._feeds]
            self._position = batch.position

    def _now_s(self) -> int:
        return int(self._redis.time()[0])

    def _start(self, run_id: str) -> None:
        if len(self._feeds) >= MOST:
            logger.warning("progress_command gets %d runs at most: not run %s", MOST, run_id)
            return
        try:
            program = UserProgram(self._command, {"COORD_RUN": run_id})
        except NotStarted as error:
            logger.error("progress_command gets no progress of run %s: %s", run_id, error)
            return
        self._feeds[run_id] = Feed(program, ProgressReader(self._redis, self._keys, run_id))

    def _update(self, run_id: str, feed: Feed) -> None:
        began = time.monotonic()
        try:
            run = feed.reader.with_progress(self._runs.read(run_id, todos=False), complete=False)
        except (NotFound, Unreadable) as error:
            logger.warning("progress_command gets no more progress of run %s: %s", run_id, error.message)
            feed.close(CLOSING_S)
            return
        feed.report(run)
        if run.status.ended:
            feed.close(CLOSING_S)
        feed.due = time.monotonic() + SHARE * (time.monotonic() - began)

    def _close_all(self, wait_s: float) -> None:
        for feed in self._feeds.values():
            feed.close(wait_s)

    def _end_closed(self) -> None:
        """Forget the programs whose runs have ended; end those that do not end themselves."""
        for run_id, feed in list(self._feeds.items()):
            if not feed.close_by or (not feed.program.has_ended and time.monotonic() < feed.close_by):
                continue
            ended = feed.program.end(self._grace.total_seconds())
            late = "it did not end with its input, and was killed"
            if why := late if ended.code is None else ended.failure:
                logger.warning("progress_command of run %s: %s", run_id, why)
            del self._feeds[run_id]


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_clocks(one) for name, one in value.items() if name not in CLOCKS}
    return [_without_clocks(one) for one in value] if isinstance(value, list) else value
