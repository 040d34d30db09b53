"""Continue parked todos of services: a start holds no slot while its probe has not passed.

Such a todo is parked with the wait reason `service`. The worker that parked it follows the states of its
machine's services and fires the todo when the start has come to its end; the next attempt finds the service
as it is. If the worker dies, the todo's timer fires it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from coordination.background import BackgroundService
from coordination.errors import CoordinationError
from coordination.services.host import ServiceHost, Stamp

LOOK_S = 0.03
"""Interval at which the file of states is looked at while a todo waits."""
IDLE_S = 60.0


class ServiceWaits(BackgroundService):
    name = "service-waits"
    interval_s = IDLE_S

    def __init__(self, host: ServiceHost, fire: Callable[[str, str], None]) -> None:
        """`fire` continues a parked todo of a run."""
        super().__init__()
        self._host = host
        self._fire = fire
        self._waits: dict[tuple[str, str], str] = {}
        self._seen: tuple[Stamp, Stamp] | None = None
        self._guard = threading.Lock()

    def add(self, run_id: str, todo_id: str, service: str) -> None:
        """Fire the todo when the start of the service has come to its end."""
        with self._guard:
            self._waits[run_id, todo_id] = service
            self._seen = None
        self.wake()

    def run_once(self) -> int:
        """Fire the todos whose services are up or failed; return how many."""
        with self._guard:
            waits, stamps = dict(self._waits), self._host.stamps()
            changed, self._seen = stamps != self._seen, stamps
        ended = [key for key, service in waits.items() if self._settled(service)] if changed else []
        for key in ended:
            with self._guard:
                self._waits.pop(key, None)
            self._fire(*key)
        self.interval_s = LOOK_S if len(waits) > len(ended) else IDLE_S
        return len(ended)

    def failed(self, error: Exception) -> float:
        """Look again later; where Redis is away, the timers fire what waits."""
        self._seen = None
        return super().failed(error)

    def _settled(self, service: str) -> bool:
        try:
            return self._host.settled(service) is not None
        except CoordinationError:  # the attempt tells it
            return True
