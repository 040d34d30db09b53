"""Find out whether the processes of a sandbox exceed its limits.

The kernel limits the memory of a single process. Only a control group could limit that of all processes
together, and needs rights that a worker seldom has. So the guard of a todo's command and the supervisor of
services count them. The guard imports this module, so it imports little.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OVER: Mapping[str, str] = {
    "memory": "{:,} bytes of memory were in use, more than the sandbox allows; raise its `memory`",
    "processes": "{:,} processes were alive, more than the sandbox allows; raise its `processes`",
}
"""Reason → text, if a command exceeds a limit of its sandbox."""


class SandboxLimits:
    """The limits of a sandbox, for all of its processes together, in bytes and processes; 0 means none."""

    def __init__(self, memory: int, processes: int) -> None:
        self.memory = memory
        self.processes = processes

    def exceeded(self, root: int, descendants: Callable[[int], Iterable[int]]) -> tuple[str, int] | None:
        """Return the limit that the processes below `root` exceed, and the number that exceeds it.
        `descendants` finds them where the kernel has no lists of children.
        """
        if not (self.memory or self.processes):
            return None
        listed = inside(root)
        pids = list(descendants(root)) if listed is None else listed
        if self.processes and len(pids) > self.processes:
            return "processes", len(pids)
        if self.memory and (used := sum(map(resident_bytes, pids))) > self.memory:
            return "memory", used
        return None


def inside(root: int) -> list[int] | None:
    """Return every process below `root`, by the kernel's lists of children: reading all of /proc takes ten
    times as long. None if the kernel has no such lists.
    """
    found: list[int] = []
    below = [root]
    while below:
        pid = below.pop()
        own = children(pid)
        if own is None and pid == root:
            return None
        below += own or ()
        found += own or ()
    return found


def children(pid: int) -> list[int] | None:
    """Return the children of all threads of a process; None if it has ended, or the kernel has no such
    lists.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 (pathlib costs 6 ms)
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as listed:  # noqa: PTH123
                found += map(int, listed.read().split())
    except OSError:
        return None
    return found


def resident_bytes(pid: int) -> int:
    """Return the memory that a process uses, without files that it has mapped."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:  # noqa: PTH123
            lines = status.read().split(b"\n")
    except OSError:
        return 0
    return sum(
        int(line.split()[1]) * 1024
        for line in lines
        if line.startswith((b"RssAnon:", b"RssShmem:", b"VmSwap:"))
    )
