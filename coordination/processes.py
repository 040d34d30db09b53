"""Tell processes of this machine apart, and signal exactly the one that is meant.

A pid alone is soon another process's, so a process is known by its pid and the kernel's start time. `/proc` is read on Linux,
`ps` is asked elsewhere. Not psutil: it would be a compiled dependency for the forty lines below.
The guard of a todo's command (`workers/process/guard.py`) reads `/proc` itself: it starts without site-packages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ON_LINUX = sys.platform.startswith("linux")


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """What the system says of a process at one moment."""

    state: str
    """Of ps: Z is a zombie."""
    started: str
    """Of this boot; it only compares."""
    parent: int = 0
    """0 where the system does not say."""
    session: int = 0
    threads: int = 1

    @property
    def is_zombie(self) -> bool:
        """Whether it is dead and not reaped.

        Its first thread may be dead before the others are: until they are, its files, sockets and locks stay open.
        """
        return self.state.startswith("Z") and self.threads == 1


def look(pid: int) -> ProcessInfo | None:
    """Return what the system says of a process; None if there is none."""
    return _from_proc(pid) if ON_LINUX else _from_ps(pid)


def start_time(pid: int) -> str | None:
    """Return when a process began, in a form that no other process of this pid ever has; None if there is none."""
    found = look(pid)
    return _identity(found) if found else None


def is_alive(pid: int, started: str) -> bool:
    """Whether the process that has this start time (of `start_time`) lives. A dead child of ours is reaped."""
    found = look(pid)
    if found is None or not started or _identity(found) != started:
        return False
    if found.is_zombie:
        with suppress(ChildProcessError):  # ours if we started it, init's otherwise
            os.waitpid(pid, os.WNOHANG)
    return not found.is_zombie


def _identity(found: ProcessInfo) -> str:
    return f"{_BOOT_ID.read_text().strip()}:{found.started}" if ON_LINUX else found.started


def kill_group(group: int) -> None:
    """Kill a process group; one that has ended is no error (macOS says "not permitted" of zombies)."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def all_pids() -> list[int]:
    """Return the pids of all processes (Linux)."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 (pathlib takes three times as long)


def _from_proc(pid: int) -> ProcessInfo | None:
    try:
        # The name, in parentheses, may hold spaces and parentheses itself: what counts follows the last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    if not fields:
        return None
    state, parent, _, session = fields[:4]
    return ProcessInfo(
        state=state, parent=int(parent), session=int(session), threads=int(fields[17]), started=fields[19]
    )


def _from_ps(pid: int) -> ProcessInfo | None:
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    state, _, began = answer.stdout.strip().partition(" ")
    return ProcessInfo(state=state, started=began.strip()) if began else None
