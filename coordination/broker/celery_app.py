"""Builds the Celery app that delivers messages "try to claim this todo".

Clients and workers build the same app; `workers/container.py` adds the tasks. The state of todos is in Redis
under coord's own keys, not in Celery. Each setting below prevents a failure that was measured.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend

from coordination.backend.address import celery_url
from coordination.backend.bounded_parser import BoundedParser
from coordination.backend.client import ANSWER_S
from coordination.backend.keys import Keys, RestrictedKeys
from coordination.broker.transport import NAME as TRANSPORT
from coordination.broker.transport import TolerantAmqp, TolerantApp
from coordination.settings import Settings

EXECUTE = "coord.execute"
ADVANCE = "coord.advance"

VISIBILITY_TIMEOUT_S = 12 * 3600
HEALTH_CHECK_S = 2
"""Interval of connection health checks.

A connection that died silently (a firewall dropped it) is given up after 1 + 2 x this time. With kombu's 25 s
a worker would be idle for a minute, and without a socket timeout for ever."""
CHORD_EXPIRES_S = 30 * 24 * 3600  # a chord whose keys expire never runs its body


class JoinBackend(RedisBackend):  # type: ignore[misc]
    """Result backend that only counts the parts of chords.

    No process waits for a result, so sending a task subscribes to nothing.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connparams["parser_class"] = BoundedParser

    def on_task_call(self, producer: Any, task_id: str) -> None:
        pass

    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any:
        return result


def make_app(url: str, keys: Keys, settings: Settings, own: RestrictedKeys | None = None) -> Celery:
    """Return the Celery app of a client or worker.

    `own`: the keys of a restricted worker. Its remote control is disabled: access to the control channel
    would also allow it to stop other workers.
    """
    unacked = own.unacked if own else keys.unacked
    address = celery_url(url).removeprefix("redis+")
    # For a socket, kombu ignores broker_transport and uses the transport before the plus sign of the address.
    broker = f"{TRANSPORT}+{address}" if address.startswith("socket:") else address
    backend = f"{__name__}:{JoinBackend.__name__}+{address}"
    app = TolerantApp("coord", broker=broker, backend=backend, amqp=TolerantAmqp, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_default_queue=keys.control_queue,
        task_ignore_result=True,
        result_chord_expires=CHORD_EXPIRES_S,
        result_expires=CHORD_EXPIRES_S,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_reject_on_worker_lost=False,
        worker_send_task_events=True,
        task_send_sent_event=False,
        broker_transport=TRANSPORT,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=own is None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "priority_steps": [0],
            "socket_keepalive": True,
            "socket_connect_timeout": settings.connect_timeout.total_seconds(),
            "socket_timeout": ANSWER_S,
            "health_check_interval": HEALTH_CHECK_S,
            "unacked_key": unacked,
            "unacked_index_key": f"{unacked}_index",
            "unacked_mutex_key": f"{unacked}_mutex",
            "queue_prefix": keys.queue_prefix,
            "ranked": None if own else {"served": keys.served, "posted": keys.run("@").posted},
            "poison_key": own.poison if own else keys.poison,
        },
        result_backend_transport_options={"global_keyprefix": keys.celery_prefix},
        redis_socket_connect_timeout=settings.connect_timeout.total_seconds(),
        redis_socket_timeout=ANSWER_S,
    )
    return app
