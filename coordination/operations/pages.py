"""Starts Flower and the dashboard on loopback, or joins those that run.

Flower shows workers and tasks: read-only, and with a password that is on no command line. It shows Celery's
events, which are lost while it is down; so its view may be incomplete.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordination.backend.daemon import STOP_STEPS, Daemon, Record, Step, alive, wait_until
from coordination.environment import LISTENING
from coordination.errors import CoordinationError, Unreachable
from coordination.operations.listening import Address, listen
from coordination.processes import is_stopped
from coordination.settings import Settings

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 60.0


def join_or_start(
    daemon: Daemon,
    redis_url: str,
    *,
    launch: Callable[[], Record],
    answers: Callable[[Record], bool],
    title: str,
    instead: str = "",
    stop_steps: Sequence[Step] = STOP_STEPS,
    meanwhile: Callable[[], object] | None = None,
    dump_stacks: signal.Signals | None = None,
) -> Record:
    """Return the record of the process once it answers: of the running one if it serves this Redis, else of
    the one that `launch` starts. A running one that ends before it answers is replaced.

    `title` and `instead` (a command that does without it) are for messages. `meanwhile` is called while the
    process starts. `dump_stacks` is sent to a process that does not answer: the signal makes it write the
    stacks of its threads into its log. Raises Unreachable if it ends or does not answer within
    START_TIMEOUT_S.
    """
    joined = daemon.running()
    if joined and joined.facts["redis"] != redis_url:
        daemon.stop(stop_steps)
        joined = None
    record = joined or launch()
    if meanwhile is not None:
        meanwhile()
    _wait(record, answers)
    if record is joined and not alive(record):
        record = launch()
        _wait(record, answers)
    if alive(record) and answers(record):
        return record
    without = f"; without it: {instead}" if instead else ""
    hint = f"fix the error (more in {daemon.log}) and try again{without}"
    if not alive(record):
        raise Unreachable(f"{title} ended while it started:\n{daemon.log_tail()}", hint)
    if is_stopped(record.pid):
        raise Unreachable(
            f"{title} (pid {record.pid}) does not answer: a signal has stopped it",
            f"kill -CONT {record.pid}; or, to end it, kill -9 {record.pid} and try again",
        )
    tail = daemon.log_tail()
    if dump_stacks is not None:
        daemon.signal(record, dump_stacks)
    raise Unreachable(f"{title} (pid {record.pid}) does not answer:\n{tail}", hint)


def _wait(record: Record, answers: Callable[[Record], bool]) -> None:
    wait_until(lambda: not alive(record) or answers(record), START_TIMEOUT_S)


def free_port() -> int:
    """Return a port that is free on loopback."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


FLOWER_USER = "coord"
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
class FlowerConfig:
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


def flower_auth(settings: Settings) -> str:
    """Return `user:password` from the settings, or a new password."""
    return settings.flower_auth or f"{FLOWER_USER}:{secrets.token_urlsafe(12)}"


def start_flower(daemon: Daemon, redis_url: str, settings: Settings) -> Access:
    """Start Flower, or reuse one that watches the same Redis; return when it answers."""
    record = join_or_start(
        daemon,
        redis_url,
        launch=lambda: _launch_flower(daemon, redis_url, settings),
        answers=_flower_answers,
        title="Flower",
        instead="coord up --no-flower",
    )
    return flower_access(record)


def restart_flower(daemon: Daemon, died: Record, settings: Settings) -> Record:
    """Start Flower at the port and with the password of the one that died; return at once."""
    known = flower_access(died)
    page = FlowerConfig(
        redis_url=died.facts["redis"],
        namespace=settings.namespace,
        auth=f"{known.user}:{known.password}",
        port=int(died.facts["port"]),
    )
    return daemon.start(FLOWER_COMMAND, env=page.environment, facts=died.facts)


def flower_access(record: Record) -> Access:
    facts = record.facts
    return Access(url=f"http://{LOOPBACK}:{facts['port']}", user=facts["user"], password=facts["password"])


def _launch_flower(daemon: Daemon, redis_url: str, settings: Settings) -> Record:
    page = FlowerConfig(
        redis_url=redis_url, namespace=settings.namespace, auth=flower_auth(settings), port=free_port()
    )
    known = {"user": page.access.user, "password": page.access.password}
    facts = {"redis": redis_url, "port": str(page.port), **known}
    return daemon.start(FLOWER_COMMAND, env=page.environment, facts=facts, private=True)


def _flower_answers(record: Record) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, int(record.facts["port"]), timeout=2)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


DASHBOARD_PORT = 8780
DASHBOARD_MODULES = ("jinja2", "starlette", "uvicorn")
"""Modules of the extra `[web]`."""
_START_DASHBOARD = "from coordination.cli import main; main()"


def dashboard_is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in DASHBOARD_MODULES)


def dashboard_url(record: Record) -> str:
    scheme = record.facts.get("scheme", "http")  # records of earlier versions lack it
    return f"{scheme}://{LOOPBACK}:{record.facts['port']}/"


def start_dashboard(daemon: Daemon, ecosystem: Path, redis_url: str, settings: Settings) -> str:
    """Start the dashboard, or join one that serves the same Redis; return its address when it answers."""
    record = join_or_start(
        daemon,
        redis_url,
        launch=lambda: launch_dashboard(daemon, ecosystem, redis_url, settings, DASHBOARD_PORT, 0),
        answers=dashboard_answers,
        title="the dashboard",
        instead="coord up --no-dashboard",
    )
    return dashboard_url(record)


def launch_dashboard(
    daemon: Daemon, ecosystem: Path, redis_url: str, settings: Settings, *ports: int
) -> Record:
    """Start the dashboard at the first of these ports that is free (0: any); return at once.

    The process inherits the listening socket. If it opened the port itself, a second later, the dashboard of
    another ecosystem could have taken the port, answer in its place, and this one would die.
    """
    scheme = "http" if settings.tls_certificate is None else "https"
    with _listening(*ports) as listening:
        port = listening.getsockname()[1]
        command = [sys.executable, "-P", "-c", _START_DASHBOARD, "--ecosystem", str(ecosystem)]
        command += ["dashboard", "--listen", f"{LOOPBACK}:{port}"]
        # In the environment: the address may hold a password, and all users can read command lines.
        return daemon.start(
            command,
            env={"COORD_REDIS_URL": redis_url, LISTENING: str(listening.fileno())},
            facts={"redis": redis_url, "port": str(port), "scheme": scheme},
            hold=listening.fileno(),
            cwd=ecosystem.parent,
            private=True,
        )


def _listening(*ports: int) -> socket.socket:
    """Listen on loopback at the first of these ports that is free."""
    for port in ports:
        try:
            return listen(Address(host=LOOPBACK, port=port))
        except CoordinationError as error:
            refused = error
    raise refused


def dashboard_answers(record: Record) -> bool:
    """Return whether the dashboard serves requests. Its socket accepts connections before that, and with TLS
    it closes a connection that begins with plain text.
    """
    try:
        with socket.create_connection((LOOPBACK, int(record.facts["port"])), timeout=1) as connection:
            connection.sendall(b"HEAD /sign-in HTTP/1.0\r\n\r\n")
            connection.recv(1)
            return True
    except OSError:
        return False
