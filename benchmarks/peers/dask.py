"""dask.distributed: one local worker process with two threads; state is in the scheduler's memory, nothing is
kept.
"""

from __future__ import annotations

import time

from distributed import Client, LocalCluster

from benchmarks.of_throughput.layered import layered
from benchmarks.peers.seam import Job, Ran


def noop(_before: list[float]) -> float:
    return time.time()


def run(job: Job) -> Ran:
    graph = {name: (noop, before) for name, before in layered(job.levels, job.width).items()}
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=None, local_directory=job.folder
        ) as cluster,
        Client(cluster) as client,
    ):
        ran = client.get(graph, list(graph))
    return Ran(max(ran) - min(ran))
