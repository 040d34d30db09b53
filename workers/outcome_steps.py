"""Take the one step in Redis that the outcome of an attempt asks for: settle, retry, park, or hand back.

The retry policy of a todo is applied here, and nowhere else.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import repeat
from typing import TypeVar

import redis

from coordination.backend.error_messages import cannot_write
from coordination.retry import retried
from coordination.runs.dispatch import Dispatcher
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.replies import Grant, Reply
from coordination.runs.retry_policy import Again, GiveUp, decide
from coordination.runs.store import RunStore
from workers.attempt.context import Context
from workers.attempt.logs import Log
from workers.cleanup.jobs import OVER, AutoCleanup
from workers.outcome import AttemptOutcome, OutcomeKind, TaskResult, TaskResultKind
from workers.transfer.commits import CommitTransfer
from workers.trust.signed_results import SignedResults
from workers.waits import RequestWaits, ServiceWaits
from workers.workspace.lock import Superseded

T = TypeVar("T")

PARKED_FOR = timedelta(seconds=5)
DEFERRED_FOR = timedelta(seconds=1)
"""The first delay; the step doubles it up to a minute."""
FOLLOWED_FOR = timedelta(seconds=10)
"""Delay before a parked todo looks at its service again, where this worker also follows the service."""
REDIS_RETRY_S = 0.5
LOST = TaskResult(TaskResultKind.LATER, "its lease was lost")

logger = logging.getLogger(__name__)


class OutcomeSteps:
    def __init__(
        self,
        *,
        store: RunStore,
        dispatcher: Dispatcher,
        transfer: CommitTransfer,
        context: Context,
        signed_results: SignedResults,
        auto_cleanup: AutoCleanup,
        lost_leases: int,
        unfit: Callable[[str], str],
        service_waits: ServiceWaits | None,
        request_waits: RequestWaits | None,
    ) -> None:
        """`lost_leases`: the setting. `unfit` returns why a repository cannot be used here, or an empty
        text. `service_waits`, `request_waits`: None where the worker may fire no todo.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._transfer = transfer
        self._context = context
        self._signed_results = signed_results
        self._auto_cleanup = auto_cleanup
        self._lost_leases = lost_leases
        self._unfit = unfit
        self._service_waits = service_waits
        self._request_waits = request_waits

    def take(self, grant: Grant, outcome: AttemptOutcome, log: Log) -> TaskResult:
        """Decide about a retry, close the log, and take the step; return the result for Celery."""
        retry_delay: timedelta | None = None
        outcome = replace(outcome, error=log.masked(outcome.error))
        if outcome.kind is OutcomeKind.FAILED:
            outcome, retry_delay = _after_failure(grant, outcome, log)
        log.close()  # before the step: a reader that sees the end of the todo finds all of its log
        why = outcome.error
        named = (grant.todo_id, grant.run_id)
        logger.info("%s of run %s: %s %s", *named, outcome.kind, why.partition("\n")[0])
        if self._request_waits:
            self._request_waits.forget(grant.run_id, grant.todo_id)
        match outcome.kind:
            case OutcomeKind.LOST:
                logger.warning("%s of run %s: its lease was lost, its command was stopped", *named)
                return LOST
            case OutcomeKind.SUPERSEDED:
                return self._refused(grant, why)
            case OutcomeKind.HANDED_BACK:
                return self._later(grant, lambda: self._store.hand_back(grant, outcome.output), "handed back")
            case OutcomeKind.BUSY:
                pause = outcome.again or PARKED_FOR
                return self._later(grant, lambda: self._store.park(grant, why, pause), why)
            case OutcomeKind.DEFERRED:
                return self._defer(grant, outcome)
        failed = outcome.kind is not OutcomeKind.SUCCEEDED
        if grant.undo and failed and (unfit := self._unfit(grant.spec.repo.name)):
            return self._later(grant, lambda: self._store.park(grant, unfit, PARKED_FOR), unfit)
        if retry_delay is not None:
            return self._retry(grant, outcome, retry_delay)
        return self._settle(grant, outcome)

    def refuse(self, grant: Grant, why: str, *, passing: bool) -> TaskResult:
        """Fail a todo that was not ordered; park it if the reason is this machine (`passing`)."""
        if passing:
            reply = self._step(grant, lambda: self._store.hold_up(grant, why, DEFERRED_FOR))
            return _settled_or_later(reply, why)
        result = AttemptOutcome(kind=OutcomeKind.REFUSED, error=why, blame="signature").result(
            TodoState.FAILED
        )
        reply = self._step(grant, lambda: self._store.settle(grant, result))
        return LOST if reply.word == "stale" else TaskResult(TaskResultKind.FAILED, why)

    def _defer(self, grant: Grant, outcome: AttemptOutcome) -> TaskResult:
        """Park the todo for a growing delay: passing trouble neither fails a todo nor rolls a run back."""
        limit = self._lost_leases if outcome.limited else 0
        why, blame = self._unfit(grant.spec.repo.name) or outcome.error, outcome.blame
        waits = self._service_waits if outcome.service else None
        delay = FOLLOWED_FOR if waits else outcome.again or DEFERRED_FOR
        reply = self._step(
            grant, lambda: self._store.hold_up(grant, why, delay, blame, limit, outcome.reason)
        )
        if waits and reply.word == "parked":
            waits.add(grant.run_id, grant.todo_id, outcome.service)
        if outcome.request and self._request_waits and reply.word == "parked":
            self._request_waits.add(grant.run_id, grant.todo_id, grant.spec.repo.name, outcome.request)
        return _settled_or_later(reply, why)

    def _later(self, grant: Grant, step: Callable[[], Reply], why: str) -> TaskResult:
        self._step(grant, step)
        return TaskResult(TaskResultKind.LATER, why)

    def _retry(self, grant: Grant, outcome: AttemptOutcome, delay: timedelta) -> TaskResult:
        result = outcome.result(TodoState.FAILED)
        reply = self._step(grant, lambda: self._store.retry(grant, delay, result))
        return _settled_or_later(reply, outcome.error)

    def _settle(self, grant: Grant, outcome: AttemptOutcome) -> TaskResult:
        state, kind = {
            OutcomeKind.SUCCEEDED: (TodoState.SUCCEEDED, TaskResultKind.DONE),
            OutcomeKind.CANCELLED: (TodoState.CANCELLED, TaskResultKind.CANCELLED),
        }.get(outcome.kind, (TodoState.FAILED, TaskResultKind.FAILED))
        if state is TodoState.SUCCEEDED:
            try:
                until_answered(lambda: self._transfer.send(grant, outcome))
            except Superseded as superseded:
                return self._refused(grant, superseded.message)
        brief = until_answered(lambda: self._context.brief(grant.run_id))
        result = outcome.result(state)
        result = replace(result, signed=self._signed_results.seal(grant, result, brief.change_set))
        reply = self._step(grant, lambda: self._store.settle(grant, result))
        if reply.word == "stale":
            return LOST
        if reply.status in OVER:
            self._auto_cleanup.clear(grant.run_id, reply.status)
            repos = set(brief.repo_of.values())
            # the newest run of a change set keeps its bundles, and has copied those of the earlier ones
            kept = brief.change_set and reply.status != RunStatus.ROLLED_BACK
            for run in brief.built_on if kept else (grant.run_id,):
                until_answered(partial(self._transfer.expire, run, repos))
        return TaskResult(kind, outcome.error)

    def _step(self, grant: Grant, step: Callable[[], Reply]) -> Reply:
        reply = until_answered(step)
        self._dispatcher.follow(reply)
        if reply.word == "stale":
            self._refused(grant, "another attempt holds the todo, or has settled it")
        return reply

    def _refused(self, grant: Grant, why: str) -> TaskResult:
        """Log and count the refused write of an attempt with an old fence, wherever its fence was checked."""
        line = f"the write of an old holder (fence {grant.fence}) was refused: {why}"
        logger.warning("%s of run %s: %s", grant.todo_id, grant.run_id, line)
        until_answered(lambda: self._store.refused(grant.run_id, grant.todo_id, grant.attempt, line))
        return LOST


