"""Checks that each worker consumes, and since when: each serves a repository of its own, and a plan has a
todo for each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from coordination.backend.keys import Keys
from tests.chaos.workers import ACTION, Watch, begin, straight, workers_of
from tests.testbed import Fields, Testbed

PROBE_PLAN = {"id": "PLAN-002", "title": "who consumes"}
CONSUME_WITHIN_S = 10.0
GIVEN_UP_AFTER_S = 90.0


class Probes:
    def __init__(self, testbed: Testbed, workers: int) -> None:
        self._testbed, self._workers = testbed, workers
        self._watch = Watch(testbed, straight(testbed))
        self.after_s: list[float] = []
        """How long after the fault was over each worker consumed."""
        self.late: list[str] = []

    @property
    def todos(self) -> list[Fields]:
        return [
            {"id": f"P{n}", "repo": f"p{n}", "plan": PROBE_PLAN["id"], "action": ACTION}
            for n in range(self._workers)
        ]

    def served(self, common: Sequence[str]) -> list[list[str]]:
        """The arguments of each worker."""
        return [
            [word for repo in (*common, f"p{n}") for word in ("--repo", repo)] for n in range(self._workers)
        ]

    def look(self, url: str, over_at_s: float, load: Sequence[str] = ()) -> list[str]:
        """Return the violations in the probes' run; `over_at_s`: when the fault was over, in seconds since
        1970.

        A worker consumes from when it starts a todo, its probe's or another one of the runs that are its
        `load`.
        """
        run = begin(self._testbed, url, str(PROBE_PLAN["id"]))
        deadline = time.monotonic() + GIVEN_UP_AFTER_S
        while not self._watch.over(run) and time.monotonic() < deadline:
            time.sleep(0.02)
        wrong = self._watch.judge(run)
        first_s = self._first_starts([run, *load], over_at_s)
        workers = self._watch.workers(run)
        for number in range(self._workers):
            after_s = first_s.get(workers.get(f"P{number}", ""), over_at_s + GIVEN_UP_AFTER_S) - over_at_s
            self.after_s.append(after_s)
            if after_s > CONSUME_WITHIN_S:
                self.late.append(f"{run}: worker {number} consumed {after_s:.1f} s after the fault was over")
        return wrong

    def _first_starts(self, runs: Sequence[str], since_s: float) -> dict[str, float]:
        """Worker → when it started its first todo since then."""
        found: dict[str, float] = {}
        with self._testbed.redis() as redis:
            for run in runs:
                facts = redis.hgetall(Keys("coord").run(run).facts)
                for todo, worker in workers_of(facts).items():
                    at_s = int(facts[f"{todo} started_at"]) / 1000
                    if at_s > since_s:
                        found[worker] = min(found.get(worker, at_s), at_s)
        return found
