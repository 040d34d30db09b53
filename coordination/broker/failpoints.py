"""Points at which a process can be made to fail: before and after whatever it asks of Redis, publishes, acknowledges, undoes.

    COORD_FAILPOINTS="run/claim.after=kill@2,publish.execute.before=lost,log=/tmp/reached"

Each is a point, what happens there, and at which hit (the first, if nothing is said). A point is a name with `.before` or
`.after`:

| name                             | what is about to be done, or is done                                                  |
|----------------------------------|---------------------------------------------------------------------------------------|
| `run/claim`, `lock/acquire` …    | a Lua step                                                                            |
| `runs.store.RunStore.due:zrange` | any other call of Redis: where it stands in our code, and redis-py's method           |
| `publish.execute` `.advance` `.level` | a message goes into a queue: a todo's, the end of a level, a level's todos      |
| `carrier.take` `.ack`            | a message that has left its queue is written down as unacknowledged; is acknowledged  |
| `carrier.size` `.join`           | the backend learns how large a level is; counts a todo of it                          |
| of `seams`                       | what a program has of its own                                                         |

`log` names a file that gets each point when it is reached, behind it the fault that strikes there.

Nothing of this is in the way of a process without the variable: the classes below are changed by `switch_on` alone, and
whoever does not call it does not import this file.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from types import FrameType
from typing import Any

import redis
from redis.client import Pipeline, PubSub

from coordination.backend.step_connection import StepCaller, StepConnection
from coordination.broker.celery_app import ADVANCE, EXECUTE, JoinBackend
from coordination.broker.kombu_transport import TolerantChannel, TolerantQoS
from coordination.broker.priority_transport import RankedQoS
from coordination.errors import UsageError

OURS = ("coordination.", "workers.")
PUBLISHES = ("publish.execute", "publish.advance", "publish.level")
CARRIER = ("carrier.take", "carrier.ack", "carrier.size", "carrier.join")
LOG = "log"
_STEPS = ("coordination.backend.library", "coordination.backend.step_connection")

Seam = tuple[type, str, str]
"""A class, its method, and the name of the points before and after each call of it."""
Name = str | Callable[..., str | None]
"""Of a call, or how it is told from the call's arguments; None where it has no points."""


class Fault(StrEnum):
    KILL = "kill"
    """SIGKILL."""
    STOP = "stop"
    """SIGSTOP; whoever watches the process decides when it goes on."""
    ERROR = "error"
    """Redis answers with an error that nobody expects."""
    LOST = "lost"
    """No answer comes. Before: what was asked is never done."""
    UNHEARD = "unheard"
    """No answer comes. After: what was asked is done."""


FAULTS = {
    "before": (Fault.KILL, Fault.STOP, Fault.ERROR, Fault.LOST),
    "after": (Fault.KILL, Fault.STOP, Fault.ERROR, Fault.UNHEARD),
}
"""What may happen where: what was done cannot be lost on the way, and what was not done cannot be done unheard."""
SIGNALS = {Fault.KILL: signal.SIGKILL, Fault.STOP: signal.SIGSTOP}


@dataclass(kw_only=True)
class Failpoints:
    faults: dict[tuple[str, int], Fault] = field(default_factory=dict)
    """By point and hit, counted from 1."""
    log: Path | None = None
    _hits: Counter[str] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        self.reach(f"{name}.before")
        yield
        self.reach(f"{name}.after")

    def reach(self, point: str) -> None:
        """Raises what the fault says; or the process is no more, or sleeps."""
        with self._guard:
            self._hits[point] += 1
            hit = self._hits[point]
            fault = self.faults.get((point, hit))
            self._write(point if fault is None else f"{point} {fault}")
        if fault in SIGNALS:
            os.kill(os.getpid(), SIGNALS[fault])
        elif fault is Fault.ERROR:
            raise redis.ResponseError(f"ERR the failpoint {point}")
        elif fault is not None:
            raise redis.TimeoutError(f"the failpoint {point}")

    def _write(self, line: str) -> None:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{line}\n")


