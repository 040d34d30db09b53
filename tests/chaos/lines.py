"""Bad lines between workers and Redis: each kind is a phase under load, after which every worker must consume
again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.chaos.figures import Figures, spread
from tests.chaos.probes import PROBE_PLAN, Probes
from tests.chaos.proxy import Proxy
from tests.chaos.record import lines_of
from tests.chaos.workers import NO_POISON, Watch, WorkerGroup, begin, dag, ledger_of, straight
from tests.testbed import Testbed, temporary_testbed

FAULT = "bad lines to Redis"
DOES = (
    "a proxy before each of 4 workers: delays of 0.1 and 1.5 s, cuts, resets, half-open lines, an outage, "
    "dropped answers"
)
PATIENCE_S = 120


@dataclass(frozen=True, kw_only=True)
class Lines:
    workers: int = 4
    todos: int = 100
    repos: int = 10
    lasts_s: float = 0.2
    fault_s: float = 20
    """Duration of each phase: runs follow each other on bad connections, then the connection is good, and the
    last run must end.
    """
    lease: str = "15s"
    seed: int = 0
    phases: Sequence[str] = ()
    """All, where none is named."""


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return misbehave(testbed, Lines(seed=random.randrange(10**6)))


def misbehave(testbed: Testbed, how: Lines) -> Figures:
    chance = random.Random(how.seed)
    testbed.settings = {**NO_POISON, "lease_ttl": how.lease}
    probes = Probes(testbed, how.workers)
    testbed.write(
        [*dag(how.todos, how.repos, chance, env={"LASTS": str(how.lasts_s)}), *probes.todos],
        plans=[PROBE_PLAN],
    )
    url = testbed.server.start()
    upstream = urlsplit(url).path
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(upstream, how.seed + n)) for n in range(how.workers)]
        group = WorkerGroup(
            testbed,
            [proxy.url for proxy in proxies],
            served=probes.served([f"r{n:02}" for n in range(how.repos)]),
        )
        group.ready()
        trial = _Trial(testbed, url, proxies, chance, how.fault_s)
        wrong = []
        for phase in how.phases or PHASES:
            trial.suffer(phase)
            wrong += probes.look(url, time.time(), trial.swept) + trial.end(phase) + group.restart_ended()
    runs = sum(line.starts for line in lines_of(ledger_of(testbed)))
    did = ", ".join(
        f"{n} {what}"
        for what, n in sum((proxy.did for proxy in proxies), start=type(proxies[0].did)()).items()
    )
    todos = trial.runs * how.todos + len(how.phases or PHASES) * how.workers
    words = (
        f"{did}; {todos} todos, {runs} body runs; all workers consume again {spread(probes.after_s)}, "
        f"seed {how.seed}"
    )
    return Figures(measured=words, wrong=wrong, late=probes.late)


class _Trial:
    def __init__(
        self, testbed: Testbed, url: str, proxies: Sequence[Proxy], chance: random.Random, fault_s: float
    ) -> None:
        self._testbed, self._url, self._proxies, self._chance, self._fault_s = (
            testbed,
            url,
            proxies,
            chance,
            fault_s,
        )
        self._watch = Watch(testbed, straight(testbed))
        self.swept: list[str] = []
        self.runs = 0

    def suffer(self, name: str) -> None:
        """The lines are good again when it returns; the run is still under way."""
        over_at = time.monotonic() + self._fault_s
        self.swept = [begin(self._testbed, self._url)]
        meanwhile = PHASES[name](self)
        while time.monotonic() < over_at:
            meanwhile()
            if self._watch.over(self.swept[-1]):
                self.swept.append(begin(self._testbed, self._url))
            time.sleep(0.05)
        for proxy in self._proxies:
            proxy.passes()
        self.runs += len(self.swept)

    def end(self, name: str) -> list[str]:
        """Return the violations in the phase's runs."""
        wrong = self._watch.until_over(self.swept, PATIENCE_S)
        return [f"{name}: {words}" for words in wrong]

    def each(self, **faults: float | bool) -> None:
        for proxy in self._proxies:
            for fault, value in faults.items():
                setattr(proxy, fault, value)

    def anybody(self) -> Proxy:
        return self._chance.choice(self._proxies)

    def every(self, seconds: float, operation: Callable[[], None]) -> Callable[[], None]:
        due = time.monotonic()

        def meanwhile() -> None:
            nonlocal due
            if time.monotonic() >= due:
                operation()
                due = time.monotonic() + seconds

        return meanwhile

    def outage(self) -> Callable[[], None]:
        """Everybody's lines are dead, new ones too."""
        self.each(swallows=True)
        for proxy in self._proxies:
            proxy.swallow()
        return lambda: None


def _delayed(trial: _Trial, seconds: float) -> Callable[[], None]:
    trial.each(delay_s=seconds)
    return lambda: None


def _dropping(trial: _Trial) -> Callable[[], None]:
    trial.each(drops=0.02)
    return lambda: None


PHASES: dict[str, Callable[[_Trial], Callable[[], None]]] = {
    "delayed": lambda trial: _delayed(trial, 0.1),
    "slow": lambda trial: _delayed(trial, 1.5),
    "cut": lambda trial: trial.every(0.5, lambda: trial.anybody().cut()),
    "reset": lambda trial: trial.every(0.5, lambda: trial.anybody().reset()),
    "half-open": lambda trial: trial.every(3, lambda: trial.anybody().swallow()),
    "outage": lambda trial: trial.outage(),
    "answers dropped": _dropping,
}
