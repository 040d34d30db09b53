"""The disk with the repositories and the worktrees is full for a while, again and again."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.figures import Figures
from tests.chaos.workers import NO_POISON, Watch, WorkerGroup, begin, dag, straight
from tests.disks import fill
from tests.testbed import Testbed, temporary_testbed

FAULT = "disk full"
DOES = (
    "the disk of repositories and worktrees is full for 8 s, every 16 s, "
    "until 200 todos on 20 repositories are done"
)
SIZE = "96m"


@dataclass(frozen=True, kw_only=True)
class FullDisk:
    todos: int = 200
    repos: int = 20
    workers: int = 4
    full_s: float = 8.0
    free_s: float = 8.0
    lasts_s: float = 0.2
    seed: int = 0
    patience_s: float = 1200


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return fill_disk(testbed, FullDisk(seed=random.randrange(10**6)))


def fill_disk(testbed: Testbed, how: FullDisk) -> Figures:
    testbed.settings = {**NO_POISON, "lease_ttl": "5s", "disk_min": 0}
    disks = [testbed.folder / "disk", testbed.state / "worktrees"]
    with _small(disks) as mounted:
        if not mounted:
            return Figures(measured="not at all: a small disk cannot be mounted here")
        repos = {f"r{number:02}": {"path": f"disk/r{number:02}"} for number in range(how.repos)}
        for fields in repos.values():
            testbed.repo(fields["path"])
        testbed.write(
            dag(how.todos, how.repos, random.Random(how.seed), env={"LASTS": str(how.lasts_s)}), repos=repos
        )
        return _judged(testbed, how, disks)


def _judged(testbed: Testbed, how: FullDisk, disks: list[Path]) -> Figures:
    url = testbed.server.start()
    group = WorkerGroup(testbed, [url] * how.workers)
    group.ready()
    watch = Watch(testbed, straight(testbed))
    run, wrong = begin(testbed, url), []
    fillers: list[Path] = []
    times, due = 0, time.monotonic() + how.free_s / 2

    def fate() -> None:
        nonlocal times, due
        if time.monotonic() >= due:
            if fillers:
                for filler in fillers:
                    filler.unlink()
                fillers.clear()
            else:
                fillers.extend(map(fill, disks))
                times += 1
            due = time.monotonic() + (how.full_s if fillers else how.free_s)
        wrong.extend(group.restart_ended())

    wrong += watch.until_over([run], how.patience_s, fate)
    if watch.status(run) != "succeeded":
        wrong.append(
            f"{run} is {watch.status(run)}: a disk that was full for a while is no failure of a todo"
        )
        wrong += watch.errors(run)
    for worker in group.workers:  # before the disk goes
        worker.kill()
        worker.wait()
    return Figures(
        measured=f"{how.todos} todos, {times} times full for {how.full_s:g} s, seed {how.seed}", wrong=wrong
    )


@contextmanager
def _small(folders: list[Path]) -> Iterator[bool]:
    mounted = []
    try:
        for folder in folders:
            folder.mkdir(parents=True)
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", folder])
            if done.returncode == 0:
                mounted.append(folder)
        yield mounted == folders
    finally:
        for folder in mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)
