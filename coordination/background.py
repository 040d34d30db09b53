"""Threads: properties that several of them may open, and the base class of background services, which repeat
`run_once` in one thread each until they are stopped.

A service declares its defaults as class attributes and implements `run_once`, which returns a record of what
it did. Errors of a round are logged and never end the thread. In a service that reads and blocks instead of
polling, `run_once` blocks, and `interrupt` ends the read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

logger = logging.getLogger(__name__)


if TYPE_CHECKING:
    opened_once = cached_property  # mypy infers the type of a subclass only in part
else:

    class opened_once(cached_property):
        """A property that is computed once, also when several threads first use it at the same time. Without
        a lock each would open a database or a server of its own, and only the last one would be closed.
        """

        def __get__(self, instance, owner=None):
            if instance is None or self.attrname in instance.__dict__:
                return super().__get__(instance, owner)
            with lock_of(instance):
                return super().__get__(instance, owner)


def lock_of(instance: Any) -> threading.RLock:
    """Return the lock under which the parts of an object are opened; one of them may need others."""
    lock: threading.RLock = instance.__dict__.setdefault("_opening", threading.RLock())
    return lock


class BackgroundService:
    """A daemon thread with an orderly end. Stopping it before it has started, or twice, has no effect."""

    name = "background"
    """Name of the thread, as shown in logs."""
    interval_s = 1.0
    """Seconds between the end of a round and the start of the next one."""
    first_at_once = False
    """Run the first round at the start instead of one interval later."""
    join_s = 5.0
    """Seconds that `stop` waits for the present round; 0: it does not wait."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def run_once(self) -> object:
        """Run one round."""
        raise NotImplementedError

    def until_next_s(self) -> float | None:
        """Return the seconds until the next round; None: until it is woken."""
        return self.interval_s

    def failed(self, error: Exception) -> float:
        """Log an error of a round; return the seconds until the next one."""
        logger.exception("a round of %s failed; the next one follows", self.name, exc_info=error)
        return self.interval_s

    def interrupt(self) -> None:
        """End a blocking round. `stop` calls this in its caller's thread."""

    def finish(self) -> None:
        """Release resources of the rounds. Called in the service's thread after the last round."""

    def start(self) -> None:
        """Start the thread unless it runs; after `stop`, start a new one."""
        if self.is_running and not self.stopping.is_set():
            return
        if self.stopping.is_set():
            # A new event: a former thread may not have seen the old one yet.
            self.stopping = threading.Event()
            self._wake.clear()
        self._thread = threading.Thread(
            target=self._repeat, args=(self.stopping,), name=self.name, daemon=True
        )
        self._thread.start()

    def start_unless_stopped(self) -> None:
        """Start the thread of a service that starts at its first use; its callers hold a lock of theirs."""
        if not self.stopping.is_set():
            self.start()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Start the next round now, or after the present one."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread after the present round, and wait for that up to `join_s`."""
        self.stopping.set()
        self._wake.set()
        self.interrupt()
        if self.join_s and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self.join_s)

    def guarded(self, action: Callable[[], object]) -> float:
        """Call an action and pass its errors to `failed`; return the seconds until the next round, 0 without
        an error.
        """
        try:
            action()
        except Exception as error:  # noqa: BLE001 -- no error may end the thread
            return self.failed(error)
        return 0.0

    def _repeat(self, stopping: threading.Event) -> None:
        if not self.first_at_once:
            self._wake.wait(self.until_next_s())
        while not stopping.is_set():
            self._wake.clear()  # before the round, so that a wake-up during it causes another one
            if pause_s := self.guarded(self.run_once):
                stopping.wait(pause_s)
            elif not stopping.is_set():
                self._wake.wait(self.until_next_s())
        self.guarded(self.finish)
