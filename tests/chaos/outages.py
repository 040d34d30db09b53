"""Outages under load: Redis is restarted or killed, or its lines misbehave; then every worker consumes."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from coordination.backend.daemon import Daemon
from coordination.backend.keys import Keys
from tests.chaos.figures import Figures, spread
from tests.chaos.proxy import Proxy
from tests.chaos.record import lines_of
from tests.chaos.workers import (
    ACTION,
    NO_POISON,
    Watch,
    WorkerGroup,
    begin,
    dag,
    ledger_of,
    straight,
    workers_of,
)
from tests.testbed import Fields, Testbed, temporary_testbed
from tests.waiting import until

PROBE_PLAN = {"id": "PLAN-002", "title": "who consumes"}
CONSUME_WITHIN_S = 10.0
GIVEN_UP_AFTER_S = 90.0
PATIENCE_S = 120


@dataclass(kw_only=True)
class Outages:
    """The frame: runs follow each other, faults happen, and after each one a probe shows who consumes.

    For the probe each worker serves a repository of its own; a second plan has a todo for each of them.
    """

    FAULT: ClassVar[str]
    DOES: ClassVar[str]

    workers: int = 4
    todos: int = 100
    repos: int = 10
    lasts_s: float = 0.2
    seed: int = 0

    def rage(self, testbed: Testbed) -> Figures:
        self.testbed, self.chance = testbed, random.Random(self.seed)
        self.did, self.runs, self.wrong = Counter[str](), list[str](), list[str]()
        self.after_s: list[float] = []
        """How long after its fault was over each worker consumed."""
        self._late: list[str] = []
        testbed.settings = self.settings()
        repos = [f"r{number:02}" for number in range(self.repos)]
        probes = [
            {"id": f"P{n}", "repo": f"p{n}", "plan": PROBE_PLAN["id"], "action": ACTION}
            for n in range(self.workers)
        ]
        load = dag(self.todos, self.repos, self.chance, env={"LASTS": str(self.lasts_s)})
        testbed.write([*load, *probes], plans=[PROBE_PLAN])
        self.url = testbed.server.start()
        self.watch = Watch(testbed, straight(testbed))
        with self.lines() as urls:
            options = [option for repo in repos for option in ("--repo", repo)]
            served = [[*options, "--repo", f"p{n}"] for n in range(self.workers)]
            group = WorkerGroup(testbed, urls, served=served)
            group.ready()
            for _ in self.faults():
                self.wrong += self._probe(time.time()) + group.restart_ended()
            self.wrong += self.ended()
        starts = sum(line.starts for line in lines_of(ledger_of(testbed)))
        did = ", ".join(f"{n} {what}" for what, n in self.did.items())
        words = (
            f"{did}, {starts} body runs; all workers consume again {spread(self.after_s)}, seed {self.seed}"
        )
        return Figures(measured=words, wrong=self.wrong, late=self._late)

    def settings(self) -> Fields:
        return {}

    @contextmanager
    def lines(self) -> Iterator[list[str]]:
        """Yield the address of Redis for each worker."""
        yield [self.url] * self.workers

    def faults(self) -> Iterator[None]:
        """Yield when a fault is over."""
        raise NotImplementedError

    def load(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Let runs follow each other for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.runs or self.watch.over(self.runs[-1]):
                strategy = ("levels", "dataflow", "auto")[self.did["runs"] % 3]
                self.runs.append(begin(self.testbed, self.url, strategy=strategy))
                self.did["runs"] += 1
            meanwhile()
            time.sleep(0.05)

    def ended(self) -> list[str]:
        """Wait for the end of all runs. Return their violations."""
        runs, self.runs = self.runs, []
        return self.watch.until_over(runs, PATIENCE_S)

    def _probe(self, over_at_s: float) -> list[str]:
        """Return the violations in the run of the probes; `over_at_s`: the end of the fault, since 1970.

        A worker consumes from when it starts a todo, its probe's or one of the last two runs of the load.
        """
        run = begin(self.testbed, self.url, PROBE_PLAN["id"])
        deadline = time.monotonic() + GIVEN_UP_AFTER_S
        while not self.watch.over(run) and time.monotonic() < deadline:
            time.sleep(0.02)
        wrong, workers = self.watch.judge(run), self.watch.workers(run)
        first_s = self._first_starts([run, *self.runs[-2:]], over_at_s)
        for number in range(self.workers):
            after_s = first_s.get(workers.get(f"P{number}", ""), over_at_s + GIVEN_UP_AFTER_S) - over_at_s
            self.after_s.append(after_s)
            if after_s > CONSUME_WITHIN_S:
                self._late.append(f"{run}: worker {number} consumed {after_s:.1f} s after the fault was over")
        return wrong

    def _first_starts(self, runs: Sequence[str], since_s: float) -> dict[str, float]:
        """Return when each worker started its first todo since then."""
        found: dict[str, float] = {}
        with self.testbed.redis() as redis:
            for run in runs:
                facts = redis.hgetall(Keys("coord").run(run).facts)
                for todo, worker in workers_of(facts).items():
                    at_s = int(facts[f"{todo} started_at"]) / 1000
                    if at_s > since_s:
                        found[worker] = min(found.get(worker, at_s), at_s)
        return found


@dataclass(kw_only=True)
class Restarts(Outages):
    FAULT = "Redis restarted or killed"
    DOES = (
        "every 5 to 40 s SIGTERM or SIGKILL to Redis, which is away for up to 5 s; "
        "load on 4 workers all the time"
    )

    seconds: float
    every_s: tuple[float, float] = (5, 40)
    away_s: tuple[float, float] = (0, 5)
    todos: int = 120
    repos: int = 12
    lasts_s: float = 0.3

    @classmethod
    def main(cls, minutes: float) -> Figures:
        with temporary_testbed() as testbed:
            return cls(seconds=60 * minutes, seed=random.randrange(10**6)).rage(testbed)

    def faults(self) -> Iterator[None]:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.load(self.chance.uniform(*self.every_s))
            number = (signal.SIGTERM, signal.SIGKILL)[self.did["SIGTERM"] > self.did["SIGKILL"]]
            os.kill(self.testbed.daemon("server").pid, number)
            until(lambda: Daemon(self.testbed.state, "server").running() is None)
            time.sleep(self.chance.uniform(*self.away_s))
            self.testbed.server.start()
            self.did[number.name] += 1
            yield


@dataclass(kw_only=True)
class Lines(Outages):
    FAULT = "bad lines to Redis"
    DOES = (
        "a proxy before each of 4 workers: delays of 0.1 and 1.5 s, cuts, resets, half-open lines, "
        "an outage, dropped answers"
    )

    fault_s: float = 20
    """Duration of each phase; then the lines are good again, and its runs must end."""
    lease: str = "15s"

    @classmethod
    def main(cls, _minutes: float) -> Figures:
        with temporary_testbed() as testbed:
            return cls(seed=random.randrange(10**6)).rage(testbed)

    def settings(self) -> Fields:
        return {**NO_POISON, "lease_ttl": self.lease}

    @contextmanager
    def lines(self) -> Iterator[list[str]]:
        upstream = urlsplit(self.url).path
        with ExitStack() as stack:
            self._proxies = [stack.enter_context(Proxy(upstream, self.seed + n)) for n in range(self.workers)]
            yield [proxy.url for proxy in self._proxies]
            self.did.update(sum((proxy.did for proxy in self._proxies), start=Counter[str]()))

    def faults(self) -> Iterator[None]:
        for name, phase in PHASES.items():
            self.load(self.fault_s, phase(self))
            for proxy in self._proxies:
                proxy.passes()
            yield
            self.wrong += [f"{name}: {words}" for words in self.ended()]

    def each(self, **faults: float | bool) -> Callable[[], None]:
        for proxy in self._proxies:
            for fault, value in faults.items():
                setattr(proxy, fault, value)
        return lambda: None

    def every(self, seconds: float, operation: Callable[[Proxy], None]) -> Callable[[], None]:
        due = time.monotonic()

        def meanwhile() -> None:
            nonlocal due
            if time.monotonic() >= due:
                operation(self.chance.choice(self._proxies))
                due = time.monotonic() + seconds

        return meanwhile

    def outage(self) -> Callable[[], None]:
        """All lines are dead, new ones too."""
        for proxy in self._proxies:
            proxy.swallow()
        return self.each(swallows=True)


PHASES: dict[str, Callable[[Lines], Callable[[], None]]] = {
    "delayed": lambda lines: lines.each(delay_s=0.1),
    "slow": lambda lines: lines.each(delay_s=1.5),
    "cut": lambda lines: lines.every(0.5, Proxy.cut),
    "reset": lambda lines: lines.every(0.5, Proxy.reset),
    "half-open": lambda lines: lines.every(3, Proxy.swallow),
    "outage": Lines.outage,
    "answers dropped": lambda lines: lines.each(drops=0.02),
}
