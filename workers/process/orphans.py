"""Find and end the processes of an attempt whose guard has died, and no other process.

A process belongs to the attempt if (Linux)

* its soft limit of file locks is the attempt's mark, or
* the environment that it was started with has the attempt's idempotency key *and* fence, or
* it is in the session that the guard made for the command, and the session is certainly still the same: its
  leader has the recorded start time, or the process works inside the workspace. (The number of a session is a
  pid, which the system may use again once the session is empty.)

The mark is a random number that the guard sets as RLIMIT_LOCKS of the command before exec. Linux has not read
that limit since 2.6. Every child inherits it, also into a new session, with an empty environment or in
another folder. An open file as a mark would be lost to every daemon that closes what it inherits.
/proc/PID/limits shows it to all users. A process that sets that limit itself (`ulimit -x`) loses the mark,
and has only the other two signs.

Elsewhere only the process group is known, and only while its leader lives. This process and its ancestors are
spared in any case: a worker may itself have been started by a todo.
"""

from __future__ import annotations

import os
import re
import resource
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.processes import ON_LINUX, all_pids, kill_group, look
from workers.process import guard

KEY = "COORD_IDEMPOTENCY_KEY"
FENCE = "COORD_FENCE"
POLL_S = 0.02
LIMIT_OF_LOCKS = re.compile(r"^Max file locks +(\d+)", re.MULTILINE)
HIGHEST_MARK = 1 << 62
QUIET_S = 0.2
"""For how long no process must be found: a process has no environment to identify it during exec."""


@dataclass(frozen=True, kw_only=True)
class ProcessMarker:
    """The signs by which the processes of one attempt are known."""

    key: str
    fence: str
    workspace: Path
    mark: int = 0
    """0 if they carry none."""
    group: int | None = None
    group_started: str = ""
    inside: bool = False
    """True if its variables count only for processes inside the workspace."""

    @classmethod
    def of(cls, env: Mapping[str, str], workspace: Path, mark: int = 0) -> ProcessMarker:
        return cls(key=env.get(KEY, ""), fence=env.get(FENCE, ""), workspace=workspace, mark=mark)


def new_mark() -> int:
    """Return a number by which the processes of one attempt are known; 0 where the system cannot carry it."""
    if not ON_LINUX:
        return 0
    _, hard = resource.getrlimit(guard.RLIMIT_LOCKS)
    highest = HIGHEST_MARK if hard == resource.RLIM_INFINITY else hard
    return 1 + secrets.randbelow(highest) if highest >= 1 << 32 else 0


def is_alive(marker: ProcessMarker) -> bool:
    """Return whether a process of the attempt lives. Quick, because each attempt calls it at its end."""
    if not ON_LINUX:
        return False
    signs = (
        [f"{KEY}={marker.key}".encode(), f"{FENCE}={marker.fence}".encode()]
        if marker.key and marker.fence
        else []
    )
    mark = str(marker.mark).encode() if marker.mark else b""
    for name in os.listdir("/proc"):  # noqa: PTH208 (pathlib takes three times as long)
        if name.isdigit() and _shows(name, mark, signs) and int(name) in find(marker):
            return True
    return False


def _shows(pid: str, mark: bytes, signs: list[bytes]) -> bool:
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123
            if mark and mark in file.read():
                return True
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            environ = file.read()
    except OSError:  # it has ended, or is another user's
        return False
    return bool(signs) and all(sign in environ for sign in signs)


def end(marker: ProcessMarker, within: timedelta) -> set[int]:
    """Kill the attempt's processes and wait until they are gone; return those left after `within`."""
    begun = quiet_since = time.monotonic()
    while True:
        alive = find(marker)
        now = time.monotonic()
        quiet_since = now if alive else quiet_since
        if now - quiet_since >= QUIET_S or now - begun >= within.total_seconds():
            return alive
        for pid in alive:
            _kill(pid, marker)
        time.sleep(POLL_S)  # the system reports no end of a process that is not our child


def find(marker: ProcessMarker) -> set[int]:
    if not ON_LINUX:
        return _group_if_the_same(marker)
    spared = _self_and_ancestors()
    return {pid for pid in all_pids() if pid not in spared and _belongs(pid, marker)}


def started(pid: int) -> str:
    """Return when a process of this boot began, as a text to compare; empty if there is no such process."""
    found = look(pid)
    return found.started if found else ""


def _group_if_the_same(marker: ProcessMarker) -> set[int]:
    same = marker.group and marker.group_started and started(marker.group) == marker.group_started
    return {marker.group} if same and marker.group else set()


def _kill(pid: int, marker: ProcessMarker) -> None:
    try:
        if not ON_LINUX:
            return kill_group(pid)
        handle = os.pidfd_open(pid)  # from here on the pid cannot be reused
        try:
            if _belongs(pid, marker):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
    except OSError:
        pass  # gone, or not ours to kill: the next look tells


def _belongs(pid: int, marker: ProcessMarker) -> bool:
    found = look(pid)
    if found is None or found.state in ("Z", "X"):
        return False
    return (
        _has_mark(pid, marker)
        or _has_key(pid, marker)
        or (marker.group is not None and found.session == marker.group and _session_is_the_same(pid, marker))
    )


def _has_mark(pid: int, marker: ProcessMarker) -> bool:
    if not marker.mark:
        return False
    try:
        limit = LIMIT_OF_LOCKS.search(Path(f"/proc/{pid}/limits").read_text())
    except OSError:
        return False
    return limit is not None and int(limit[1]) == marker.mark


def _has_key(pid: int, marker: ProcessMarker) -> bool:
    if not marker.key or not marker.fence:
        return False
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    both = f"{KEY}={marker.key}".encode() in environ and f"{FENCE}={marker.fence}".encode() in environ
    return both and (not marker.inside or _works_inside(pid, marker))


def _session_is_the_same(pid: int, marker: ProcessMarker) -> bool:
    if marker.group and marker.group_started and started(marker.group) == marker.group_started:
        return True
    return _works_inside(pid, marker)


def _works_inside(pid: int, marker: ProcessMarker) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(marker.workspace.resolve())
    except OSError:
        return False


def _self_and_ancestors() -> set[int]:
    spared, pid = set(), os.getpid()
    while pid > 0 and pid not in spared:
        spared.add(pid)
        found = look(pid)
        pid = found.parent if found else 0
    return spared
