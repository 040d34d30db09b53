"""Git is killed under the workers: one in so many that they start, at a random moment of its life."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.figures import Figures
from tests.chaos.workers import NO_POISON, Watch, WorkerGroup, begin, dag, straight
from tests.testbed import Testbed, temporary_testbed

FAULT = "git killed"
DOES = (
    "SIGKILL to one git in 12 of the workers, 1 to 9 ms after its start, "
    "until 200 todos on 20 repositories are done"
)
SHIM = """#!/bin/sh
n=$(od -An -N2 -tu2 /dev/urandom)
if [ $((n % {one_in})) != 0 ]; then exec '{git}' "$@"; fi
echo "$*" >> '{kills}'
'{git}' "$@" <&0 &
sleep 0.00$((n / {one_in} % 9 + 1))
kill -KILL $!
kill -KILL $$
"""


@dataclass(frozen=True, kw_only=True)
class GitKills:
    todos: int = 200
    repos: int = 20
    workers: int = 4
    one_in: int = 40
    lasts_s: float = 0.1
    seed: int = 0
    patience_s: float = 1200


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return kill_gits(testbed, GitKills(seed=random.randrange(10**6)))


def kill_gits(testbed: Testbed, how: GitKills) -> Figures:
    testbed.settings = {**NO_POISON, "lease_ttl": "5s"}
    testbed.write(dag(how.todos, how.repos, random.Random(how.seed), env={"LASTS": str(how.lasts_s)}))
    kills = testbed.folder / "kills"
    testbed.env = {
        "PATH": f"{_shim(testbed.folder / 'bin', kills, how.one_in)}{os.pathsep}{os.environ['PATH']}"
    }
    url = testbed.server.start()
    group = WorkerGroup(testbed, [url] * how.workers)
    group.ready()
    watch = Watch(testbed, straight(testbed))
    run, wrong = begin(testbed, url), []
    wrong += watch.until_over([run], how.patience_s, lambda: wrong.extend(group.restart_ended()))
    if watch.status(run) != "succeeded":
        wrong.append(f"{run} is {watch.status(run)}: a killed git is no failure of a todo")
        wrong += watch.errors(run)
    killed = len(kills.read_text().splitlines()) if kills.exists() else 0
    return Figures(measured=f"{how.todos} todos, {killed} gits killed, seed {how.seed}", wrong=wrong)


def _shim(folder: Path, kills: Path, one_in: int) -> Path:
    """A folder with a `git` before the real one."""
    folder.mkdir()
    shim = folder / "git"
    shim.write_text(SHIM.format(git=shutil.which("git"), kills=kills, one_in=one_in))
    shim.chmod(0o755)
    return folder
