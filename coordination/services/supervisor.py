"""The supervisor of this machine's services.

Its process is started as `python -m coordination.services.supervisor STATE`. It runs one thread for each
desired service and ends when none is desired. If it is killed, the services stay up, and the next supervisor
adopts them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

from coordination.environment import hide_process
from coordination.errors import CoordinationError
from coordination.services.host import (
    MOST_STOPPED,
    DesiredService,
    ServiceHost,
    ServiceState,
    ServiceStatus,
    Stamp,
)
from coordination.services.runner import Runner
from coordination.services.unit import UnitRunner

logger = logging.getLogger(__name__)

POLL_S = 0.03
"""Seconds between two checks for changes of the desired services."""


class Supervisor:
    """Runs the desired services of a host."""

    def __init__(self, host: ServiceHost) -> None:
        self._host = host
        self._runners: dict[str, Runner] = {}
        self._desired: Mapping[str, DesiredService] = {}
        self._stamp: Stamp = None
        """Stamp of the desired services that were read last."""
        self._states = {name: one for name, one in host.states().items() if one.state is ServiceState.STOPPED}
        self._written: dict[str, ServiceStatus] | None = None
        """The states in the file; None before the first report."""
        self._changed = Event()
        self._lock = threading.Lock()

    def round(self) -> bool:
        """Start and stop runners as desired, and report; return whether a service is desired or stopping."""
        stamp, _ = self._host.stamps()
        if stamp is None or stamp != self._stamp:  # the file is read only where it has changed
            self._desired, self._stamp = self._host.desired(), stamp
        desired = self._desired
        for name, runner in list(self._runners.items()):
            if name not in desired or desired[name].order != runner.desired.order:
                runner.stays = name in desired and _same_kind(desired[name], runner.desired)
                runner.stopping.set()
                runner.wake()
                if not runner.is_running:
                    del self._runners[name]
        for name, one in desired.items():
            if name not in self._runners:
                kind = UnitRunner if one.service.unit_file else Runner
                private = self._host.private(name)
                self._runners[name] = kind(one, self._host.daemon(name), private, self._take)
                self._runners[name].start()
        self._report()
        return bool(desired or self._runners)

    def leave(self) -> None:
        """End the threads; the services stay up."""
        for runner in self._runners.values():
            runner.stays = True
            runner.stop()

    def wait(self) -> None:
        """Wait until a state has changed, at most until the desired services are looked at again."""
        self._changed.wait(POLL_S)
        self._changed.clear()

    def _take(self, status: ServiceStatus) -> None:
        with self._lock:
            before = self._states.get(status.name)
            self._states[status.name] = status
        if before is None or before.state is not status.state:
            logger.info("%s: %s %s", status.name, status.state, status.why.partition("\n")[0])
        self._changed.set()

    def _report(self) -> None:
        with self._lock:
            down = [
                one
                for name, one in self._states.items()
                if one.state is ServiceState.STOPPED and name not in self._desired
            ]
            for one in sorted(down, key=lambda one: one.since)[:-MOST_STOPPED]:
                del self._states[one.name]
            states = dict(self._states)
        if states == self._written:
            return
        try:
            self._host.report(states)
            self._written = states
        except OSError as error:  # a full disk: the next round writes it
            logger.warning("states cannot be written: %s", error)


def _same_kind(one: DesiredService, before: DesiredService) -> bool:
    """Return whether the next runner replaces the process, so that the runner before need not stop it."""
    return one.service.unit_file == before.service.unit_file


def main(argv: list[str]) -> int:
    hide_process()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ended = Event()

    def end(*_: Any) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    host = ServiceHost(Path(argv[0]))
    if (bus := Path(f"/run/user/{os.getuid()}")).is_dir():
        os.environ.setdefault("XDG_RUNTIME_DIR", str(bus))  # cron and ssh set none, and systemctl needs it
    try:
        supervise(host, ended)
    except CoordinationError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


def supervise(host: ServiceHost, ended: Event) -> None:
    """Run the desired services until none is left, or until `ended` is set."""
    supervisor = Supervisor(host)
    try:
        while not ended.is_set():
            if not supervisor.round():
                with host.lock():  # callers add services under it, and see then that this process has ended
                    if not host.desired():
                        host.supervisor.forget()
                        return
            supervisor.wait()
    finally:
        supervisor.leave()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
