"""Identity of a requester of locks, stored as separate fields in Redis, and its description for people."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b

from coordination.processes import start_time


@dataclass(frozen=True, kw_only=True)
class Owner:
    host: str
    pid: int
    started: str
    """Start of the process, in a form that no other process with this pid ever has."""
    thread: int
    label: str = ""
    """Text for people."""

    @cached_property
    def party(self) -> str:
        """Short id of the thread, which waits and is waited for as one party, whatever its label."""
        thread = (self.host, str(self.pid), self.started, str(self.thread))
        return blake2b("\n".join(thread).encode(), digest_size=8).hexdigest()

    @cached_property
    def values(self) -> tuple[str, ...]:
        return tuple(map(str, asdict(self).values()))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Field names and values, alternating."""
        return tuple(word for pair in zip(asdict(self), self.values, strict=True) for word in pair)

    def alive(self) -> bool | None:
        """Return whether the process runs; None if it is on another host."""
        if self.host != socket.gethostname():
            return None
        return bool(self.started) and start_time(self.pid) == self.started

    def __str__(self) -> str:
        return f"{self.label or 'a process'} (process {self.pid} on {self.host})"


def current_owner(label: str = "") -> Owner:
    """Return the owner for the current thread."""
    return _owner(os.getpid(), threading.get_native_id(), label)


@lru_cache(maxsize=1024)
def _owner(pid: int, thread: int, label: str) -> Owner:
    return Owner(host=socket.gethostname(), pid=pid, started=_started(pid), thread=thread, label=label)


@lru_cache(maxsize=16)
def _started(pid: int) -> str:
    return start_time(pid) or ""


def holder_words(request: Mapping[str, str]) -> str:
    """Describe the fields of a request: `process 12 on anvil (build)`, or `TODO-1 of run 20261121-1`."""
    if request.get("kind") == "todo":
        run, _, todo = request["id"].partition(" ")
        return f"{todo} of run {run}"
    pid, thread, label = (request.get(field, "") for field in ("pid", "thread", "label"))
    words = f"process {pid or '?'} on {request.get('host') or '?'}"
    if thread and thread != pid:  # not the main thread
        words += f", thread {thread}"
    return f"{words} ({label})" if label else words
