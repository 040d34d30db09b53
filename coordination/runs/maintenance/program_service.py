"""Base of the services that report the events of runs to a program of the user, in the maintenance leader."""

from __future__ import annotations

import logging
from datetime import timedelta

import redis

from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.events.stream import EventStream
from coordination.models import Command

TIMEOUT = timedelta(seconds=30)
"""Time limit of a call."""

logger = logging.getLogger(__name__)


class ProgramService(BackgroundService):
    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        command: Command,
        *,
        kill_grace: timedelta = timedelta(seconds=5),
        timeout: timedelta = TIMEOUT,
    ) -> None:
        """`kill_grace`: time between TERM and KILL."""
        super().__init__()
        self._redis, self._keys = client, keys
        self._stream = EventStream(client, keys.namespace)
        self._command = command
        self._grace, self._timeout = kill_grace, timeout

    def failed(self, error: Exception) -> float:
        if isinstance(error, redis.RedisError):
            logger.warning("%s: waits while Redis does not answer: %s", self.name, error)
            return self.interval_s
        return super().failed(error)
