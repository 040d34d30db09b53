"""Flower, which shows workers and tasks: read-only, and with a password that is on no command line.

It is started by `up` and `coord flower`, and shows Celery's events, which are lost while it is down; so its
view may be incomplete.
"""

from __future__ import annotations

import http.client
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from coordination.backend.daemon import Daemon, Record
from coordination.operations.joining import LOOPBACK, free_port, join_or_start
from coordination.settings import Settings

USER = "coord"
FLOWER_PORT = 5555
FORGET_OFFLINE_S = 3600
"""Time after which offline workers are removed; each restart has a new pid and so a new name."""
FLOWER_COMMAND = (sys.executable, "-P", "-m", "coordination.operations.flower_app")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Address and login of Flower."""

    url: str
    user: str
    password: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Configuration of Flower for one Redis."""

    redis_url: str
    namespace: str
    auth: str
    """`user:password`."""
    address: str = LOOPBACK
    port: int = FLOWER_PORT
    read_only: bool = True

    @property
    def access(self) -> Access:
        host = f"[{self.address}]" if ":" in self.address else self.address
        user, _, password = self.auth.partition(":")
        return Access(url=f"http://{host}:{self.port}", user=user, password=password)

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables for FLOWER_COMMAND."""
        return {
            "COORD_REDIS_URL": self.redis_url,
            "COORD_NAMESPACE": self.namespace,
            "FLOWER_ADDRESS": self.address,
            "FLOWER_PORT": str(self.port),
            "FLOWER_BASIC_AUTH": self.auth,
            "FLOWER_READ_ONLY": str(self.read_only),
            "FLOWER_ENABLE_EVENTS": "False",  # coord's workers send them anyway
            "FLOWER_PURGE_OFFLINE_WORKERS": str(FORGET_OFFLINE_S),
            # Otherwise it would execute a flowerconfig.py of the working directory.
            "FLOWER_CONF": os.devnull,
        }


def auth(settings: Settings) -> str:
    """Return `user:password` from the settings, or a new password."""
    return settings.flower_auth or f"{USER}:{secrets.token_urlsafe(12)}"


def start(daemon: Daemon, redis_url: str, settings: Settings) -> Access:
    """Start Flower, or reuse one that watches the same Redis; return when it answers."""
    record = join_or_start(
        daemon,
        redis_url,
        launch=lambda: _launch(daemon, redis_url, settings),
        answers=_answers,
        title="Flower",
        instead="coord up --no-flower",
    )
    return access(record)


def start_again(daemon: Daemon, died: Record, settings: Settings) -> Record:
    """Start Flower at the port and with the password of the one that died; return at once."""
    known = access(died)
    page = Page(
        redis_url=died.facts["redis"],
        namespace=settings.namespace,
        auth=f"{known.user}:{known.password}",
        port=int(died.facts["port"]),
    )
    return daemon.start(FLOWER_COMMAND, env=page.environment, facts=died.facts)


def access(record: Record) -> Access:
    facts = record.facts
    return Access(url=f"http://{LOOPBACK}:{facts['port']}", user=facts["user"], password=facts["password"])


def _launch(daemon: Daemon, redis_url: str, settings: Settings) -> Record:
    page = Page(redis_url=redis_url, namespace=settings.namespace, auth=auth(settings), port=free_port())
    known = {"user": page.access.user, "password": page.access.password}
    facts = {"redis": redis_url, "port": str(page.port), **known}
    return daemon.start(FLOWER_COMMAND, env=page.environment, facts=facts, private=True)


def _answers(record: Record) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, int(record.facts["port"]), timeout=2)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
