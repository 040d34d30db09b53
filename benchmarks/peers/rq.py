"""RQ: every task a job that depends on up to three others, on the same Redis; two workers that do not fork.

Where two workers end predecessors of one job at a time, RQ 3.0 leaves it to its maintenance, which looks
every ten minutes. Here it looks all the time: else the graph would not end within the hour.
"""

from __future__ import annotations

import multiprocessing
import time

from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job as Task
from rq.registry import ReadyJobRegistry

from benchmarks.of_throughput.layered import layered
from benchmarks.peers.seam import Job, Ran

WORKERS, LOOK_S, PAGE = 2, 0.1, 1000


def noop() -> None:
    pass


def work(url: str) -> None:
    connection = Redis.from_url(url)
    SimpleWorker([Queue(connection=connection)], connection=connection).work(logging_level="WARNING")


def run(job: Job) -> Ran:
    connection = Redis.from_url(job.url)
    queue = Queue(connection=connection)
    graph = layered(job.levels, job.width)
    for name, before in graph.items():
        queue.enqueue(noop, job_id=name, depends_on=before, result_ttl=-1)
    workers = [
        multiprocessing.get_context("spawn").Process(target=work, args=(job.url,)) for _ in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    while queue.finished_job_registry.count < len(graph):
        ReadyJobRegistry(queue=queue).cleanup()
        time.sleep(LOOK_S)
    for worker in workers:
        worker.terminate()
    return Ran(_seconds(connection, list(graph)))


def _seconds(connection: Redis, names: list[str]) -> float:
    starts, ends = [], []
    for i in range(0, len(names), PAGE):
        for task in Task.fetch_many(names[i : i + PAGE], connection=connection):
            starts.append(task.started_at)
            ends.append(task.ended_at)
    return (max(ends) - min(starts)).total_seconds()
