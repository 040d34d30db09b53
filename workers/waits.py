"""Fire parked todos early; each lost wake-up costs a few seconds and nothing else.

* `ServiceWaits` fires a todo as soon as the start of its service has ended (wait reason `service`).
* `RequestWaits` fires a todo as soon as `coord gateway` passes on a webhook of its repository (wait reason
  `request`). The worker that parked a todo keeps its wait in memory. If that worker dies, or no news arrives,
  the timer of the todo fires it.

The thread of each starts when the first todo waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from coordination.background import BackgroundService
from coordination.errors import CoordinationError
from coordination.forges.webhooks import RequestNews
from coordination.services.host import ServiceHost, Stamp
from workers.outcome import AwaitedRequest

LOOK_S = 0.03
"""Interval between two looks at the services' states while a todo waits."""
IDLE_S = 60.0
PAUSE_S = 2.0
"""The shortest time between two looks at a request: a forge sends news of each check and each comment."""
WAITS_KEPT = 10_000
"""The most waits, and the most news, in memory."""

logger = logging.getLogger(__name__)


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
        """Fire the todo when the start of the service has ended."""
        with self._guard:
            self._waits[run_id, todo_id] = service
            self._seen = None
            self.start_unless_stopped()
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
        """Look again later; while Redis is away, nothing is lost: the timers fire the waiting todos."""
        self._seen = None
        return super().failed(error)

    def _settled(self, service: str) -> bool:
        try:
            return self._host.settled(service) is not None
        except CoordinationError:  # the attempt will report it
            return True


@dataclass(frozen=True, kw_only=True)
class _Wait:
    repo: str
    request: AwaitedRequest
    due: float | None = None
    """The earliest time to fire the todo; None while there is no news."""


class RequestWaits(BackgroundService):
    name = "request-waits"
    interval_s = IDLE_S

    def __init__(self, fire: Callable[[str, str], None], may_look: Callable[[str], bool]) -> None:
        """`fire` continues a parked todo of a run. `may_look` returns whether the budget of a host allows
        another look, and counts it.
        """
        super().__init__()
        self._fire = fire
        self._may_look = may_look
        self._waits: dict[tuple[str, str], _Wait] = {}
        self._news: dict[RequestNews, float] = {}
        """News → the time at which they arrived, the oldest first."""
        self._guard = threading.Lock()

    def add(self, run_id: str, todo_id: str, repo: str, request: AwaitedRequest) -> None:
        """Fire the todo at the next news of its repository, also at news that came since its look began."""
        with self._guard:
            missed = any(
                at >= request.looked_at and news.is_about(repo, request.address)
                for news, at in self._news.items()
            )
            due = request.looked_at + PAUSE_S if missed else None
            self._waits[run_id, todo_id] = _Wait(repo=repo, request=request, due=due)
            _forget_oldest(self._waits)
            self.start_unless_stopped()
        if missed:
            self.wake()

    def forget(self, run_id: str, todo_id: str) -> None:
        """Forget the wait of a todo that has been executed since."""
        with self._guard:
            self._waits.pop((run_id, todo_id), None)

    def hear(self, payload: Any) -> None:
        """Record the payload of a message that announces news."""
        try:
            news = RequestNews.model_validate(payload)
        except ValidationError as error:
            logger.warning("news of a forge that cannot be read: %s", error.errors()[0]["msg"])
            return
        now = time.monotonic()
        with self._guard:
            self._news.pop(news, None)
            self._news[news] = now
            _forget_oldest(self._news)
            for key, wait in self._waits.items():
                if wait.due is None and news.is_about(wait.repo, wait.request.address):
                    due = max(now, wait.request.looked_at + PAUSE_S)
                    self._waits[key] = _Wait(repo=wait.repo, request=wait.request, due=due)
        self.wake()

    def run_once(self) -> int:
        """Fire the todos with news; return how many."""
        now = time.monotonic()
        with self._guard:
            due = [key for key, wait in self._waits.items() if wait.due is not None and wait.due <= now]
            hosts = [self._waits.pop(key).request.address.api_host for key in due]
            later = [wait.due - now for wait in self._waits.values() if wait.due is not None]
        self.interval_s = min([IDLE_S, *later])
        fired = 0
        for key, host in zip(due, hosts, strict=True):
            if self._may_look(host):
                self._fire(*key)
                fired += 1
        return fired


def _forget_oldest(known: dict[Any, Any]) -> None:
    """Keep the newest entries: anyone who writes to Redis can add some. A forgotten todo waits for its
    timer.
    """
    while len(known) > WAITS_KEPT:
        del known[next(iter(known))]
