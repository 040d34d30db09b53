"""The two Celery tasks. Thin: one deed each, and the carrier is told what it came to.

A chord counts a header when its task returns. So a delivery that does not end its todo must not return (it raises Ignore, and
Flower is told `task-retried`); and a todo that failed must count all the same, so its part is reported by hand.
"""

from __future__ import annotations

import gc
import logging
import traceback
from typing import Any, Protocol

import redis
from celery import Celery, Task
from celery.exceptions import Ignore
from celery.result import states
from celery.worker.state import requests, total_count

from coordination.broker.celery_app import ADVANCE, EXECUTE
from coordination.runs.dispatch import Dispatcher
from workers.outcome import TaskResult, TaskResultKind

NAMES_KEPT = 1000

logger = logging.getLogger(__name__)


class CarriesOut(Protocol):
    def carry_out(self, run_id: str, todo_id: str, attempt: int, repo: str) -> TaskResult: ...


def register(app: Celery, attempts: CarriesOut, dispatcher: Dispatcher, *, joins: bool = True) -> None:
    """`joins`: whether this worker counts the parts of a level itself; else who does its steps counts them."""

    @app.task(name=EXECUTE, bind=True)  # type: ignore[untyped-decorator]
    def execute(self: Task, run_id: str, todo_id: str, attempt: int, repo: str) -> None:
        if not joins:
            self.request.update(chord=None, chain=None)
        verdict = _verdict(attempts, run_id, todo_id, attempt, repo)
        if verdict.kind is TaskResultKind.DONE:
            return
        if verdict.kind is TaskResultKind.LATER:
            _tell(self, "task-retried", verdict.why)
        else:
            _count(app, self)
        if verdict.kind is TaskResultKind.FAILED:
            _tell(self, "task-failed", verdict.why)
        if verdict.kind is TaskResultKind.CANCELLED and (request := requests.get(self.request.id)):
            request.send_event("task-revoked", terminated=True, signum=None, expired=False)
        raise Ignore

    @app.task(name=ADVANCE)  # type: ignore[untyped-decorator]
    def advance(run_id: str, level: int) -> None:
        try:
            dispatcher.advance(run_id, level, "join")
        except Exception:
            logger.error("level %s of run %s: left to the reaper\n%s", level, run_id, traceback.format_exc())
            raise


def _tell(task: Task, what: str, why: str) -> None:
    """Flower, behind what it was told of the task before: a task's own `send_event` would overtake that."""
    if request := requests.get(task.request.id):
        request.send_event(what, exception=why, traceback="")


def forget_names() -> None:
    """Celery counts what it has done by name, for ever, and the name of a task is that of its todo."""
    if len(total_count) > NAMES_KEPT:
        total_count.clear()


def collect() -> None:
    """Each `Ignore` leaves a cycle with copies of all frames behind it: 100 kB that the collector counts as a few objects. It
    would come for them too late, and the worker grow by 38 kB a run (measured over 1,000).
    """
    gc.collect()


def _verdict(attempts: CarriesOut, run_id: str, todo_id: str, attempt: int, repo: str) -> TaskResult:
    try:
        return attempts.carry_out(run_id, todo_id, attempt, repo)
    except redis.ResponseError as error:
        words = "%s of run %s: its records in Redis are damaged: %s; left to the reaper (see: coord doctor)"
        logger.error(words, todo_id, run_id, str(error).partition("\n")[0])
        return TaskResult(TaskResultKind.LATER, f"its records in Redis are damaged: {error}")
    except Exception as error:
        logger.exception("%s of run %s: left to the reaper, which takes it up when its lease runs out", todo_id, run_id)
        return TaskResult(TaskResultKind.LATER, f"{type(error).__name__}: {error}")


def _count(app: Celery, task: Task) -> None:
    """The todo's part of its level is done, although its task does not return."""
    request: Any = task.request
    if request.chord:
        app.backend.on_chord_part_return(request, states.SUCCESS, None)
    elif request.chain:
        app.signature(request.chain[-1]).apply_async()
