"""Probe a service once: whether it works, and why it does not."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from coordination.dependencies.records import CheckVerdict, satisfied, unsatisfied
from coordination.models import FileProbe, Probe, Validation, argv_of

LOCAL = "127.0.0.1"


def is_local(probe: Probe) -> bool:
    """Return whether the probe uses a port of this machine, which another program may have taken."""
    if probe.http is None:
        return probe.tcp is not None
    host = urlsplit(probe.http.url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


Confine = Callable[[Sequence[str]], tuple[str, ...]]
"""Takes a command; returns its command line in the sandbox of the service."""


def look(
    probe: Probe, folder: Path, *, alive: bool, stopped: Event, confine: Confine | None = None
) -> CheckVerdict:
    """Probe the service once; return whether it works, and the reason. `folder`: of its repository; `alive`:
    whether its process lives; `stopped` cancels a command; `confine`: None for a service without a sandbox.
    """
    if not alive:
        return unsatisfied("its process has ended")
    if probe.tcp is not None:
        return _connect(probe.tcp, probe.timeout.total_seconds())
    if probe.file is not None:
        return _look_at_file(probe.file, folder)
    if probe.process is not None:
        return satisfied("its process lives")
    from coordination.dependencies.probes import ask, run_command  # httpx2 takes 100 ms

    if probe.http is not None:
        return ask(probe.http.url, probe.http.status, probe.timeout)
    assert probe.command is not None
    command = confine(argv_of(probe.command)) if confine else probe.command
    validation = Validation(command=command, timeout=probe.timeout)
    return run_command(command, validation, folder=folder, stopped=stopped)


def _connect(port: int, timeout_s: float) -> CheckVerdict:
    try:
        with socket.create_connection((LOCAL, port), timeout_s):
            return satisfied(f"port {port} accepts connections")
    except OSError as error:
        return unsatisfied(f"port {port} cannot be reached: {error.strerror or error}")


def _look_at_file(probe: FileProbe, folder: Path) -> CheckVerdict:
    try:
        age_s = time.time() - (folder / probe.path).stat().st_mtime
    except OSError as error:
        return unsatisfied(f"{probe.path} cannot be read: {error.strerror}")
    limit_s = probe.max_age.total_seconds()
    if age_s > limit_s:
        return unsatisfied(f"{probe.path} was written {age_s:.0f} s ago, more than {limit_s:g} s")
    return satisfied(f"{probe.path} was written {max(age_s, 0):.0f} s ago")
