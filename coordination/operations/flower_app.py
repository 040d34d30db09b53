"""Flower's process: `python -m coordination.operations.flower_app`, configured by environment variables
(pages.py).

`celery -A …` would import any module `coordination` in the working directory. The workers' app cannot be
used: Flower queries queue lengths itself, without coord's transport, and ignores TLS options in the address.
"""

from __future__ import annotations

import sys
from typing import Any

import redis
from celery import Celery
from celery.app.control import Control
from kombu.exceptions import OperationalError

from coordination.backend.address import celery_url, parse
from coordination.backend.keys import Keys
from coordination.environment import hide_process
from coordination.errors import CoordinationError, UsageError
from coordination.settings import Settings, read_settings
from coordination.terminal import protect


def main() -> int:
    protect()
    hide_process()
    try:
        settings = read_settings()
        celery_app_for_flower(settings).start(["flower"])
    except CoordinationError as error:
        print(f"coord flower: {error}", file=sys.stderr)  # noqa: T201 - output of a program
        return error.exit_code
    except OSError as error:
        message = (
            f"coord flower: cannot listen there: {error.strerror or error}\n  name another --port "
            "or --address"
        )
        print(message, file=sys.stderr)  # noqa: T201
        return 1
    return 0


class QuietControl(Control):  # type: ignore[misc]
    """Remote control that ignores missing permissions (`coord acl --role flower`), because workers send
    heartbeats by themselves.
    """

    def broadcast(self, command: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().broadcast(command, *args, **kwargs)
        except OperationalError as error:
            if command != "heartbeat" or not isinstance(error.__cause__, redis.exceptions.NoPermissionError):
                raise


def celery_app_for_flower(settings: Settings) -> Celery:
    """Return an app without tasks, with which Flower listens and queries."""
    if settings.redis_url is None:
        raise UsageError("Flower needs the address of Redis", "start it with: coord flower")
    app = Celery("coord", broker=celery_url(settings.redis_url), control=QuietControl)
    app.conf.update(
        accept_content=["json"],
        task_default_queue=Keys(settings.namespace).control_queue,
        broker_use_ssl=_tls(settings.redis_url),
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "priority_steps": [0],
            "socket_connect_timeout": settings.connect_timeout.total_seconds(),
        },
    )
    return app


def _tls(url: str) -> dict[str, str | bool] | None:
    """Return the TLS options of the address as a Celery setting, because Flower reads them only there."""
    tls = parse(url).tls
    return {**tls, "ssl_check_hostname": tls["ssl_check_hostname"] == "true"} if tls else None


if __name__ == "__main__":
    sys.exit(main())
