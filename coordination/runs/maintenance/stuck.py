"""Find runs that nothing will move on, which are faults of coord itself.

Each one is reported once, and its state is saved for the bug report. A run is checked only after nothing
happened in it for a while, and a finding counts if a second check a little later gives the same. Each check
without a finding doubles the wait for the next, so that a run that waits weeks for a person costs almost
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from coordination.errors import CoordinationError
from coordination.files import below, make_private, open_private
from coordination.runs.export.document import document_of
from coordination.runs.store import RunStore

QUIET_S = 30.0
"""Time without an event after which a run is checked."""
CONFIRM_S = 5.0
LONGEST_S = 600.0
LOOK_S = 5.0
NAMED = 3

logger = logging.getLogger(__name__)


@dataclass
class Quiet:
    """A run since its last event; times are of the monotonic clock."""

    event: str
    ask_at: float
    wait_s: float = QUIET_S
    found: tuple[str, ...] = field(default=())


class StuckWatch:
    def __init__(self, store: RunStore, folder: Path | None) -> None:
        """`folder`: where the states are written; None: nowhere."""
        self._store = store
        self._folder = folder
        self._runs: dict[str, Quiet] = {}
        self._reported: set[str] = set()
        self._look_at = 0.0

    def run_once(
        self,
        live: Iterable[str],
        now_s: float,
        skip_unreadable: Callable[[str], AbstractContextManager[None]],
    ) -> list[str]:
        """Return the runs that were found stuck in this round. `now_s`: time of the monotonic clock."""
        if now_s < self._look_at:
            return []
        self._look_at = now_s + LOOK_S
        return [
            run_id
            for run_id in self._quiet(list(live), now_s)
            if self._is_news(run_id, now_s, skip_unreadable)
        ]

    def _is_news(
        self, run_id: str, now_s: float, skip_unreadable: Callable[[str], AbstractContextManager[None]]
    ) -> bool:
        with skip_unreadable(run_id):
            return self._ask(run_id, now_s)
        return False  # its records cannot be read: `skip_unreadable` has logged that

    def _quiet(self, live: list[str], now_s: float) -> list[str]:
        """Return the runs that are due for a check."""
        with self._store.redis.pipeline(transaction=False) as pipeline:
            for run_id in live:
                pipeline.xrevrange(self._store.keys.run(run_id).events, count=1)
            newest = pipeline.execute(raise_on_error=False)
        before, self._runs = self._runs, {}
        for run_id, events in zip(live, newest, strict=True):
            event = events[0][0] if isinstance(events, list) and events else ""
            known = before.get(run_id)
            same = known is not None and known.event == event
            self._runs[run_id] = known if known and same else Quiet(event=event, ask_at=now_s + QUIET_S)
        self._reported &= self._runs.keys()
        return [
            run_id for run_id, it in self._runs.items() if it.ask_at <= now_s and run_id not in self._reported
        ]

    def _ask(self, run_id: str, now_s: float) -> bool:
        quiet = self._runs[run_id]
        before, quiet.found = quiet.found, self._store.stuck(run_id)
        if not quiet.found:
            quiet.wait_s = min(2 * quiet.wait_s, LONGEST_S)
            quiet.ask_at = now_s + quiet.wait_s
            return False
        quiet.ask_at = now_s + CONFIRM_S
        return quiet.found == before and self._report(run_id, quiet.found)

    def _report(self, run_id: str, found: tuple[str, ...]) -> bool:
        why, where = _in_brief(found), self._dump(run_id)
        known = self._store.report_stuck(run_id, why, where).word == "known"
        self._reported.add(run_id)  # only after success: the report may not have reached Redis
        if known:
            return False
        logger.error(
            "internal error: run %s is stuck: %s; please report it: %s", run_id, "; ".join(found), where
        )
        return True

    def _dump(self, run_id: str) -> str:
        """Write the run's state; return the words that say where it is."""
        if self._folder is None:
            return f"its state: coord run export {run_id}"
        file = below(self._folder, "stuck", f"{run_id}.json")
        try:
            make_private(file.parent)
            with open_private(file) as text:
                text.writelines(document_of(self._store, run_id))
        except (OSError, CoordinationError, redis.ResponseError) as error:
            return f"its state could not be written to {file}: {error}"
        return f"its state is in {file}"


def _in_brief(found: tuple[str, ...]) -> str:
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more
