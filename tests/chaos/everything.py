"""Everything of the machine is killed at once, server, workers and who watches, and started again as anybody
would: `coord up`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from coordination.backend.daemon import Daemon
from tests.chaos.figures import Figures, spread
from tests.chaos.record import lines_of, record
from tests.chaos.workers import NO_POISON, WORKER, Watch, begin, dag, ledger_of, straight
from tests.testbed import Begun, Fields, Testbed, temporary_testbed
from tests.waiting import until

FAULT = "everything killed"
DOES = (
    "SIGKILL to supervisor, server, all workers and the command at once, 20 times at random moments; "
    "then coord up"
)
RESUMES_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Everything:
    kills: int = 20
    todos: int = 150
    repos: int = 12
    lasts_s: float = 0.5
    runs_for_s: tuple[float, float] = (1, 8)
    """Between a resumption and the next kill."""
    settings: Fields = field(default_factory=dict)
    seed: int = 0


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return end_all(testbed, Everything(seed=random.randrange(10**6)))


def end_all(testbed: Testbed, how: Everything) -> Figures:
    chance = random.Random(how.seed)
    testbed.settings = {**NO_POISON, **how.settings}
    trial = _Trial(testbed, dag(how.todos, how.repos, chance, env={"LASTS": str(how.lasts_s)}))
    trial.start()
    wrong: list[str] = []
    runs: list[str] = []
    for number in count():
        if not runs or trial.watch.over(runs[-1]):
            if number >= how.kills:
                break
            runs.append(trial.sweep())
        time.sleep(chance.uniform(*how.runs_for_s))
        if number < how.kills:
            trial.kill()
            trial.resume(runs[-1])
    wrong += [words for run in runs for words in trial.watch.judge(run)]
    starts = [line for line in lines_of(ledger_of(testbed)) if line.starts]
    words = (
        f"{how.kills} kills, {len(runs) * how.todos} todos, {len(starts)} body runs; "
        f"resumes {spread(trial.resumed_s)} after coord up was called, seed {how.seed}"
    )
    return Figures(measured=words, wrong=wrong, late=trial.late)


class _Trial:
    def __init__(self, testbed: Testbed, todos: Sequence[Fields]) -> None:
        testbed.write(todos)
        self._testbed, self._todos = testbed, todos
        self.watch = Watch(testbed, straight(testbed))
        self.resumed_s: list[float] = []
        self.late: list[str] = []
        self._second: Begun | None = None
        self._watcher: Begun | None = None

    def start(self) -> None:
        """The worker that `up` starts, and a second one; both at half of the machine's todos."""
        self._testbed.ok("up", "--detach", "--no-flower", "--no-dashboard", "--jobs", "4")
        url = str(self._testbed.server.url)
        self._second = self._testbed.begin("--all", "--jobs", "4", command=WORKER, COORD_REDIS_URL=url)

    def sweep(self) -> str:
        # The command that watched a run to its end has marked them as completed.
        self._testbed.write(self._todos)
        run = begin(self._testbed, str(self._testbed.server.url))
        self._watcher = self._testbed.begin("watch", run)
        return run

    def kill(self) -> None:
        records = [Daemon(self._testbed.state, name).running() for name in ("supervisor", "server", "worker")]
        pids = [record.pid for record in records if record]
        pids += [
            process.pid for process in (self._second, self._watcher) if process and process.poll() is None
        ]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in (self._second, self._watcher):
            if process:
                process.wait()
                self._testbed.started.remove(process)
                process.forget()
        until(
            lambda: all(Daemon(self._testbed.state, name).running() is None for name in ("server", "worker"))
        )

    def resume(self, run: str) -> None:
        """How long it takes, from the call of `coord up`, to the first todo that starts or ends."""
        called_s = time.time()
        self.start()
        self._watcher = self._testbed.begin("watch", run)
        until(lambda: self._moved(run, called_s) is not None or self.watch.over(run))
        moved_s = self._moved(run, called_s)
        if moved_s is None:  # it had ended
            return
        self.resumed_s.append(moved_s - called_s)
        if moved_s - called_s > RESUMES_WITHIN_S:
            self.late.append(f"{run}: resumed {moved_s - called_s:.1f} s after coord up was called")

    def _moved(self, run: str, since_s: float) -> float | None:
        with self._testbed.redis() as redis:
            events = record(redis, run).events
        moves = ("todo.running", "todo.succeeded", "run.ended")
        return next((e.at_ms / 1000 for e in events if e.what in moves and e.at_ms / 1000 > since_s), None)