def parse(words: str) -> Failpoints:
    """Raises UsageError."""
    found = Failpoints()
    for word in filter(None, words.split(",")):
        point, _, what = word.partition("=")
        if point == LOG:
            found.log = Path(what)
            continue
        fault, _, hit = what.partition("@")
        if fault not in FAULTS.get(point.rpartition(".")[2], ()) or not (hit or "1").isdecimal():
            raise UsageError(
                f"COORD_FAILPOINTS: {word!r}", "write POINT=FAULT or POINT=FAULT@HIT, as in backend/failpoints.py"
            )
        found.faults[point, int(hit or 1)] = Fault(fault)
    return found


def switch_on(words: str, seams: Iterable[Seam] = ()) -> None:
    """For the rest of this process, and before it makes its first client."""
    points, step = parse(words), _Step()
    _hook(points, StepCaller, "__call__", lambda _self, name, *_: name)
    _name_what_is_sent(step)
    _hook(points, StepConnection, "_ask", lambda *_: step.name)
    for owner, method in _CALLS:
        _hook(points, owner, method, partial(_place, method))
    _hook(points, TolerantChannel, "_put", _published)
    _hook(points, TolerantQoS, "append", "carrier.take")
    _hook(points, RankedQoS, "ack", "carrier.ack")
    _hook(points, JoinBackend, "set_chord_size", "carrier.size")
    _hook(points, JoinBackend, "on_chord_part_return", "carrier.join")
    for owner, method, name in seams:
        _hook(points, owner, method, name)


_CALLS: tuple[tuple[type, str], ...] = (
    (redis.Redis, "execute_command"),
    (Pipeline, "execute"),
    (Pipeline, "immediate_execute_command"),
    (PubSub, "execute_command"),
    (PubSub, "get_message"),
)


class _Step(threading.local):
    """What is being sent over a line by this thread. A line may send it several times: each is a call."""

    name: str | None = None


def _hook(points: Failpoints, owner: type, method: str, name: Name) -> None:
    plain = getattr(owner, method)

    @wraps(plain)
    def hooked(*args: Any, **options: Any) -> Any:
        called = name if isinstance(name, str) else name(*args, **options)
        if not called:
            return plain(*args, **options)
        with points.around(called):
            return plain(*args, **options)

    setattr(owner, method, hooked)


def _name_what_is_sent(step: _Step) -> None:
    _while_sent(step, "__call__", lambda _self, name, *_: name)
    _while_sent(step, "send", lambda _self, word, *_: f"{_standing(sys._getframe())}:{word.lower()}")


def _while_sent(step: _Step, method: str, name: Callable[..., str]) -> None:
    plain = getattr(StepConnection, method)

    @wraps(plain)
    def hooked(*args: Any, **options: Any) -> Any:
        outer, step.name = step.name, step.name or name(*args)
        try:
            return plain(*args, **options)
        finally:
            step.name = outer

    setattr(StepConnection, method, hooked)


def _published(_channel: object, _queue: str, message: Any, **_: Any) -> str | None:
    """None for what is no message of ours: Celery's events."""
    task = message["headers"].get("task")
    if task != EXECUTE:
        return "publish.advance" if task == ADVANCE else None
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_qualname.startswith("Dispatcher."):
        frame = frame.f_back
    # `follow` hands single todos to `send`, and sends whole levels itself.
    return "publish.level" if frame is not None and frame.f_code.co_name == "follow" else "publish.execute"


def _place(method: str, *_: object, **__: object) -> str | None:
    """Where in our code redis-py was called, and by which of its methods. None: it was not, or a step is under way."""
    frame = sys._getframe()
    while _module(frame) in (__name__, "contextlib") or _module(frame).startswith("redis."):
        if _module(frame) != __name__:
            method = frame.f_code.co_name
        if frame.f_back is None:
            return None
        frame = frame.f_back
    if not _module(frame).startswith(OURS) or _module(frame) in _STEPS:
        return None
    return f"{_standing(frame)}:{method}"


def _standing(frame: FrameType) -> str:
    """The innermost function of ours that is no part of a line: `runs.store.RunStore.due`, without the package's name."""
    while not _module(frame).startswith(OURS) or _module(frame) in (__name__, *_STEPS):
        assert frame.f_back is not None, "called from nowhere in our code"
        frame = frame.f_back
    parts = [part for part in frame.f_code.co_qualname.split(".") if not part.startswith("<")]
    return ".".join([_module(frame).removeprefix("coordination."), *parts])


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