def _after_failure(
    grant: Grant, outcome: AttemptOutcome, log: Log
) -> tuple[AttemptOutcome, timedelta | None]:
    """Return the outcome with the retry policy's reason, and the delay before the next attempt.

    The delay is None if there is no next attempt.
    """
    retry = grant.spec.retry
    draw = random.random()  # noqa: S311 -- jitter, no secret
    match decide(retry, grant.tries + 1, draw, outcome.failure):
        case Again(delay):
            attempts = f"attempt {grant.tries + 1} of {retry.attempts}"
            log.line(f"{attempts} failed; the next one starts in {delay.total_seconds():.3g} s")
            return outcome, delay
        case GiveUp(why) if why:
            log.line(why)
            return replace(outcome, error=f"{outcome.error} ({why})"), None
    return outcome, None


def until_answered(ask: Callable[[], T]) -> T:
    """Repeat a call until Redis answers, for ever: the outcome of an attempt must not be lost."""
    return retried(ask, repeat(REDIS_RETRY_S), _is_outage)


def _is_outage(error: Exception, _pause_s: float) -> bool:
    away = isinstance(error, redis.ConnectionError | redis.TimeoutError)
    if not away and not (isinstance(error, redis.RedisError) and cannot_write(error)):
        return False
    logger.warning("Redis does not answer, asking again: %s", error)
    return True


def _settled_or_later(reply: Reply, why: str) -> TaskResult:
    return TaskResult(TaskResultKind.FAILED if reply.word == "settled" else TaskResultKind.LATER, why)
