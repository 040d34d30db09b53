"""A delivery, from the claim to the step that its attempt came to. At most three round trips on our own connection."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from coordination.backend.error_messages import cannot_write
from coordination.models import secrets_of
from coordination.runs.dispatch import Dispatcher
from coordination.runs.presence import Worker
from coordination.runs.records import Grant, Reply, Result, RunStatus, TodoState
from coordination.runs.retry_policy import Again, GiveUp, decide
from coordination.runs.shared import ContextCalls
from coordination.runs.store import RunStore
from workers.attempt import Attempt
from workers.attempt_environment import AttemptEnvironment
from workers.cleanup.jobs import OVER, AutoCleanup
from workers.context import Context
from workers.context_socket import served
from workers.leases import Leases
from workers.logs import Log
from workers.outcome import AttemptOutcome, OutcomeKind, TaskResult, TaskResultKind
from workers.result_cache import Results
from workers.transfer.bundles import BundleStore
from workers.transfer.commits import CommitTransfer, PredecessorPaths
from workers.workspace.lock import Superseded

if TYPE_CHECKING:
    from workers.app import WorkerConfig

T = TypeVar("T")

PARKED_FOR = timedelta(seconds=5)
HINDERED_FOR = timedelta(seconds=1)
"""The first time; the step doubles it up to a minute."""
REDIS_RETRY_S = 0.5
LOST = "its lease was lost"

logger = logging.getLogger(__name__)


class DeliveryHandler:
    def __init__(
        self,
        store: RunStore,
        dispatcher: Dispatcher,
        leases: Leases,
        worker: Worker,
        config: WorkerConfig,
        bundles: BundleStore,
        contexts: ContextCalls,
        results: Results | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._leases = leases
        self._worker = worker
        self._config = config
        self._contexts = contexts
        self._results = results
        self._transfer = CommitTransfer(bundles, config)
        predecessor_paths = PredecessorPaths(self._transfer.fetcher, config.state)
        self._context = Context(store, predecessor_paths, config.settings.context_limit_bytes)
        self.auto_cleanup = AutoCleanup(store, config.state, config.places)
        self._running: set[Attempt] = set()
        self._guard = threading.Lock()

    def carry_out(self, run_id: str, todo_id: str, attempt: int, repo: str) -> TaskResult:
        """What the delivery came to; never raises for what a todo does."""
        with self._config.served.in_hand(repo):
            return self._carried_out(run_id, todo_id, attempt, repo)

    def _carried_out(self, run_id: str, todo_id: str, attempt: int, repo: str) -> TaskResult:
        request = uuid.uuid4().hex
        reply = self._until_answered(
            lambda: self._store.claim(
                run_id,
                todo_id,
                attempt,
                worker=self._worker.id,
                host=self._worker.host,
                lease=self._config.settings.lease_ttl,
                request=request,
                unfit=self._unfit(repo),
                short=self._short(repo),
            )
        )
        self._dispatcher.follow(reply)
        if reply.grant is None:
            if reply.word == "ended":
                return TaskResult(
                    TaskResultKind.CANCELLED if reply.status == RunStatus.CANCELLED else TaskResultKind.ENDED,
                    reply.word,
                )
            return TaskResult(TaskResultKind.LATER, reply.word)
        return self._perform(reply.grant)

    def _unfit(self, repo: str) -> str:
        why = self._config.unfit(repo)
        return f"a worker for {repo}: on host {self._worker.host} {why}" if why else ""

    def _short(self, repo: str) -> str:
        why = self._config.short()
        return f"room on a disk for {repo}: on host {self._worker.host} {why}" if why else ""

    def hand_back_all(self) -> None:
        """Kill what runs here and give it back; for a worker that was told twice to stop."""
        with self._guard:
            running = tuple(self._running)
        for attempt in running:
            attempt.stop(OutcomeKind.HANDED_BACK, at_once=True)
        deadline = time.monotonic() + self._config.settings.kill_grace.total_seconds()
        while self._running and time.monotonic() < deadline:
            time.sleep(0.02)  # the threads that wait for the children hand them back

    def say(self, run_id: str, line: str) -> None:
        """In the logs of the run's todos that run here."""
        with self._guard:
            concerned = [attempt for attempt in self._running if attempt.grant.run_id == run_id]
        for attempt in concerned:
            attempt.say(line)

    def _perform(self, grant: Grant) -> TaskResult:
        path, limit = (
            self._config.state / "logs" / grant.run_id / f"{grant.todo_id}.log",
            self._config.settings.log_limit_bytes,
        )
        log = Log(
            lambda text, skipped: self._store.log(
                grant.run_id, grant.todo_id, grant.attempt, text, skipped, str(path), limit
            ),
            path,
            limit_bytes=limit,
            secrets=secrets_of(grant.spec.todo),
        )
        attempt = Attempt(grant, self._attempt_environment(grant, log), log)
        with self._guard:
            self._running.add(attempt)
        self._leases.add(
            grant,
            lost=lambda: attempt.stop(OutcomeKind.LOST),
            stop=lambda: attempt.stop(OutcomeKind.CANCELLED),
            checkpoint=attempt.checkpoint,
        )
        try:
            attempt_outcome = _judged(grant, attempt.run(), log)
            log.close()  # before the step: whoever sees the end of the todo finds all of its log
            verdict = self._conclude(grant, attempt_outcome)
            if verdict.kind is TaskResultKind.DONE:
                attempt.on_accepted()
            elif attempt_outcome.tip and verdict.kind is TaskResultKind.LATER:
                attempt.take_back()
            return verdict
        finally:
            log.close()
            attempt.close()
            self._leases.remove(grant)
            with self._guard:
                self._running.discard(attempt)

    def _attempt_environment(self, grant: Grant, log: Log) -> AttemptEnvironment:
        brief = self._until_answered(lambda: self._context.brief(grant.run_id))
        runs = (grant.run_id, *brief.carried_from)
        return AttemptEnvironment(
            brief=brief,
            context=cache(lambda: self._told(grant, log)),
            state=self._config.state,
            checkout=self._config.places[grant.spec.repo.name],
            output_limit_bytes=self._config.settings.output_limit_bytes,
            connection=lambda: served(
                self._contexts, grant.run_id, grant.todo_id, self._config.settings.cache_value_bytes
            ),
            results=self._results,
            fetch=lambda *what: self._until_answered(lambda: self._transfer.fetch(grant, runs, *what)),
            withdraw=lambda: self._until_answered(lambda: self._transfer.withdraw(grant, runs)),
        )

    def _told(self, grant: Grant, log: Log) -> dict[str, Any]:
        context = self._until_answered(lambda: self._context.of(grant))
        for why in dict.fromkeys(one["why"] for one in context["predecessors"] if "why" in one):
            log.say(why)
        return context

    def _conclude(self, grant: Grant, attempt_outcome: AttemptOutcome) -> TaskResult:
        why = attempt_outcome.why
        logger.info("%s of run %s: %s %s", grant.todo_id, grant.run_id, attempt_outcome.word, why.partition("\n")[0])
        if attempt_outcome.word is OutcomeKind.LOST:
            return TaskResult(TaskResultKind.LATER, LOST)
        if attempt_outcome.word is OutcomeKind.SUPERSEDED:
            return self._refused(grant, why)
        if attempt_outcome.word is OutcomeKind.HANDED_BACK:
            return self._later(grant, lambda: self._store.hand_back(grant, attempt_outcome.output), "handed back")
        if attempt_outcome.word is OutcomeKind.BUSY:
            return self._later(grant, lambda: self._store.park(grant, why, attempt_outcome.again or PARKED_FOR), why)
        if attempt_outcome.word is OutcomeKind.HINDERED:
            return self._hold_up(grant, attempt_outcome)
        if (
            grant.undo
            and attempt_outcome.word is not OutcomeKind.SUCCEEDED
            and (unfit := self._unfit(grant.spec.repo.name))
        ):
            return self._later(grant, lambda: self._store.park(grant, unfit, PARKED_FOR), unfit)
        if attempt_outcome.again is not None:
            return self._try_again(grant, attempt_outcome.again, attempt_outcome)
        return self._settle(grant, attempt_outcome)

    def _hold_up(self, grant: Grant, attempt_outcome: AttemptOutcome) -> TaskResult:
        """Parked with a timer that grows: passing trouble fails no todo, and no run is rolled back for it."""
        limit = self._config.settings.lost_leases if attempt_outcome.limited else 0
        why, blame = self._unfit(grant.spec.repo.name) or attempt_outcome.why, attempt_outcome.blame
        reply = self._step(grant, lambda: self._store.hold_up(grant, why, HINDERED_FOR, blame, limit))
        return TaskResult(TaskResultKind.FAILED if reply.word == "settled" else TaskResultKind.LATER, why)

    def _later(self, grant: Grant, step: Callable[[], Reply], why: str) -> TaskResult:
        self._step(grant, step)
        return TaskResult(TaskResultKind.LATER, why)

    def _try_again(self, grant: Grant, delay: timedelta, attempt_outcome: AttemptOutcome) -> TaskResult:
        result = _result(TodoState.FAILED, attempt_outcome)
        reply = self._step(grant, lambda: self._store.retry(grant, delay, result))
        return TaskResult(
            TaskResultKind.FAILED if reply.word == "settled" else TaskResultKind.LATER, attempt_outcome.why
        )

    def _settle(self, grant: Grant, attempt_outcome: AttemptOutcome) -> TaskResult:
        outcome, kind = {
            OutcomeKind.SUCCEEDED: (TodoState.SUCCEEDED, TaskResultKind.DONE),
            OutcomeKind.CANCELLED: (TodoState.CANCELLED, TaskResultKind.CANCELLED),
        }.get(attempt_outcome.word, (TodoState.FAILED, TaskResultKind.FAILED))
        if outcome is TodoState.SUCCEEDED:
            try:
                self._until_answered(lambda: self._transfer.send(grant, attempt_outcome))
            except Superseded as superseded:
                return self._refused(grant, superseded.message)
        reply = self._step(grant, lambda: self._store.settle(grant, _result(outcome, attempt_outcome)))
        if reply.word == "stale":
            return TaskResult(TaskResultKind.LATER, LOST)
        if reply.status in OVER:
            self.auto_cleanup.clear(grant.run_id, reply.status)
            repos = set(self._context.brief(grant.run_id).repo_of.values())
            self._until_answered(lambda: self._transfer.let_go(grant.run_id, repos))
        return TaskResult(kind, attempt_outcome.why)

    def _step(self, grant: Grant, step: Callable[[], Reply]) -> Reply:
        reply = self._until_answered(step)
        self._dispatcher.follow(reply)
        if reply.word == "stale":
            self._refused(grant, "somebody else holds the todo, or has settled it")
        return reply

    def _refused(self, grant: Grant, why: str) -> TaskResult:
        """An old holder's write, wherever its fence was checked: told to people, and counted."""
        words = f"the write of an old holder (fence {grant.fence}) was refused: {why}"
        logger.warning("%s of run %s: %s", grant.todo_id, grant.run_id, words)
        self._until_answered(lambda: self._store.refused(grant.run_id, grant.todo_id, grant.attempt, words))
        return TaskResult(TaskResultKind.LATER, LOST)

    def _until_answered(self, ask: Callable[[], T]) -> T:
        """A Redis that is away is waited for: what an attempt came to is not given up."""
        while True:
            try:
                return ask()
            except redis.RedisError as error:
                if not isinstance(error, redis.ConnectionError | redis.TimeoutError) and not cannot_write(error):
                    raise
                logger.warning("Redis does not answer, asking again: %s", error)
                time.sleep(REDIS_RETRY_S)


def _judged(grant: Grant, attempt_outcome: AttemptOutcome, log: Log) -> AttemptOutcome:
    """With what the todo's retry policy says of a failure. Which sign made it give up is said."""
    attempt_outcome = replace(attempt_outcome, why=log.masked(attempt_outcome.why))
    if attempt_outcome.word is not OutcomeKind.FAILED:
        return attempt_outcome
    draw = random.random()  # noqa: S311 — jitter, no secret
    match decide(grant.spec.retry, grant.tries + 1, draw, attempt_outcome.failure):
        case Again(delay):
            return replace(attempt_outcome, again=delay)
        case GiveUp(why) if why:
            log.say(why)
            return replace(attempt_outcome, why=f"{attempt_outcome.why} ({why})")
    return attempt_outcome


def _result(outcome: TodoState, attempt_outcome: AttemptOutcome) -> Result:
    tip = attempt_outcome.tip if outcome is TodoState.SUCCEEDED else ""
    return Result(
        outcome=outcome,
        exit_code=attempt_outcome.exit_code,
        error=attempt_outcome.why,
        output=attempt_outcome.output,
        tip=tip,
        began=attempt_outcome.since,
        blame=attempt_outcome.blame,
        cached=attempt_outcome.cached,
    )
