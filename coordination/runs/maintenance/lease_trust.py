"""Decide if an expired lease means that its worker has died.

An unreachable Redis does not mean that workers are dead. After an error, after a restart of the server, and
when its clock was set, no worker is declared lost until Redis has answered for one whole lease: by then every
living worker has renewed.
"""

from __future__ import annotations

import time
from datetime import timedelta


class LeaseTrust:
    def __init__(self, lease: timedelta) -> None:
        self._lease_s = lease.total_seconds()
        self._trusted_from_s = time.monotonic()

    @property
    def holds(self) -> bool:
        return time.monotonic() >= self._trusted_from_s

    def lose(self) -> None:
        """Trust leases again after the time of one lease."""
        self._trusted_from_s = time.monotonic() + self._lease_s

    def server_began(self, age_s: float) -> None:
        """Trust no lease before the server has run for the time of one lease; it has run for `age_s`."""
        self._trusted_from_s = max(self._trusted_from_s, time.monotonic() + self._lease_s - age_s)
