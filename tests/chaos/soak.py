"""Ten minutes of small runs that succeed, fail, are tried again, rolled back and approved, under mild faults:
what grows, and what does not.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean
from urllib.parse import urlsplit

from redis import Redis

from coordination.backend.keys import Keys
from coordination.models import Verdict
from coordination.runs.connection import Connection
from coordination.runs.control.approvals import decide
from coordination.settings import Settings
from tests.chaos.figures import Figures
from tests.chaos.ledger import UNDO
from tests.chaos.proxy import Proxy
from tests.chaos.workers import ACTION, NO_POISON, Watch, WorkerGroup, begin, ledger_of, straight
from tests.testbed import PLAN, Fields, Testbed, temporary_testbed
from tests.waiting import until

FAULT = "soak"
DOES = (
    "small runs one after the other: plain, retried, failed, rolled back, gated; "
    "one worker's lines are cut every 5 s, the other is killed every 20 s"
)
FLAT = 0.05
KEPT_S = 20
OF_RUNS = "coord:run:*"
HELD = ("keys", "keys_a_run", "rss_mb", "log_kb_a_run")
"""Figures that may grow by no more than that from the second fifth to the last."""
SLACK = {"keys": 5}
"""There are some 30, and who holds which lock just now makes two or three."""
CUT_EVERY_S, KILL_EVERY_S, SAMPLE_EVERY_S = 5.0, 20.0, 2.0
FAILED, UNDONE, GATED = "PLAN-002", "PLAN-003", "PLAN-004"
ENDS = {PLAN: "succeeded", FAILED: "failed", UNDONE: "rolled_back", GATED: "succeeded"}
"""How the run of each plan has to end."""
TWICE = {"attempts": 2, "delay": "50ms"}
PASSING = ("*celery-taskset-meta-*", "*:inbox-facts:worker:*")
"""Keys that are not counted: what Celery leaves of each level for 5 minutes, and the inbox of a worker that
was killed, for an hour.
"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    keys: float
    """Beside those of runs."""
    keys_a_run: float
    redis_mb: float
    rss_mb: float
    threads: float
    files: float
    aof_mb: float
    """Rewritten just before."""
    log_kb_a_run: float
    """KiB that the worker has logged for each run since the sample before."""


