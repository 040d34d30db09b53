"""Celery by itself: no-op tasks with coord's settings (acks late, task events) and a pool of threads, without
coord.

The worker is a process of its own; what it consumes was published before. It notes when each task ran, which
is all that it does beyond what Celery does, and ends after the last.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from celery import Celery, signals
from celery.worker import state

from coordination.backend.address import celery_url
from coordination.backend.keys import Keys
from coordination.broker.celery_app import make_app
from coordination.settings import Settings

NOOP = "bench.noop"


SAME = [
    "accept_content",
    "result_accept_content",
    "task_serializer",
    "result_serializer",
    "task_ignore_result",
    "task_acks_late",
    "worker_prefetch_multiplier",
    "task_reject_on_worker_lost",
    "worker_send_task_events",
    "task_send_sent_event",
    "worker_hijack_root_logger",
    "worker_redirect_stdouts",
]
"""Settings as in coord: late acks, one message for each thread, task events."""


def app_of(url: str, name: str, transport: str) -> Celery:
    """`transport`: `stock`, kombu's, as anybody has it; or `coord`, with how coord's workers take their
    messages. `name`: its namespace.
    """
    ours = make_app(url, Keys(name), Settings())
    if transport == "coord":
        return ours
    app = Celery(name, broker=celery_url(url), set_as_current=False)
    app.conf.update({key: ours.conf[key] for key in SAME})
    kept = ("priority_steps", "visibility_timeout", "unacked_key", "unacked_index_key", "unacked_mutex_key")
    app.conf.broker_transport_options = {key: ours.conf.broker_transport_options[key] for key in kept}
    return app


def queues_of(name: str, repos: Sequence[str], host: str) -> list[str]:
    """As many queues as a worker of coord has for these repositories."""
    keys = Keys(name)
    return [keys.control_queue, *(keys.queue(repo, at) for repo in repos for at in (None, host))]


def publish(app: Celery, tasks: int, queues: Sequence[str]) -> None:
    """In turn to each of the queues, as a level of coord's todos goes to its repositories."""
    with app.producer_or_acquire() as producer:
        for i in range(tasks):
            app.send_task(
                NOOP,
                args=("run-0123456789", f"t{i}", 1, "repo"),
                queue=queues[i % len(queues)],
                producer=producer,
            )


def rate(
    url: str,
    name: str,
    tasks: int,
    repos: Sequence[str],
    threads: int,
    within_s: float,
    transport: str = "stock",
) -> float:
    """Tasks per second, from the first that started to the last."""
    queues = queues_of(name, repos, "host")
    publish(app_of(url, name, transport), tasks, queues[2::2])
    words = [
        sys.executable,
        "-m",
        __name__,
        url,
        name,
        transport,
        *queues,
        "--tasks",
        str(tasks),
        "--threads",
        str(threads),
    ]
    told = subprocess.run(
        words, check=True, capture_output=True, text=True, timeout=within_s, env=environment()
    )
    first, last = json.loads(told.stdout)
    return tasks / float(last - first)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def work(app: Celery, queues: Sequence[str], tasks: int, threads: int) -> tuple[float, float]:
    """First and last time of a task."""
    ran: list[float] = []

    @app.task(name=NOOP)  # type: ignore[untyped-decorator]
    def noop(_run: str, _todo: str, _attempt: int, _repo: str) -> None:
        ran.append(time.perf_counter())
        if len(ran) == tasks:
            state.should_stop = os.EX_OK

    signals.setup_logging.connect(lambda **_: None, weak=False)
    worker = app.Worker(
        pool_cls="threads",
        concurrency=threads,
        queues=list(queues),
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return ran[0], ran[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("name")
    parser.add_argument("transport")
    parser.add_argument("queues", nargs="+")
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    print(
        json.dumps(
            work(app_of(given.url, given.name, given.transport), given.queues, given.tasks, given.threads)
        )
    )
