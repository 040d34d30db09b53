"""Starting the worker, Flower or the dashboard of this machine, or joining one that runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from coordination.backend.daemon import STOP_STEPS, Daemon, Record, Step, alive, wait_until
from coordination.errors import Unreachable

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 60.0


def join_or_start(
    daemon: Daemon,
    redis_url: str,
    *,
    launch: Callable[[], Record],
    answers: Callable[[Record], bool],
    title: str,
    instead: str = "",
    stop_steps: Sequence[Step] = STOP_STEPS,
    meanwhile: Callable[[], object] | None = None,
) -> Record:
    """Return the record of the process once it answers: of the running one if it serves this Redis, else of
    the one that `launch` starts. A running one that ends before it answers is replaced.

    `title` and `instead` (a command that does without it) are for messages. `meanwhile` is called while the
    process starts. Raises Unreachable if it ends or does not answer within START_TIMEOUT_S.
    """
    joined = daemon.running()
    if joined and joined.facts["redis"] != redis_url:
        daemon.stop(stop_steps)
        joined = None
    record = joined or launch()
    if meanwhile is not None:
        meanwhile()
    _wait(record, answers)
    if record is joined and not alive(record):
        record = launch()
        _wait(record, answers)
    if alive(record) and answers(record):
        return record
    without = f"; without it: {instead}" if instead else ""
    how = f"(pid {record.pid}) does not answer" if alive(record) else "ended while it started"
    raise Unreachable(
        f"{title} {how}:\n{daemon.log_tail()}",
        f"fix the error (more in {daemon.log}) and try again{without}",
    )


def _wait(record: Record, answers: Callable[[Record], bool]) -> None:
    wait_until(lambda: not alive(record) or answers(record), START_TIMEOUT_S)


def free_port(*preferred: int) -> int:
    """Return the first of these ports that is free on loopback, or any free port."""
    for port in (*preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unreachable("no port is free on loopback", "end processes that hold ports, then try again")
