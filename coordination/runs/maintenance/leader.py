"""Leadership of maintenance: the lock, and what runs only in the process that holds it.

Every worker runs a `MaintenanceLeader`; the one that holds the lock `keeper` leads. It runs the rounds of
maintenance (`rounds.py`) and starts the leader's services. It stops them when it stops or has lost the lock.
Two workers that lead at once (the lock's holder was frozen) only repeat idempotent steps.

* The leader is killed: its lock ends after `LEAD_TTL`, and the next worker that asks for it leads.
* The leader hangs: each round renews the lock, not a thread, so the lock ends as well.
* Redis does not answer: the leader stays the leader until Redis says that another worker is.
* The rounds or services of the leader cannot be made (no memory, another version of coord was installed over
  the running one): the worker gives the lock back, so that another one can lead, and tries again later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from coordination.backend.key_table import is_wrong_type
from coordination.backend.keys import lock
from coordination.background import BackgroundService
from coordination.durations import ms
from coordination.errors import LockError, Unreachable
from coordination.locks import Lock, LockManager
from coordination.locks.request import LEADER
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.clock import ClockWatch
from coordination.runs.maintenance.lease_trust import LeaseTrust
from coordination.runs.maintenance.mending import KeyMender
from coordination.runs.store import RunStore
from coordination.settings import Settings

if TYPE_CHECKING:
    from coordination.runs.maintenance.rounds import MaintenanceReport, MaintenanceRounds

TICK_S = 0.5
LEAD_TTL = timedelta(seconds=2)
TRY_AGAIN_S = 5.0
"""Seconds until a worker that could not begin to lead tries again."""

logger = logging.getLogger(__name__)


class MaintenanceLeader(BackgroundService):
    """Asks for the leader's lock in each round, and leads while it holds it."""

    name = "maintenance"
    interval_s = TICK_S
    first_at_once = True
    join_s = 20.0
    """The services of the leader stop first, one after the other, each within its own limit."""

    def __init__(
        self,
        store: RunStore,
        dispatcher: Dispatcher,
        settings: Settings,
        *,
        label: str,
        state: Path | None = None,
        services: Callable[[], Iterable[BackgroundService]] = tuple,
    ) -> None:
        """`services` makes the services that run only in the leader; it is called at each beginning of a
        leadership.
        """
        super().__init__()
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._label = label
        self._state = state
        self._make_services = services
        self._clock = ClockWatch(store, settings)
        self._trust = LeaseTrust(settings.lease_ttl)
        self._mender = KeyMender(store)
        self._locks = LockManager(store.redis, store.keys.namespace)
        self._lock: Lock | None = None
        self._rounds: MaintenanceRounds | None = None
        self._services: tuple[BackgroundService, ...] = ()

    @property
    def leads(self) -> bool:
        """Return whether this worker led in its last round."""
        return self._rounds is not None

    def run_once(self) -> MaintenanceReport | None:
        """Do one round if this worker leads; return what it did, None if another worker leads."""
        if self._clock.look() is not None:
            self._trust.lose()
        if not self._holds_lock():
            self._end()
            return None
        if self._rounds is None and not self._begin():
            return None
        assert self._rounds is not None
        return self._rounds.run_once()

    def _begin(self) -> bool:
        """Begin to lead; return whether that was possible."""
        try:
            from coordination.runs.maintenance.rounds import MaintenanceRounds  # 60 modules that others spare

            self._services = tuple(self._make_services())
            for service in self._services:
                service.start()
            self._rounds = MaintenanceRounds(
                self._store,
                self._dispatcher,
                self._settings,
                state=self._state,
                clock=self._clock,
                trust=self._trust,
                mender=self._mender,
            )
        except Exception:
            logger.exception("this worker cannot lead the maintenance; another one may")
            self._end()
            self._release()
            self.stopping.wait(TRY_AGAIN_S)
            return False
        logger.info("this worker leads the maintenance")
        return True

    def _end(self) -> None:
        """Stop what only the leader runs."""
        if self._rounds is not None:
            logger.info("this worker does not lead the maintenance any more")
        services, self._services, self._rounds = self._services, (), None
        for service in reversed(services):
            service.stop()

    def _holds_lock(self) -> bool:
        if self._lock is not None and self._lock.renew():
            return True
        try:
            self._lock = self._locks.acquire(
                LEADER, ttl=LEAD_TTL, wait=timedelta(0), owner=self._label, keep=False
            )
        except LockError:
            self._lock = None
            self._shorten_lead()
        return self._lock is not None

    def _shorten_lead(self) -> None:
        """Shorten the lock of a leader that died before the clock was set back: Redis would keep it for the
        size of the step.
        """
        held = self._store.keys.locks.holder(lock(LEADER))
        if self._clock.was_set_back and self._store.redis.pttl(held) > ms(LEAD_TTL):
            self._store.redis.pexpire(held, LEAD_TTL)

    def _release(self) -> None:
        if self._lock is not None:
            with suppress(LockError):  # this process slept, and another worker leads
                self._lock.release()
            self._lock = None

    def finish(self) -> None:
        self._end()
        self._release()

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError | Unreachable):
            return super().failed(error)
        if is_wrong_type(error):
            self.guarded(self._mender.run_when_due)
        else:
            logger.warning("Redis does not answer the maintenance leader: %s", error)
            self._trust.lose()
        return self.interval_s
