"""Run background services: one thread each that repeats `run_once` until it is stopped.

A service declares its defaults as class attributes and implements `run_once`, which returns a record of what it did. Errors
of a round are logged and never end the thread. Where a service is not a row of rounds (it reads and blocks), `run_once`
blocks, and `interrupt` ends the read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class BackgroundService:
    """A daemon thread with a clean end. Stopped before it was started, or stopped twice, it does nothing."""

    name = "background"
    """The name of its thread, as logs show it."""
    interval_s = 1.0
    """Between the end of a round and the begin of the next."""
    first_at_once = False
    """Whether the first round comes at the start, not one interval later."""
    join_s = 5.0
    """How long `stop` waits for the round under way; 0: not at all."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def run_once(self) -> object:
        """Do one round."""
        raise NotImplementedError

    def failed(self, error: Exception) -> float:
        """Log an error of a round; return the seconds until the next one."""
        logger.exception("a round of %s failed; the next one follows", self.name, exc_info=error)
        return self.interval_s

    def interrupt(self) -> None:
        """End a round that blocks. Called by `stop`, in the thread of its caller."""

    def finish(self) -> None:
        """Give back what rounds hold. Called in the service's thread after the last round."""

    def start(self) -> None:
        """Start the thread, or keep the one that runs; after `stop` it starts anew."""
        if self.is_running and not self.stopping.is_set():
            return
        if self._thread is not None:
            self.stopping = threading.Event()  # not cleared: a former thread may not have seen it yet
        self._thread = threading.Thread(target=self._repeat, args=(self.stopping,), name=self.name, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Begin the next round now, or once the round under way has ended."""
        self._wake.set()

    def stop(self) -> None:
        """End after the round under way, and wait for that as long as `join_s`."""
        self.stopping.set()
        self._wake.set()
        self.interrupt()
        if self.join_s and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self.join_s)

    def guarded(self, action: Callable[[], object]) -> float:
        """Call an action whose errors go to `failed`; return the seconds until the next round, 0 without an error."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 -- no error may end the thread
            return self.failed(error)
        return 0.0

    def _repeat(self, stopping: threading.Event) -> None:
        if not self.first_at_once:
            stopping.wait(self.interval_s)
        while not stopping.is_set():
            self._wake.clear()  # before the round: a wake-up during it brings another one
            if pause_s := self.guarded(self.run_once):
                stopping.wait(pause_s)
            elif not stopping.is_set():
                self._wake.wait(self.interval_s)
        self.guarded(self.finish)
