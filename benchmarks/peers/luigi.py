"""Luigi: two worker processes and the local scheduler; a task is complete when its file is there, as Luigi
has it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import luigi

from benchmarks.of_throughput.layered import layered
from benchmarks.peers.seam import Job, Ran

graph: Mapping[str, list[str]] = {}


class Noop(luigi.Task):
    name = luigi.Parameter()
    folder = luigi.Parameter()

    def requires(self) -> list[Noop]:
        return [Noop(name=name, folder=self.folder) for name in graph[self.name]]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{self.folder}/{self.name}")

    def run(self) -> None:
        Path(self.output().path).write_text(str(time.time()))


def run(job: Job) -> Ran:
    global graph
    graph = layered(job.levels, job.width)
    ended = luigi.build(
        [Noop(name=name, folder=job.folder) for name in graph],
        workers=2,
        local_scheduler=True,
        log_level="ERROR",
    )
    ran = [float(Path(job.folder, name).read_text()) for name in graph]
    return Ran(max(ran) - min(ran), "" if ended else "it reported a failure")
