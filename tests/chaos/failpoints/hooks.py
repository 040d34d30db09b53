"""Fault injection: make a process of coord fail before or after a call of Redis, a publish or an ack.

    COORD_FAILPOINTS="run/claim.after=kill@2,publish.execute.before=lost,log=/tmp/reached"

Each entry is a point, a fault, and the number of the hit at which it happens (default: 1). A point is a name
with `.before` or `.after`:

| name                             | operation                                                          |
|----------------------------------|--------------------------------------------------------------------|
| `run/claim`, `lock/acquire` …    | a Lua step                                                         |
| `runs.store.RunStore.due:zrange` | any other call of Redis: calling function, and redis-py's method   |
| `publish.execute`                | the message of a todo is put into a queue                          |
| `publish.advance`                | the message that ends a level is put into a queue                  |
| `publish.level`                  | the messages of a level's todos are put into queues                |
| `celery.take`                   | a message taken from its queue is recorded as unacknowledged       |
| `celery.ack`                    | a message is acknowledged                                          |
| `celery.size`                   | the backend stores the size of a level                             |
| `celery.join`                   | the backend counts a todo of a level                               |
| names of `SEAMS`                 | methods of attempts                                                |

`log` names a file to which each point is appended when it is reached, followed by its fault, if any.

`switch_on` changes the classes below for the rest of a process. The fork server calls it for workers that
have the variable (`tests/fork_server.py`), the sweep of failpoints for all its programs (`programs.py`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
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
from coordination.broker.transport import RankedQoS, TolerantChannel, TolerantQoS
from workers.attempt.actions import Compensate
from workers.landing.attempt import Attempt
from workers.landing.direct import DirectLanding
from workers.landing.requests.land import RequestLanding
from workers.landing.requests.revert import RequestRevert

OURS = ("coordination.", "workers.")
PUBLISHES = ("publish.execute", "publish.advance", "publish.level")
CELERY = ("celery.take", "celery.ack", "celery.size", "celery.join")
LOG = "log"
_STEPS = ("coordination.backend.library", "coordination.backend.step_connection")

Seam = tuple[type, str, str]
"""A class, its method, and the name of the points before and after each call of the method."""
SEAMS_OF_REQUESTS: tuple[Seam, ...] = (
    (RequestLanding, "_merge", "land.merge"),
    (RequestRevert, "_open", "revert.open"),
    (RequestRevert, "_merge", "revert.merge"),
)
SEAMS: tuple[Seam, ...] = (
    (Compensate, "compensated", "compensate.begin"),
    (Compensate, "keep_result", "compensate.end"),
    (Compensate, "after_leave", "compensate.remove"),
    (DirectLanding, "_record", "land.record"),
    (Attempt, "pushed", "land.push"),
    *SEAMS_OF_REQUESTS,
)
Name = str | Callable[..., str | None]
"""Name of a call, or a function that derives it from the call's arguments; None for a call without points."""


class Fault(StrEnum):
    KILL = "kill"
    """SIGKILL."""
    STOP = "stop"
    """SIGSTOP; the test decides when the process continues."""
    ERROR = "error"
    """Redis replies with an unexpected error."""
    LOST = "lost"
    """No reply, and the operation is not executed (`.before`)."""
    UNHEARD = "unheard"
    """No reply, although the operation was executed (`.after`)."""


FAULTS = {
    "before": (Fault.KILL, Fault.STOP, Fault.ERROR, Fault.LOST),
    "after": (Fault.KILL, Fault.STOP, Fault.ERROR, Fault.UNHEARD),
}
"""Faults allowed before and after an operation."""
SIGNALS = {Fault.KILL: signal.SIGKILL, Fault.STOP: signal.SIGSTOP}


