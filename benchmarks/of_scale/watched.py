"""Measures the memory of `coord sweep` and a worker while a plan of many todos is executed, from /proc."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.of_scale.plans import repos, todos
from benchmarks.testbed import COORD, PLAN, Testbed
from coordination.backend.client import Profile, connect
from coordination.backend.daemon import Daemon
from coordination.backend.keys import Keys
from coordination.runs.records import TodoState

LOOK_S = 0.2
TENTHS = 10


@dataclass
class Memory:
    """Resident, in MB, at most in each tenth of the run."""

    tenths: dict[int, float] = field(default_factory=dict)

    def note(self, tenth: int, pid: int) -> None:
        self.tenths[tenth] = max(self.tenths.get(tenth, 0.0), resident_mb(pid))

    @property
    def growth(self) -> float:
        """The last tenth to the first."""
        return self.tenths[max(self.tenths)] / self.tenths[min(self.tenths)]

    def __str__(self) -> str:
        return f"{self.tenths[min(self.tenths)]:.0f} to {self.tenths[max(self.tenths)]:.0f} MB"


def resident_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS:")), 0.0)


def watched(place: Testbed, n: int, jobs: int) -> tuple[Memory, Memory]:
    """Return the memory of the watching command and of the worker until the end of the run, unless a field
    says otherwise.
    """
    names = repos()
    for name in names:
        (place.folder / name).mkdir(exist_ok=True)
    place.declare(names, todos(n, names))
    place.coord("up", "--detach", "--no-flower")
    server, worker = Daemon(place.state, "server").running(), Daemon(place.state, "worker").running()
    assert server is not None
    assert worker is not None
    command = [str(COORD), "sweep", PLAN, "--strategy", "dataflow", "--jobs", str(jobs)]
    with (
        connect(server.facts["url"], Profile.COMMAND) as redis,
        (place.folder / "sweep.log").open("wb") as log,
    ):
        sweep = subprocess.Popen(command, cwd=place.folder, stdout=log, stderr=log)
        sampled = {sweep.pid: Memory(), worker.pid: Memory()}
        meta = ""
        while sweep.poll() is None:
            time.sleep(LOOK_S)
            keys = Keys("coord")
            meta = meta or next((keys.run(run).meta for run in redis.zrange(keys.live, 0, 0)), "")
            if not meta:
                continue
            status, done = redis.hmget(meta, ["status", f"n.{TodoState.SUCCEEDED}"])
            if status != "running":
                break
            for pid, memory in sampled.items():
                memory.note(TENTHS * int(done or 0) // n, pid)
        if sweep.wait():
            raise SystemExit((place.folder / "sweep.log").read_text()[-2000:])
    return sampled[sweep.pid], sampled[worker.pid]
