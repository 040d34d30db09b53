"""Celery's own chain of groups: each level a group, which as a whole waits for the one before. A worker with
two threads.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from celery import Celery, chain, group, signals
from celery.worker import state

from benchmarks.peers.seam import Job, Ran
from coordination.backend.address import celery_url


def run(job: Job) -> Ran:
    app = Celery("canvas", broker=celery_url(job.url), backend=celery_url(job.url), set_as_current=False)
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, worker_send_task_events=True)
    ran: list[float] = []

    @app.task
    def noop() -> None:
        ran.append(time.perf_counter())

    @app.task
    def end() -> None:
        state.should_stop = os.EX_OK

    chain(
        *(group(noop.si() for _ in range(job.width)) for _ in range(job.levels)), end.si(), app=app
    ).apply_async()
    _work(app)
    wanted = job.levels * job.width
    return Ran(
        ran[-1] - ran[0],
        "" if len(ran) == wanted else f"it ran {len(ran):,} tasks where {wanted:,} were asked for",
    )


def _work(app: Any) -> None:
    assert threading.current_thread() is threading.main_thread()
    signals.setup_logging.connect(lambda **_: None, weak=False)
    app.Worker(
        pool_cls="threads", concurrency=2, quiet=True, without_gossip=True, without_mingle=True
    ).start()