@dataclass(kw_only=True)
class Failpoints:
    faults: dict[tuple[str, int], Fault] = field(default_factory=dict)
    """Faults by point and hit; hits are counted from 1."""
    log: Path | None = None
    _hits: Counter[str] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        self.reach(f"{name}.before")
        yield
        self.reach(f"{name}.after")

    def reach(self, point: str) -> None:
        """Count a hit of the point, and apply its fault: raise an error, or kill or stop the process."""
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
    """Parse COORD_FAILPOINTS. Raises ValueError."""
    found = Failpoints()
    for word in filter(None, words.split(",")):
        point, _, what = word.partition("=")
        if point == LOG:
            found.log = Path(what)
            continue
        fault, _, hit = what.partition("@")
        if fault not in FAULTS.get(point.rpartition(".")[2], ()) or not (hit or "1").isdecimal():
            raise ValueError(f"COORD_FAILPOINTS: {word!r}: write POINT=FAULT or POINT=FAULT@HIT")
        found.faults[point, int(hit or 1)] = Fault(fault)
    return found


def switch_on(words: str) -> None:
    """Hook the points into the classes, for the rest of this process. Call it before creating a client."""
    points, step = parse(words), _Step()
    _hook(points, StepCaller, "__call__", lambda _self, step, *_: step.name)
    _track_sent_step(step)
    _hook(points, StepConnection, "_ask", lambda *_: step.name)
    for owner, method in _CALLS:
        _hook(points, owner, method, partial(_point_of_call, method))
    _hook(points, TolerantChannel, "_put", _published)
    _hook(points, TolerantQoS, "append", "celery.take")
    _hook(points, RankedQoS, "ack", "celery.ack")
    _hook(points, JoinBackend, "set_chord_size", "celery.size")
    _hook(points, JoinBackend, "on_chord_part_return", "celery.join")
    for owner, method, name in SEAMS:
        _hook(points, owner, method, name)


_CALLS: tuple[tuple[type, str], ...] = (
    (redis.Redis, "execute_command"),
    (Pipeline, "execute"),
    (Pipeline, "immediate_execute_command"),
    (PubSub, "execute_command"),
    (PubSub, "get_message"),
)


class _Step(threading.local):
    """The step that this thread is sending over a StepConnection; each repetition is a call of its own."""

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


def _track_sent_step(step: _Step) -> None:
    _while_sent(step, "__call__", lambda _self, called, *_: called.name)
    _while_sent(step, "send", lambda _self, word, *_: f"{_function_of_coord(sys._getframe())}:{word.lower()}")


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
    """Return the point of a published message; None for messages of Celery, such as its events."""
    task = message["headers"].get("task")
    if task != EXECUTE:
        return "publish.advance" if task == ADVANCE else None
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_qualname.startswith("Dispatcher."):
        frame = frame.f_back
    # `follow` passes single todos to `send`, and sends whole levels itself.
    return "publish.level" if frame is not None and frame.f_code.co_name == "follow" else "publish.execute"


def _point_of_call(method: str, *_: object, **__: object) -> str | None:
    """Return the function of coord that called redis-py, and the method of redis-py.

    Returns None if coord did not call it, or if it is part of a step.
    """
    frame = sys._getframe()
    while _module(frame) in (__name__, "contextlib") or _module(frame).startswith("redis."):
        if _module(frame) != __name__:
            method = frame.f_code.co_name
        if frame.f_back is None:
            return None
        frame = frame.f_back
    if not _module(frame).startswith(OURS) or _module(frame) in _STEPS:
        return None
    return f"{_function_of_coord(frame)}:{method}"


def _function_of_coord(frame: FrameType) -> str:
    """Return the innermost function of coord outside the step modules, such as `runs.store.RunStore.due`."""
    while not _module(frame).startswith(OURS) or _module(frame) in (__name__, *_STEPS):
        assert frame.f_back is not None, "no caller in coord's code"
        frame = frame.f_back
    parts = [part for part in frame.f_code.co_qualname.split(".") if not part.startswith("<")]
    return ".".join([_module(frame).removeprefix("coordination."), *parts])


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
