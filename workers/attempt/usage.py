"""What the agents of an attempt have used so far, counted while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from coordination.runs.records import AgentUsage


class UsageMeter:
    """The use by one attempt. Its heartbeats and the ends of its rounds count it, so that a worker that is
    killed loses at most the use since the last heartbeat.
    """

    def __init__(self, count: Callable[[AgentUsage], bool]) -> None:
        """`count` replaces what is counted of the attempt; it returns whether the budget of its plan or of
        the day is used up.
        """
        self._count = count
        self._counting = threading.Lock()
        self._counted = AgentUsage()
        self.used = AgentUsage()
        """The use so far."""
        self.is_over = False
        """True if the budget of the plan or of the day was used up when it was counted last."""

    def count(self) -> None:
        """Count the use so far, if it has changed. Raises redis.RedisError."""
        with self._counting:
            used = self.used
            if used != self._counted:
                self.is_over = self._count(used)
                self._counted = used
