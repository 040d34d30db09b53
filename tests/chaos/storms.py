"""Storms: a fault strikes again and again while workers execute one run, which must end right."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from coordination.backend.daemon import Daemon
from coordination.backend.keys import Keys
from tests.chaos.figures import Figures
from tests.chaos.ledger import BODY, after_a_restore
from tests.chaos.record import lines_of, record
from tests.chaos.workers import NO_POISON, POLL_S, Watch, WorkerGroup, begin, dag, ledger_of, straight
from tests.disks import fill
from tests.testbed import Fields, Testbed, temporary_testbed
from tests.waiting import until


@dataclass(kw_only=True)
class Storm:
    """The frame: random todos, workers, one run, strikes until it ends, and the verdict of the ledger."""

    FAULT: ClassVar[str]
    DOES: ClassVar[str]
    SETTINGS: ClassVar[Fields] = {}

    todos: int = 200
    repos: int = 20
    workers: int = 4
    every_s: float = 1.0
    strikes: float = inf
    """At most."""
    lasts_s: float = 0.2
    lease: str = "5s"
    strategy: str = "dataflow"
    seed: int = 0
    patience_s: float = 1200

    @classmethod
    def main(cls, _minutes: float) -> Figures:
        with temporary_testbed() as testbed:
            return cls(seed=random.randrange(10**6)).rage(testbed)

    def rage(self, testbed: Testbed) -> Figures:
        self.testbed, self.chance, self.struck = testbed, random.Random(self.seed), 0
        testbed.settings = {**NO_POISON, "lease_ttl": self.lease, **self.SETTINGS}
        with self.place() as unfit:
            return Figures(measured=f"not at all: {unfit}") if unfit else self._rage()

    def _rage(self) -> Figures:
        self.write(dag(self.todos, self.repos, self.chance, env={"LASTS": str(self.lasts_s)}))
        url = self.testbed.server.start()
        self.group = WorkerGroup(self.testbed, [url] * self.workers)
        self.group.ready()
        self.watch = Watch(self.testbed, straight(self.testbed))
        began, wrong = time.monotonic(), []
        run, due = begin(self.testbed, url, strategy=self.strategy), began + self.every_s
        while not self.watch.over(run) and time.monotonic() < began + self.patience_s:
            if time.monotonic() >= due and self.struck < self.strikes:
                self.struck += self.strike()
                due = time.monotonic() + self.every_s
            wrong += self.group.restart_ended()
            time.sleep(POLL_S)
        took_s = time.monotonic() - began
        wrong += self.judge(run)
        if (status := self.watch.status(run)) != "succeeded":
            wrong += [f"{run} is {status}: {self.FAULT} is no failure of a todo", *self.watch.errors(run)]
            wrong += self.watch.dump(run)
        for worker in self.group.workers:
            worker.kill()
            worker.wait()
        runs = sum(line.starts for line in lines_of(ledger_of(self.testbed)))
        words = f"{self.todos} todos, {self.counted()}, {runs} body runs, {took_s:.0f} s, seed {self.seed}"
        return Figures(measured=words, wrong=wrong)

    @contextmanager
    def place(self) -> Iterator[str]:
        """Prepare the testbed; yield the reason why this machine cannot have the storm, or ''."""
        yield ""

    def write(self, todos: list[Mapping[str, Any]]) -> None:
        self.testbed.write(todos)

    def strike(self) -> bool:
        """Let the fault happen once. Return whether it counts."""
        raise NotImplementedError

    def counted(self) -> str:
        return f"{self.struck} times {self.FAULT}"

    def judge(self, run: str) -> list[str]:
        return self.watch.judge(run)


@dataclass(kw_only=True)
class KillStorm(Storm):
    FAULT = "kill storm"
    DOES = "SIGKILL to a random worker every 2 s, until 1,000 todos on 50 repositories are done by 8 workers"

    todos: int = 1000
    repos: int = 50
    workers: int = 8
    every_s: float = 2.0
    lasts_s: float = 0.5
    lease: str = "15s"
    patience_s: float = 1800

    def strike(self) -> bool:
        before = self.group.killed
        self.group.kill_one(self.chance)
        return self.group.killed > before

    def counted(self) -> str:
        with self.testbed.redis() as redis:
            lost = redis.hget(Keys("coord").counters, "leases_lost") or 0
        return f"{self.workers} workers, {self.struck} kills, {lost} leases lost"


SHIM = """#!/bin/sh
n=$(od -An -N2 -tu2 /dev/urandom)
if [ $((n % {one_in})) != 0 ]; then exec '{git}' "$@"; fi
echo "$*" >> '{kills}'
'{git}' "$@" <&0 &
sleep 0.00$((n / {one_in} % 9 + 1))
kill -KILL $!
kill -KILL $$
"""


@dataclass(kw_only=True)
class GitKills(Storm):
    FAULT = "git killed"
    DOES = (
        "SIGKILL to one git in 40 of the workers, 1 to 9 ms after its start, "
        "until 200 todos on 20 repositories are done"
    )

    one_in: int = 40
    every_s: float = inf
    lasts_s: float = 0.1

    @property
    def kills(self) -> Path:
        return self.testbed.folder / "kills"

    def write(self, todos: list[Mapping[str, Any]]) -> None:
        """Put a `git` that sometimes dies before the real one, once the repositories are there."""
        super().write(todos)
        shim = self.testbed.folder / "bin" / "git"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(git=shutil.which("git"), kills=self.kills, one_in=self.one_in))
        shim.chmod(0o755)
        self.testbed.env = {"PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}"}

    def counted(self) -> str:
        return f"{len(self.kills.read_text().splitlines()) if self.kills.exists() else 0} gits killed"


MARK = b"guard.main("
CHILD = 'while :; do echo "$1 $2 $(date +%s%N)" >> "$3"; sleep 0.05; done'
"""It writes down that it lives: todo, fence, nanoseconds."""
STARTS_CHILD = [
    "sh",
    "-c",
    f'env -i setsid sh -c \'{CHILD}\' child "$COORD_TODO_ID" "$COORD_FENCE" "$STRAYS" <&- >/dev/null 2>&1'
    f" & exec sh '{BODY}'",
]


@dataclass(kw_only=True)
class GuardKills(Storm):
    """The children have left everything by which a guard finds them: environment, session, process group."""

    FAULT = "guard killed"
    DOES = (
        "SIGKILL to a random guard every second, over children started with env -i setsid, "
        "until 150 todos are done"
    )
    SETTINGS: ClassVar[Fields] = {"retry_attempts": 100, "retry_delay": "100ms"}

    todos: int = 150
    repos: int = 15
    lasts_s: float = 0.4

    @property
    def strays(self) -> Path:
        return self.testbed.folder / "strays"

    def write(self, todos: list[Mapping[str, Any]]) -> None:
        env = {"LASTS": str(self.lasts_s), "STRAYS": str(self.strays)}
        super().write([{**todo, "action": STARTS_CHILD, "env": env} for todo in todos])

    def strike(self) -> bool:
        guards = list(_guards({worker.pid for worker in self.group.workers}))
        with suppress(ProcessLookupError, IndexError):
            os.kill(self.chance.choice(guards), signal.SIGKILL)
            return True
        return False

    def judge(self, run: str) -> list[str]:
        wrong = [*super().judge(run), *_overlaps(self.strays)]
        before = self.strays.stat().st_size if self.strays.exists() else 0
        with suppress(AssertionError):  # a live process writes 20 lines a second
            until(lambda: self.strays.stat().st_size > before, 2)
            wrong.append(f"{run}: a child outlived its todo: {self.strays.read_text().splitlines()[-1]}")
        return wrong


def _guards(workers: set[int]) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in workers and MARK in (process / "cmdline").read_bytes():
                yield int(process.name)


def _overlaps(strays: Path) -> Iterator[str]:
    """Yield each child of an older attempt that was alive when a newer one had begun."""
    lives: defaultdict[str, defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in strays.read_text().splitlines() if strays.exists() else ():
        todo, fence, at_ns = line.split()
        lives[todo][int(fence)].append(int(at_ns))
    for todo, fences in lives.items():
        for older, newer in itertools.pairwise(sorted(fences)):
            late_ms = (max(fences[older]) - min(fences[newer])) // 1_000_000
            if late_ms > 0:
                yield f"{todo}: a child of fence {older} lived {late_ms} ms after the start of {newer}"


@dataclass(kw_only=True)
class FullDisk(Storm):
    FAULT = "disk full"
    DOES = (
        "the disk of repositories and worktrees is full for 8 s, every 16 s, "
        "until 200 todos on 20 repositories are done"
    )
    SETTINGS: ClassVar[Fields] = {"disk_min": 0}
    SIZE: ClassVar = "96m"

    every_s: float = 8.0

    @property
    def disks(self) -> list[Path]:
        return [self.testbed.folder / "disk", self.testbed.state / "worktrees"]

    @contextmanager
    def place(self) -> Iterator[str]:
        mounted, self._fillers = [], list[Path]()
        try:
            for folder in self.disks:
                folder.mkdir(parents=True)
                options = f"size={self.SIZE},mode=700"
                if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]).returncode == 0:
                    mounted.append(folder)
            yield "" if mounted == self.disks else "a small disk cannot be mounted here"
        finally:
            for folder in mounted:
                subprocess.run(["umount", "--lazy", folder], check=True)

    def write(self, todos: list[Mapping[str, Any]]) -> None:
        repos = {f"r{number:02}": {"path": f"disk/r{number:02}"} for number in range(self.repos)}
        for fields in repos.values():
            self.testbed.repo(fields["path"])
        self.testbed.write(todos, repos=repos)

    def strike(self) -> bool:
        """Fill the disks, or free them."""
        fillers, self._fillers = self._fillers, []
        for filler in fillers:
            filler.unlink()
        if not fillers:
            self._fillers = [fill(disk) for disk in self.disks]
        return not fillers


@dataclass(kw_only=True)
class Restores(Storm):
    FAULT = "older data restored"
    DOES = (
        "SIGKILL to the server and its data of 1 to 6 s ago in its place, "
        "every 8 s while 150 todos are done, 6 times"
    )

    todos: int = 150
    repos: int = 15
    every_s: float = 4.0
    strikes: float = 6
    older_s: tuple[float, float] = (1, 6)
    lasts_s: float = 0.3
    patience_s: float = 900

    def strike(self) -> bool:
        data, older = self.testbed.state / "appendonlydir", self.testbed.folder / "older"
        shutil.rmtree(older, ignore_errors=True)
        with self.testbed.redis() as redis:
            redis.client_pause(60_000, all=False)  # a copy between two writes
            shutil.copytree(data, older)
            redis.client_unpause()
        time.sleep(self.chance.uniform(*self.older_s))
        os.kill(self.testbed.daemon("server").pid, signal.SIGKILL)
        until(lambda: Daemon(self.testbed.state, "server").running() is None)
        shutil.rmtree(data)
        shutil.copytree(older, data)
        self.testbed.server.start()
        return True

    def judge(self, run: str) -> list[str]:
        with self.testbed.redis() as redis:
            return after_a_restore(lines_of(ledger_of(self.testbed)), record(redis, run))
