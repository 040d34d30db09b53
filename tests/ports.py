"""Free ports of this machine."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from functools import cache
from itertools import islice

BELOW_EPHEMERAL = range(20_000, 32_000)
"""The kernel gives these to no connection, so a port stays free until the server that it is for binds it."""


@cache
def _candidates(_pid: int) -> Iterator[int]:
    """Yield ports in random order, none twice before all were yielded. Processes of pytest-xdist share none,
    so no two tests get the same one before either has bound it.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = BELOW_EPHEMERAL[number::processes]
    while True:
        yield from random.SystemRandom().sample(ports, len(ports))  # not of the seed that orders the tests


def free_port() -> int:
    for port in islice(_candidates(os.getpid()), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")
