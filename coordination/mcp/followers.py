"""Runs that somebody here has started or looked at: seen through to their end, as `coord watch` does, so that what
succeeded is marked in the file when they end, not when somebody asks.
"""

from __future__ import annotations

import logging
import threading

from coordination.api.runs import Run
from coordination.errors import CoordinationError

logger = logging.getLogger(__name__)


class Followers:
    """One thread for each run. They end with the process: the run itself goes on, and `coord sync` does what they did."""

    def __init__(self) -> None:
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._left = False

    def follow(self, run: Run) -> None:
        """Once, however often it is asked for."""
        with self._lock:
            if run.id not in self._threads:
                thread = threading.Thread(target=self._see_through, args=(run,), name=f"run {run.id}", daemon=True)
                self._threads[run.id] = thread
                thread.start()

    def wait(self, run_id: str, timeout_s: float) -> None:
        """Until the run has ended and the file says so, if it is followed; at most so long."""
        with self._lock:
            thread = self._threads.get(run_id)
        if thread:
            thread.join(timeout_s)

    def leave(self) -> None:
        """Their connections are about to be closed: that is no news."""
        self._left = True

    def _see_through(self, run: Run) -> None:
        try:
            run.wait()
        except CoordinationError as error:
            if not self._left:
                logger.warning("run %s is not followed any more: %s; at its end: coord sync %s", run.id, error, run.id)
        except Exception:
            if not self._left:
                raise
        finally:
            with self._lock:
                del self._threads[run.id]
