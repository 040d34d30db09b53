"""The ecosystem that a server serves, and the runs that it follows to their end, to write results back.

The ecosystem is opened by the first tool that needs it, so that the tool reports errors in the file.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from coordination.api import RunView
from coordination.api.coord import Coord, CurrentCoord
from coordination.api.run import Run
from coordination.errors import CoordinationError

logger = logging.getLogger(__name__)


class Followers:
    """Follows each run in a thread. The threads end with the process; the run continues, and `coord run sync`
    does what they did.
    """

    def __init__(self) -> None:
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._closing = False

    def follow(self, run: Run) -> None:
        """Follow a run, once."""
        with self._lock:
            if run.id not in self._threads:
                thread = threading.Thread(
                    target=self._wait_for_end, args=(run,), name=f"run {run.id}", daemon=True
                )
                self._threads[run.id] = thread
                thread.start()

    def wait(self, run_id: str, timeout_s: float) -> None:
        """Wait at most `timeout_s` seconds until a followed run has ended and is written back."""
        with self._lock:
            thread = self._threads.get(run_id)
        if thread:
            thread.join(timeout_s)

    def leave(self) -> None:
        """Expect errors: the connections are about to be closed."""
        self._closing = True

    def _wait_for_end(self, run: Run) -> None:
        try:
            run.wait()
        except CoordinationError as error:
            if not self._closing:
                logger.warning(
                    "run %s is not followed any more: %s; at its end: coord run sync %s",
                    run.id,
                    error,
                    run.id,
                )
        except Exception:
            if not self._closing:
                raise
        finally:
            with self._lock:
                del self._threads[run.id]


WRITE_BACK_S = 10.0
"""Seconds to wait until an ended run is written back; then it is shown without that."""


class Session:
    """One ecosystem, used by several threads."""

    def __init__(self, path: Path, redis_url: str | None = None) -> None:
        self.path = path
        self._current = CurrentCoord(path, redis_url)
        self._followers = Followers()

    @property
    def coord(self) -> Coord:
        """Return the ecosystem. Raises InvalidFile until it could be opened once."""
        return self._current.get()

    def detached(self, run: Run, wait_s: float) -> RunView:
        """Return a run that was started here. It continues without this process, which follows it while it
        lives.
        """
        self.coord.detach()
        return self.view(run, wait_s)

    def view(self, run: Run, wait_s: float = 0) -> RunView:
        """Return a run when it has ended, or its state after `wait_s` seconds. A run that ended unfollowed is
        written back, as `coord watch` does.
        """
        view = run.view()
        if view.status.ended:
            if wait_s:
                self._followers.follow(run)
            self._followers.wait(run.id, WRITE_BACK_S)
            return view
        self._followers.follow(run)
        self._followers.wait(run.id, wait_s)
        return run.view() if wait_s else view

    def close(self) -> None:
        """Give back what was started for reading; runs continue."""
        self._followers.leave()
        self._current.close()
