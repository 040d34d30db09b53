"""Decide when a local process that has died is started again, and keep the list of restarts that everybody here can read.

What happens on each failure

* The worker, the embedded server or Flower dies: whoever needs it (a sweep, `up`, after `--detach` the supervisor) starts it
  again, the first time at once, then after 1, 2, 4 and 8 s. The todos of a killed worker are taken up by the next one.
* It dies six times within five minutes: it is given up. Whoever waits for it ends with an error that holds the last lines of
  its log; the next command that needs it starts it again, and the count begins anew.
* The process that looks after it is killed: what runs goes on without it, and the next command takes over.
* Two look at once: the fleet's lock is held from the look to the restart, so that one of them starts it.
* The list cannot be read or written: counted is what is known, so that a full disk stops no restart.
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
"""How soon a dead process is seen."""
WINDOW_S = 300.0
LIMIT = 5
"""So many restarts within the window at most."""
FIRST_DELAY_S = 1.0
"""Before the second restart within the window; doubled for each further one."""
KEPT = 50
FILE = "restarts.json"


@dataclass(frozen=True, kw_only=True)
class Restart:
    """A process that had died and was started again, or given up."""

    name: str
    at: float
    """In seconds since 1970."""
    died: int
    """The pid of the one that died."""
    pid: int = 0
    """The pid of the new one; 0 where none came of it."""
    given_up: bool = False
    """It is not started again."""


class Restarts:
    """The restarts of one state folder, oldest first.

    Change them under the fleet's lock; anybody may read.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE

    def read(self) -> tuple[Restart, ...]:
        try:
            return tuple(Restart(**row) for row in json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):  # none yet, or written by somebody else
            return ()

    def recent(self, now: float | None = None) -> tuple[Restart, ...]:
        """Those within the window."""
        now = time.time() if now is None else now
        return tuple(restart for restart in self.read() if now - WINDOW_S < restart.at <= now)

    def add(self, restart: Restart) -> None:
        self._write([*self.read(), restart][-KEPT:])

    def forget(self, names: Collection[str]) -> None:
        """Count these anew: somebody has asked for them."""
        before = self.read()
        after = [restart for restart in before if restart.name not in names]
        if len(after) != len(before):
            self._write(after)

    def _write(self, restarts: Sequence[Restart]) -> None:
        with suppress(OSError):
            replace_file(self._path, json.dumps([asdict(restart) for restart in restarts]).encode(), durable=False)


def delay_s(recent: Sequence[Restart], now: float) -> float | None:
    """Return the seconds until a process with these recent restarts may be started again.

    None: not any more.
    """
    if len(recent) >= LIMIT or any(restart.given_up for restart in recent):
        return None
    if not recent:
        return 0.0
    wait_s: float = FIRST_DELAY_S * 2 ** (len(recent) - 1)
    return max(0.0, recent[-1].at + wait_s - now)


class Revival(BackgroundService):
    """Start again what dies, for as long as this process needs it."""

    name = "supervision"
    interval_s = LOOK_S
    join_s = 0.0
    """The process that leaves holds the fleet's lock, for which a round may wait."""

    def __init__(self, revive: Callable[[], object]) -> None:
        super().__init__()
        self._revive = revive

    def run_once(self) -> object:
        return self._revive()

    def failed(self, error: Exception) -> float:
        """Expect a full disk: a process that dies meanwhile is seen later."""
        return self.interval_s if isinstance(error, CoordinationError | OSError) else super().failed(error)
