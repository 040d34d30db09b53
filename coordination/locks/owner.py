"""Who asks for a lock: five fields, each kept apart in Redis, and never read out of a text.

Who holds or waits, as people read it.
"""

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
    """When the process began, in a form that no other process of this pid ever has."""
    thread: int
    label: str = ""
    """For people."""

    @cached_property
    def party(self) -> str:
        """The thread as one short word: whoever waits as one, and may be waited for as one, whatever it calls itself."""
        thread = (self.host, str(self.pid), self.started, str(self.thread))
        return blake2b("\n".join(thread).encode(), digest_size=8).hexdigest()

    @cached_property
    def values(self) -> tuple[str, ...]:
        return tuple(map(str, asdict(self).values()))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Field and value in turn."""
        return tuple(word for pair in zip(asdict(self), self.values, strict=True) for word in pair)

    def alive(self) -> bool | None:
        """Whether its process runs; None where it is on another host, of which we know nothing."""
        if self.host != socket.gethostname():
            return None
        return bool(self.started) and start_time(self.pid) == self.started

    def __str__(self) -> str:
        return f"{self.label or 'somebody'} (process {self.pid} on {self.host})"


def here(label: str = "") -> Owner:
    """This thread."""
    return _owner(os.getpid(), threading.get_native_id(), label)


@lru_cache(maxsize=1024)
def _owner(pid: int, thread: int, label: str) -> Owner:
    return Owner(host=socket.gethostname(), pid=pid, started=_started(pid), thread=thread, label=label)


@lru_cache(maxsize=16)
def _started(pid: int) -> str:
    return start_time(pid) or ""


def holder_words(request: Mapping[str, str]) -> str:
    """From the fields of a request: `process 12 on anvil (build)`, or `TODO-1 of run 20261121-1`."""
    if request.get("kind") == "todo":
        run, _, todo = request["id"].partition(" ")
        return f"{todo} of run {run}"
    pid, thread, label = (request.get(field, "") for field in ("pid", "thread", "label"))
    words = f"process {pid or '?'} on {request.get('host') or '?'}"
    if thread and thread != pid:  # not its first one
        words += f", thread {thread}"
    return f"{words} ({label})" if label else words
