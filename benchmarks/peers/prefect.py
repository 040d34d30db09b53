"""Prefect: one flow on its own temporary server (SQLite), tasks by two threads, `wait_for` the ones
before.
"""

from __future__ import annotations

import os
import time

from benchmarks.of_throughput.layered import layered
from benchmarks.peers.seam import Job, Ran


def run(job: Job) -> Ran:
    own = {"HOME": job.folder, "SERVER_ANALYTICS_ENABLED": "false", "LOGGING_LEVEL": "ERROR"}
    os.environ.update({f"PREFECT_{name}": value for name, value in own.items()})
    from prefect import flow, task
    from prefect.futures import PrefectFuture
    from prefect.task_runners import ThreadPoolTaskRunner

    @task
    def noop() -> float:
        return time.time()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def whole() -> list[float]:
        ran: dict[str, PrefectFuture[float]] = {}
        for name, before in layered(job.levels, job.width).items():
            ran[name] = noop.submit(wait_for=[ran[other] for other in before])
        return [future.result() for future in ran.values()]

    ran = whole()
    return Ran(max(ran) - min(ran))
