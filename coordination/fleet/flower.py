"""Flower for the embedded server: on loopback, at a free port, behind a generated password that stays off every argv."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import sys
from dataclasses import dataclass

from coordination.errors import CoordinationError
from coordination.wire.connection import carrier_url
from coordination.wire.daemon import Daemon, Record, alive, wait_until

USER = "coord"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a person finds Flower, and what to type there."""

    url: str
    user: str
    password: str


def start(daemon: Daemon, redis_url: str) -> Access:
    """Start Flower, or join the one that watches the same Redis; returns when it answers."""
    record = daemon.running()
    if record and record.facts["redis"] != redis_url:
        daemon.stop()
        record = None
    record = record or _launch(daemon, redis_url)
    port = int(record.facts["port"])
    wait_until(lambda: _answers(port) or not alive(record), START_TIMEOUT_S)
    if not alive(record) or not _answers(port):
        raise CoordinationError(
            f"Flower does not start; it says:\n{daemon.log_tail()}",
            f"go on without it: coord up --no-flower; what it says is in {daemon.log}",
        )
    return access(record)


def access(record: Record) -> Access:
    return Access(url=f"http://127.0.0.1:{record.facts['port']}", user=USER, password=record.facts["password"])


def _launch(daemon: Daemon, redis_url: str) -> Record:
    port, password = _free_port(), secrets.token_urlsafe(12)
    env = {
        "CELERY_BROKER_URL": carrier_url(redis_url),
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": f"{USER}:{password}",
        # Else it runs any flowerconfig.py of the folder it stands in.
        "FLOWER_CONF": os.devnull,
    }
    facts = {"redis": redis_url, "port": str(port), "password": password}
    return daemon.start([sys.executable, "-P", "-m", "celery", "flower"], env=env, facts=facts)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