def main(minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return soak(testbed, 60 * minutes, random.randrange(10**6))


def soak(testbed: Testbed, seconds: float, seed: int) -> Figures:
    testbed.settings = {**NO_POISON, "keep_runs": f"{KEPT_S}s", "lease_ttl": "5s", "heartbeat": "1s"}
    testbed.write(list(_todos()), plans=list(_plans()))
    url = testbed.server.start()
    with Proxy(urlsplit(url).path, seed) as proxy:
        group = WorkerGroup(testbed, [proxy.url, url], jobs=4)
        group.ready()
        return _Soak(testbed, url, group, proxy, seed).run(seconds)


def _plans() -> Iterator[Fields]:
    yield {"id": FAILED, "title": "fails for good"}
    yield {"id": UNDONE, "title": "fails and is undone", "on_failure": "rollback"}
    yield {"id": GATED, "title": "waiting for approval"}


def _todos() -> Iterator[Fields]:
    """Three in a row for each plan, in two repositories; the last one is what the plan is about."""
    always, once = {"env": {"FAILS": "999"}}, {"env": {"FAILS": "1"}}
    undo = {"compensate": [*ACTION, UNDO], "workspace": "in-place"}
    for plan, last, more in (
        (PLAN, once, {}),
        (FAILED, always, {}),
        (UNDONE, always, undo),
        (GATED, {"gate": True}, {}),
    ):
        n = plan[-1]
        common = {"plan": plan, "action": ACTION, **more}
        yield {"id": f"A{n}", "repo": f"a{n}", **common}
        yield {"id": f"B{n}", "repo": f"b{n}", "blocked_by": [f"A{n}"], **common}
        yield {"id": f"C{n}", "repo": f"a{n}", "blocked_by": [f"B{n}"], "retry": TWICE, **common, **last}


class _Soak:
    def __init__(self, testbed: Testbed, url: str, group: WorkerGroup, proxy: Proxy, seed: int) -> None:
        self._testbed, self._url, self._group, self._proxy = testbed, url, group, proxy
        self._chance = random.Random(seed)
        self._seed = seed
        self._watch = Watch(testbed, straight(testbed))
        self._wrong: list[str] = []
        self._samples: list[Sample] = []
        self._ended: Counter[str] = Counter()
        self._logged = (len(group.workers[0].err), 0)
        """Length of the worker's log at the last sample, and the number of ended runs then."""
        self._cut_at = self._kill_at = self._sample_at = time.monotonic()

    def run(self, seconds: float) -> Figures:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            runs = {plan: begin(self._testbed, self._url, plan) for plan in ENDS}
            self._approve(runs[GATED])
            self._wrong += self._watch.until_over(list(runs.values()), 120, self._fate)
            for plan, run in runs.items():
                status = self._watch.ended_as.pop(run, "not ended")
                self._ended[status] += 1
                if status != ENDS[plan]:
                    self._wrong.append(f"{run}: {status}, to be {ENDS[plan]}")
            self._wrong += self._group.restart_ended()
            self._forget_the_ledger()
            self._sample()
        return self._figures(self._left())

    def _fate(self) -> None:
        now = time.monotonic()
        if now >= self._cut_at:
            self._chance.choice((self._proxy.cut, self._proxy.reset))()
            self._cut_at = now + CUT_EVERY_S
        if now >= self._kill_at:
            self._group.kill(1)
            self._kill_at = now + KILL_EVERY_S

    def _approve(self, run: str) -> None:
        todo, connection = f"C{GATED[-1]}", Connection(self._url, Settings())
        until(lambda: connection.redis.hget(connection.keys.run(run).state, todo) == "parked", 120)
        decide(connection, Verdict.APPROVE, todo, run)
        connection.close()

    def _forget_the_ledger(self) -> None:
        """Judged already: our own file is not to be what grows."""
        ledger_of(self._testbed).unlink()

    def _sample(self) -> None:
        if time.monotonic() < self._sample_at:
            return
        self._sample_at = time.monotonic() + SAMPLE_EVERY_S
        worker = self._group.workers[0]
        logged, ended = len(worker.err), self._ended.total()
        with self._testbed.redis() as redis:
            size = _rewritten(redis, self._testbed.state / "appendonlydir")
            self._samples.append(
                Sample(
                    keys=redis.dbsize() - sum(_count(redis, pattern) for pattern in (*PASSING, OF_RUNS)),
                    keys_a_run=_count(redis, OF_RUNS) / redis.zcard(Keys("coord").runs),
                    redis_mb=redis.info("memory")["used_memory"] / 1e6,
                    aof_mb=size / 1e6,
                    log_kb_a_run=(logged - self._logged[0]) / 1e3 / (ended - self._logged[1]),
                    **_of_process(worker.pid),
                )
            )
        self._logged = logged, ended

    def _left(self) -> list[str]:
        """Nothing may be left of runs that ended longer ago than they are kept."""
        with self._testbed.redis() as redis:
            until(lambda: redis.zcard(Keys("coord").runs) == 0, KEPT_S + 30)
            return [
                f"{key} is left of a run that was forgotten" for key in redis.scan_iter(OF_RUNS, count=1000)
            ]

    def _figures(self, left: list[str]) -> Figures:
        fifth = max(1, len(self._samples) // 5)
        early, late = _means(self._samples[fifth : 2 * fifth]), _means(self._samples[-fifth:])
        grown = {name: late[name] / early[name] for name in early if early[name]}
        words = ", ".join(
            f"{name} {early[name]:.4g} → {late[name]:.4g} ({ratio:.3f})" for name, ratio in grown.items()
        )
        ended = ", ".join(f"{n} {status}" for status, n in sorted(self._ended.items()))
        too_much = [
            f"{name} grew {grown[name]:.3f} times"
            for name in HELD
            if late[name] > early[name] * (1 + FLAT) + SLACK.get(name, 0)
        ]
        return Figures(
            measured=(
                f"{ended}; {self._group.killed} kills, {self._proxy.did.total()} connections cut; {words}, "
                f"seed {self._seed}"
            ),
            wrong=self._wrong,
            late=[*too_much, *left],
        )


def _count(redis: Redis, pattern: str) -> int:
    return sum(1 for _ in redis.scan_iter(pattern, count=1000))


def _rewritten(redis: Redis, folder: Path) -> int:
    """Bytes of the append-only file, once it holds nothing but what is there."""
    redis.bgrewriteaof()
    until(lambda: not redis.info("persistence")["aof_rewrite_in_progress"])
    return sum(file.stat().st_size for file in folder.iterdir())


def _of_process(pid: int) -> dict[str, float]:
    proc = Path(f"/proc/{pid}")
    lines = (line.split() for line in (proc / "status").read_text().splitlines())
    facts = {words[0]: words[1] for words in lines if len(words) > 1}
    return {
        "rss_mb": int(facts["VmRSS:"]) / 1000,
        "threads": int(facts["Threads:"]),
        "files": len(list((proc / "fd").iterdir())),
    }


def _means(samples: Sequence[Sample]) -> dict[str, float]:
    return {one.name: mean(getattr(sample, one.name) for sample in samples) for one in fields(Sample)}
