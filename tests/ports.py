"""A port on this machine that nobody listens at."""

from __future__ import annotations

import random
import socket

BELOW_WHAT_THE_KERNEL_GIVES = range(20_000, 32_000)
"""One that the kernel chose could be given to any connection before the server that it is for is there."""


def free_port() -> int:
    # Not the order of tests' own seed.
    for port in random.SystemRandom().sample(BELOW_WHAT_THE_KERNEL_GIVES, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")
