"""Identification of processes of this machine, and signals to exactly the intended one.

Pids are reused, so a process is identified by its pid and the kernel's start time, which are read from
`/proc` on Linux and from `ps` elsewhere. psutil is not used, because it would be a compiled dependency for
forty lines. The guard of a todo's command (`workers/process/guard.py`) reads `/proc` itself, because it
starts without site-packages.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DUMP_STACKS = signal.SIGUSR1
"""A worker that gets this signal writes the stacks of its threads into its log."""
ON_LINUX = sys.platform.startswith("linux")


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """State of a process at one moment, as the system reports it."""

    state: str
    """State as reported by ps: Z is a zombie."""
    started: str
    """Start time within this boot; only for comparison."""
    parent: int = 0
    """Pid of the parent; 0 if the system does not report it."""
    session: int = 0
    threads: int = 1

    @property
    def is_zombie(self) -> bool:
        """Return whether the process is dead and not reaped.

        Its first thread may die before the others; until all are dead, its files, sockets and locks stay
        open.
        """
        return self.state.startswith("Z") and self.threads == 1


def look(pid: int) -> ProcessInfo | None:
    """Return the state of a process; None if it does not exist."""
    return _from_proc(pid) if ON_LINUX else _from_ps(pid)


def start_time(pid: int) -> str | None:
    """Return the start time of a process, in a form that no other process with this pid ever has; None if it
    does not exist.
    """
    found = look(pid)
    return _identity(found) if found else None


def is_alive(pid: int, started: str) -> bool:
    """Return whether the process with this start time (of `start_time`) is alive. A dead child process is
    reaped.
    """
    found = look(pid)
    if found is None or not started or _identity(found) != started:
        return False
    if found.is_zombie:
        with suppress(ChildProcessError):  # not a child of this process
            os.waitpid(pid, os.WNOHANG)
    return not found.is_zombie


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process of any host, as stored in Redis."""

    host: str
    pid: int
    started: str
    """Start of the process (`start_time`); empty if unknown."""

    def alive(self) -> bool | None:
        """Return whether the process runs; None if that cannot be determined here. A zombie does not run."""
        if self.host != socket.gethostname() or not self.started:
            return None
        found = look(self.pid)
        return found is not None and _identity(found) == self.started and not found.is_zombie


def this_process() -> ProcessIdentity:
    """Return the identity of this process."""
    return _own_identity(os.getpid())


@lru_cache(maxsize=16)
def _own_identity(pid: int) -> ProcessIdentity:
    return ProcessIdentity(host=socket.gethostname(), pid=pid, started=start_time(pid) or "")


def is_stopped(pid: int) -> bool:
    """Return whether a signal (SIGSTOP) or a debugger has stopped the process."""
    found = look(pid)
    return found is not None and found.state[:1] in ("T", "t")


def _identity(found: ProcessInfo) -> str:
    return f"{_BOOT_ID.read_text().strip()}:{found.started}" if ON_LINUX else found.started


def has_ended(child: int) -> bool:
    """Return whether a child of this process has ended, without reaping it: until then no other process
    or group gets its number. Raises ChildProcessError if it is no child, or was reaped.
    """
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    found = look(child)  # macOS with Python before 3.13
    return found is not None and found.is_zombie


def kill_group(group: int) -> None:
    """Kill a process group. A group that has ended is no error; macOS reports "not permitted" for zombies."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def all_pids() -> list[int]:
    """Return the pids of all processes (Linux)."""
    # pathlib takes three times as long.
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _from_proc(pid: int) -> ProcessInfo | None:
    try:
        # The name, in parentheses, may contain spaces and parentheses; the other fields follow the last
        # one.
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
    answer = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    state, _, began = answer.stdout.strip().partition(" ")
    return ProcessInfo(state=state, started=began.strip()) if began else None
