"""The process of the dashboard that `coord up` starts beside Flower, on loopback."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path

from coordination.backend.daemon import Daemon, Record, alive, wait_until
from coordination.errors import CoordinationError

LOOPBACK = "127.0.0.1"
DASHBOARD_PORT = 8780
START_TIMEOUT_S = 60.0
MODULES = ("jinja2", "starlette", "uvicorn")
"""Modules of the extra `[web]`."""
_START = "from coordination.cli import main; main()"


def dashboard_is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in MODULES)


def url_of(record: Record) -> str:
    return f"http://{LOOPBACK}:{record.facts['port']}/"


def start(daemon: Daemon, ecosystem: Path, redis_url: str) -> str:
    """Start the dashboard, or join one that serves the same Redis; return its address when it answers."""
    record = daemon.running()
    if record and record.facts["redis"] != redis_url:
        daemon.stop()
        record = None
    record = record or launch(daemon, ecosystem, redis_url, _free_port())
    port = int(record.facts["port"])
    wait_until(lambda: _answers(port) or not alive(record), START_TIMEOUT_S)
    if not alive(record) or not _answers(port):
        raise CoordinationError(
            f"the dashboard does not start:\n{daemon.log_tail()}",
            f"continue without it: coord up --no-dashboard; its log is {daemon.log}",
        )
    return url_of(record)


def launch(daemon: Daemon, ecosystem: Path, redis_url: str, port: int) -> Record:
    """Start it at this port; return at once."""
    command = [sys.executable, "-P", "-c", _START, "--ecosystem", str(ecosystem)]
    command += ["dashboard", "--listen", f"{LOOPBACK}:{port}"]
    # By environment: the address may hold a password, and a command line is everybody's.
    return daemon.start(
        command,
        env={"COORD_REDIS_URL": redis_url},
        facts={"redis": redis_url, "port": str(port)},
        cwd=ecosystem.parent,
        private=True,
    )


def _free_port() -> int:
    """Return the usual port, or any where that is taken."""
    for port in (DASHBOARD_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return DASHBOARD_PORT


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False
