"""Measures services and health: `python -m benchmarks.services [--rounds N] [--seconds N] [--json [FILE]]`.

    python -m benchmarks.services --short    # seconds, to see that it runs

* Start-up: 30 services, each of which is ready some time after its start, in a graph of six levels, with two
  slots of the worker. The duration of the run, to the critical path: the longest sum of these times.
* A killed service: from SIGKILL until its supervisor has seen the end, and until its probe passes again.
* Health: the monitor over 500 repositories with their remotes: a round in which all subjects are looked at,
  and the processor time of its rounds on average, of one core.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.report import Report, parser, report
from benchmarks.testbed import Testbed, testbed
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.backend.keys import Keys
from coordination.breakers.manager import BreakerManager
from coordination.events.stream import EventStream
from coordination.health.facts import FactSource
from coordination.health.monitor import TICK_S, HealthMonitor
from coordination.health.records import Health
from coordination.health.recovery import RecoveryRuns
from coordination.health.store import HealthStore, RemoteReport
from coordination.locks import LockManager
from coordination.models import Ecosystem, Repo
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.services.host import ServiceHost, ServiceState
from coordination.settings import Settings

SHORT = {"rounds": 1, "seconds": 2}
LEVELS, WIDTH, REPOS = 6, 5, ("a", "b", "c")
SLOTS = "2"
START_GOAL, ROUND_S, CORE_PERCENT = 1.2, 5.0, 5.0
SUBJECTS = 500
ARRIVES_S = 60.0


class Services:
    """The services of a graph, each with the time until it is ready."""

    def __init__(self, place: Testbed, seed: int = 1) -> None:
        self._place = place
        draw = random.Random(seed)
        self.ready_s = {self._name(n): round(draw.uniform(0.5, 2.0), 2) for n in range(LEVELS * WIDTH)}
        self.needs = {
            self._name(n): sorted(self._name(m) for m in draw.sample(self._level(n // WIDTH - 1), 2))
            for n in range(WIDTH, LEVELS * WIDTH)
        }

    @staticmethod
    def _name(number: int) -> str:
        return f"s{number:02}"

    @staticmethod
    def _level(level: int) -> range:
        return range(level * WIDTH, (level + 1) * WIDTH)

    def declare(self) -> None:
        self._place.plant(REPOS)
        rows = [self._row(n, name) for n, name in enumerate(self.ready_s)]
        file = {"repos": [{"name": one, "path": one} for one in REPOS], "coordination": {"services": rows}}
        self._place.file.write_text(yaml.safe_dump(file, sort_keys=False))

    def _row(self, number: int, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "repo": REPOS[number % len(REPOS)],
            "command": f"sleep {self.ready_s[name]}; touch up.{name}; exec sleep 3600",
            "depends_on": self.needs.get(name, []),
            "probe": {"file": {"path": f"up.{name}", "max_age": "1h"}},
        }

    @property
    def critical_path_s(self) -> float:
        ends: dict[str, float] = {}
        for name, ready_s in self.ready_s.items():
            ends[name] = ready_s + max((ends[one] for one in self.needs.get(name, ())), default=0.0)
        return max(ends.values())

    def start_s(self) -> float:
        """Return the duration of a start of all, which are stopped again."""
        for mark in self._place.folder.glob("*/up.*"):
            mark.unlink()
        took: float = self._place.ask("service", "start")["total_s"]
        self._place.coord("service", "stop")
        return took


def measure_start(rows: Report, rounds: int) -> None:
    with testbed() as place:
        place._env["COORD_JOBS"] = SLOTS
        services = Services(place)
        services.declare()
        place.coord("up", "--detach", "--no-flower", "--no-dashboard")
        place.coord("service", "stop")
        took = [services.start_s() for _ in range(rounds)]
        path_s = services.critical_path_s
        beside = f"{min(took):.2f} s; {path_s:.2f} s; median {median(took) / path_s:.2f} of {rounds}"
        rows.add(
            f"start of {LEVELS * WIDTH} services, to its critical path", min(took) / path_s, "x",
            at_most=START_GOAL, beside=beside,
        )  # fmt: skip


def measure_restart(rows: Report, rounds: int) -> None:
    """Kill a service whose probe passes at once, and follow the states that its supervisor reports."""
    with testbed() as place:
        services = Services(place)
        services.ready_s = {"s00": 0.0}
        services.needs = {}
        services.declare()
        place.coord("service", "start")
        host = ServiceHost(place.state)
        seen, back = [], []
        for number in range(1, min(rounds, 3) + 1):  # later ones wait before they start again
            pid = host.states()["s00"].pid
            assert pid
            begin = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            seen.append(_until(lambda n=number: host.states()["s00"].restarts == n, begin))
            back.append(_until(lambda: host.states()["s00"].state is ServiceState.HEALTHY, begin))
        rows.add("killed service: its end is seen, best", 1000 * min(seen), "ms")
        rows.add("killed service: up again, best", 1000 * min(back), "ms", beside=f"of {len(back)}")
        place.coord("service", "stop")


def _until(condition: Any, begin: float) -> float:
    while not condition():
        if time.perf_counter() - begin > ARRIVES_S:
            raise SystemExit("the service has not come back")
        time.sleep(0.002)
    return time.perf_counter() - begin


class NoRecoveries(RecoveryRuns):
    """Nothing fails here."""

    def __init__(self) -> None: ...

    def begin(self, record: Health) -> str:
        raise AssertionError(record)

    def outcome(self, run: str) -> str | None:
        raise AssertionError(run)

    def cancel(self, run: str) -> None: ...

    def tell(self, record: Health) -> None: ...


def measure_health(rows: Report, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        server = EmbeddedServer(Path(folder), Settings())
        redis = connect(server.start(), Profile.COMMAND)
        try:
            monitor = _monitor(redis, Keys("bench"))
            monitor.run_once()  # takes the lock, and spreads the first looks
            for record in monitor._table.records.values():
                monitor._table._records[record.id] = record.model_copy(update={"next_look": 0.0})
            monitor._gather_at = 0.0
            begin = time.perf_counter()
            looked_at = monitor.run_once().looked_at
            took_s = time.perf_counter() - begin
            rows.add(
                f"health round of {SUBJECTS} repositories", took_s, "s", at_most=ROUND_S,
                beside=f"{looked_at} subjects at once",
            )  # fmt: skip
            cpu, begin = time.process_time(), time.perf_counter()
            while time.perf_counter() - begin < seconds:
                monitor.run_once()
                time.sleep(TICK_S)
            percent = 100 * (time.process_time() - cpu) / (time.perf_counter() - begin)
            rows.add(
                "health monitor, of one core", percent, "%", at_most=CORE_PERCENT, beside=f"in {seconds:g} s"
            )
        finally:
            redis.close()
            server.stop()


def _monitor(redis: Any, keys: Keys) -> HealthMonitor:
    names = [f"repo-{n:03}" for n in range(SUBJECTS)]
    declared = Ecosystem(repos=tuple(Repo(name=one, url=f"https://example.org/{one}") for one in names))
    store, now = HealthStore(redis, keys), time.time()
    worker = Worker(id="w@h", host="h", pid=1, version="1", repos=tuple(names), jobs=2)
    WorkerRegistry(redis, keys).say(worker, int(now * 1000), timedelta(hours=1))
    for one in names:
        store.report_remote(RemoteReport(repo=one, host="h", at=now, healthy=True, latency_s=0.1))
    return HealthMonitor(
        store,
        FactSource(redis, keys, lambda: declared, lambda: ()),
        EventStream(redis, keys.namespace),
        LockManager(redis, keys.namespace),
        BreakerManager(redis, keys.namespace),
        NoRecoveries(),
        label="bench",
        lease=timedelta(seconds=15),
    )


def main(options: argparse.Namespace) -> None:
    with report("services", options) as rows:
        measure_health(rows, options.seconds)
        measure_restart(rows, options.rounds)
        measure_start(rows, options.rounds)


if __name__ == "__main__":
    asked = parser(__doc__, "services")
    asked.add_argument("--rounds", type=int, default=3, metavar="N", help="starts, and kills")
    asked.add_argument("--seconds", type=float, default=60, metavar="N", help="rounds of the health monitor")
    given = asked.parse_args()
    if given.short:
        vars(given).update(SHORT)
    main(given)
