"""Decides when a dead local process is restarted, and keeps the list of restarts.

Failures

* The worker, the embedded server or Flower dies: a process that needs it (a sweep, `up`, after `--detach` the
  supervisor) restarts it, the first time at once, then after 1, 2, 4 and 8 s. The next worker executes the
  todos of a killed one.
* A process dies six times within five minutes: it is given up. Commands that wait for it end with an error
  that contains the end of its log; the next command that needs it starts it again and resets the count.
* The supervising process is killed: the processes keep running, and the next command takes over.
* Two processes notice a death at once: the lock `fleet.lock` is held from the check to the restart, so only
  one restarts it.
* The list cannot be read or written: restarts continue, so that a full disk prevents none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from coordination.background import BackgroundService
from coordination.errors import CoordinationError
from coordination.files import replace_file

LOOK_S = 0.5
"""Seconds between two checks for dead processes."""
WINDOW_S = 300.0
"""Time within which restarts are counted."""
LIMIT = 5
"""Number of restarts allowed within the window."""
FIRST_DELAY_S = 1.0
"""Delay before the second restart within the window, doubled for each further one."""
KEPT = 50
"""Number of restarts in the file."""
FILE = "restarts.json"


@dataclass(frozen=True, kw_only=True)
class Restart:
    """A process that had died and was restarted or given up."""

    name: str
    at: float
    """Seconds since 1970."""
    died: int
    """Pid of the process that died."""
    pid: int = 0
    """Pid of the new process; 0 if it did not start."""
    given_up: bool = False
    """The process is not restarted any more."""


class Restarts:
    """Restarts recorded in a state folder, oldest first. Writing requires the lock `fleet.lock`; reading does
    not.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE

    def read(self) -> tuple[Restart, ...]:
        try:
            return tuple(Restart(**row) for row in json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):  # missing or damaged
            return ()

    def recent(self, now: float | None = None) -> tuple[Restart, ...]:
        """Return the restarts within the window."""
        now = time.time() if now is None else now
        return tuple(restart for restart in self.read() if now - WINDOW_S < restart.at <= now)

    def add(self, restart: Restart) -> None:
        self._write([*self.read(), restart][-KEPT:])

    def forget(self, names: Collection[str]) -> None:
        """Reset the count of these processes, because a command requested them."""
        before = self.read()
        after = [restart for restart in before if restart.name not in names]
        if len(after) != len(before):
            self._write(after)

    def _write(self, restarts: Sequence[Restart]) -> None:
        with suppress(OSError):
            replace_file(
                self._path, json.dumps([asdict(restart) for restart in restarts]).encode(), durable=False
            )


def delay_s(recent: Sequence[Restart], now: float) -> float | None:
    """Return the seconds until a process with these restarts may be restarted; None if it is given up."""
    if len(recent) >= LIMIT or any(restart.given_up for restart in recent):
        return None
    if not recent:
        return 0.0
    wait_s: float = FIRST_DELAY_S * 2 ** (len(recent) - 1)
    return max(0.0, recent[-1].at + wait_s - now)


class Revival(BackgroundService):
    """Restarts dead processes while this process needs them."""

    name = "supervision"
    interval_s = LOOK_S
    join_s = 0.0
    """`Local.leave` does not wait for a round, because it holds the lock `fleet.lock` that a round may need.
    """

    def __init__(self, revive: Callable[[], object]) -> None:
        super().__init__()
        self._revive = revive

    def run_once(self) -> object:
        return self._revive()

    def failed(self, error: Exception) -> float:
        """Ignore a full disk: a dead process is noticed in a later round."""
        return self.interval_s if isinstance(error, CoordinationError | OSError) else super().failed(error)
