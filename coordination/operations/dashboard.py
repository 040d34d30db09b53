"""The process of the dashboard that `coord up` starts beside Flower, on loopback."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path

from coordination.backend.daemon import Daemon, Record
from coordination.operations.joining import LOOPBACK, free_port, join_or_start

DASHBOARD_PORT = 8780
MODULES = ("jinja2", "starlette", "uvicorn")
"""Modules of the extra `[web]`."""
_START = "from coordination.cli import main; main()"


def dashboard_is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in MODULES)


def url_of(record: Record) -> str:
    return f"http://{LOOPBACK}:{record.facts['port']}/"


def start(daemon: Daemon, ecosystem: Path, redis_url: str) -> str:
    """Start the dashboard, or join one that serves the same Redis; return its address when it answers."""
    record = join_or_start(
        daemon,
        redis_url,
        launch=lambda: launch(daemon, ecosystem, redis_url, free_port(DASHBOARD_PORT)),
        answers=_answers,
        title="the dashboard",
        instead="coord up --no-dashboard",
    )
    return url_of(record)


def launch(daemon: Daemon, ecosystem: Path, redis_url: str, port: int) -> Record:
    """Start it at this port; return at once."""
    command = [sys.executable, "-P", "-c", _START, "--ecosystem", str(ecosystem)]
    command += ["dashboard", "--listen", f"{LOOPBACK}:{port}"]
    # In the environment: the address may hold a password, and all users can read command lines.
    return daemon.start(
        command,
        env={"COORD_REDIS_URL": redis_url},
        facts={"redis": redis_url, "port": str(port)},
        cwd=ecosystem.parent,
        private=True,
    )


def _answers(record: Record) -> bool:
    try:
        with socket.create_connection((LOOPBACK, int(record.facts["port"])), timeout=1):
            return True
    except OSError:
        return False
