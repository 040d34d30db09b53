"""Handle a delivery: claim its todo, execute the attempt, and take the step that its outcome asks for.

`DeliveryHandler` claims and executes. `OutcomeSteps` takes the one step in Redis: settle, retry, park, or
hand back; it alone applies the retry policy of a todo. A delivery costs at most three round trips on the
worker's own connection.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

from coordination.backend.steps.run import Reply
from coordination.branches import run_branch
from coordination.errors import CoordinationError, Unreadable
from coordination.files import below
from coordination.models import ServiceAction, secrets_of
from coordination.models.values import RUN_ID
from coordination.runs.attempt_store import AttemptStore, Grant
from coordination.runs.dispatch import Dispatcher
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.retry_policy import Again, GiveUp, decide
from coordination.runs.run_kinds import SERVICE
from coordination.runs.worker_registry import Worker
from coordination.services.host import CHECK, ServiceHost
from workers.attempt.attempt import Attempt
from workers.attempt.context import Context
from workers.attempt.environment import AttemptEnvironments
from workers.attempt.output import Log
from workers.cleanup.automatic import OVER, AutoCleanup
from workers.config import ServedRepositories, WorkerConfig
from workers.leases import Leases
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import until_answered
from workers.task_result import TaskResult, TaskResultKind
from workers.transfer.commits import CommitTransfer
from workers.trust.signed_results import SignedResults
from workers.trust.worker_trust import OrderCheck, is_refusal
from workers.waits import RequestWaits, ServiceWaits
from workers.workspace.lock import Superseded

LOOK_S = 0.02
WAITS_KEPT = 1000
PARKED_FOR = timedelta(seconds=5)
DEFERRED_FOR = timedelta(seconds=1)
"""The first delay; the step doubles it up to a minute."""
FOLLOWED_FOR = timedelta(seconds=10)
"""Delay before a parked todo looks at its service again, where this worker also follows the service."""
LOST = TaskResult(TaskResultKind.LATER, "its lease was lost")

logger = logging.getLogger(__name__)


class DeliveryHandler:
    def __init__(
        self,
        *,
        store: AttemptStore,
        dispatcher: Dispatcher,
        leases: Leases,
        worker: Worker,
        config: WorkerConfig,
        served: ServedRepositories,
        orders: OrderCheck,
        environments: AttemptEnvironments,
        steps: OutcomeSteps,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._leases = leases
        self._worker = worker
        self._config = config
        self._served = served
        self._orders = orders
        self._environments = environments
        self._steps = steps
        self._services = ServiceHost(config.state)
        self._running: set[Attempt] = set()
        self._waits: OrderedDict[tuple[str, str], str] = OrderedDict()
        """Run and todo → the reason for which it waited after its last attempt here."""
        self._guard = threading.Lock()

    def handle(self, run_id: str, todo_id: str, attempt: int, repo: str) -> TaskResult:
        """Claim and execute the todo; return the result for Celery. A failure of the todo raises nothing."""
        if not RUN_ID.fullmatch(run_id):
            logger.warning("a message names the run %.100r, which is no id of a run", run_id)
            return TaskResult(TaskResultKind.ENDED, "unknown")
        with self._served.in_use(repo):
            request = uuid.uuid4().hex
            reply = until_answered(
                lambda: self._store.claim(
                    run_id,
                    todo_id,
                    attempt,
                    worker=self._worker.id,
                    host=self._worker.host,
                    lease=self._config.settings.lease_ttl,
                    request=request,
                    unfit=self._served.awaited(repo),
                    short=self._why_no_start(repo, todo_id),
                )
            )
            self._dispatcher.follow(reply)
            if reply.grant is not None:
                return self._execute_if_ordered(reply.grant)
            if reply.word != "ended":
                return TaskResult(TaskResultKind.LATER, reply.word)
            _remember_ended(self._orders, run_id, reply.status)
            cancelled = reply.status == RunStatus.CANCELLED
            return TaskResult(TaskResultKind.CANCELLED if cancelled else TaskResultKind.ENDED, reply.word)

    def hand_back_all(self) -> None:
        """Kill the commands of all attempts and hand the todos back: a second signal stops the worker."""
        with self._guard:
            running = tuple(self._running)
        for attempt in running:
            attempt.stop(OutcomeKind.HANDED_BACK, at_once=True)
        deadline = time.monotonic() + self._config.settings.kill_grace.total_seconds()
        while self._running and time.monotonic() < deadline:
            time.sleep(LOOK_S)  # the threads that wait for the children hand them back

    def log_line(self, run_id: str, line: str) -> None:
        """Write a line into the logs of this run's todos that are executed here."""
        with self._guard:
            concerned = [attempt for attempt in self._running if attempt.grant.run_id == run_id]
        for attempt in concerned:
            attempt.log_line(line)

    def _why_no_start(self, repo: str, todo: str) -> str:
        """Return why this worker does not start the todo now; empty if it may. A todo named `service.NAME` or
        `check.NAME` is coord's own, and does not wait for services.
        """
        host = self._worker.host
        if why := self._served.disk_shortage():
            return f"room on a disk for {repo}: on host {host} {why}"
        of_service = todo.startswith((f"{SERVICE}.", f"{CHECK}."))
        return (
            ""
            if of_service or not self._services.workers_are_reserved()
            else f"the services of host {host} to be up"
        )

    def _execute_if_ordered(self, grant: Grant) -> TaskResult:
        refused = until_answered(lambda: self._orders.refusal(grant, self._environments.context.brief))
        if refused is None:
            return self._execute(grant)
        why = f"not executed: {refused.message}"
        logger.error("%s of run %s was %s; %s", grant.todo_id, grant.run_id, why, refused.hint)
        line = f"[coord] {why}; {refused.hint}\n"
        passing = not is_refusal(refused)  # it passes when the trust file of this machine is corrected
        if line != self._waits.get((grant.run_id, grant.todo_id)):
            until_answered(lambda: self._store.log(grant.run_id, grant.todo_id, grant.attempt, line))
        self._record_wait(grant, line if passing else "")
        if not passing and not isinstance(refused, Unreadable):
            arguments = (grant.run_id, grant.todo_id, self._worker.id, "", refused.message)
            until_answered(lambda: self._store.distrust(*arguments))
        return self._steps.refuse(grant, why, passing=passing)

    def _execute(self, grant: Grant) -> TaskResult:
        log = self._log(grant)
        self._orders.name_signer(grant, log.heading)
        attempt = Attempt(grant, self._environments.of(grant, log), log)
        with self._guard:
            self._running.add(attempt)
        self._leases.add(
            grant,
            lost=lambda: attempt.stop(OutcomeKind.LOST),
            stop=lambda: attempt.stop(OutcomeKind.CANCELLED),
            checkpoint=attempt.checkpoint,
            usage=attempt.usage,
        )
        try:
            outcome = attempt.run()
            result = self._steps.take(grant, outcome, log)
            self._record_wait(grant, log.wait)
            if result.kind is TaskResultKind.DONE:
                attempt.after_settle()
            elif outcome.tip and result.kind is TaskResultKind.LATER:
                attempt.take_back()
            return result
        finally:
            log.close()
            attempt.close()
            self._leases.remove(grant)
            if isinstance(grant.spec.todo.action, ServiceAction):
                self._leases.wake()  # other hosts see its new state
            with self._guard:
                self._running.discard(attempt)

    def _record_wait(self, grant: Grant, wait: str) -> None:
        key = (grant.run_id, grant.todo_id)
        with self._guard:
            self._waits.pop(key, None)
            if wait:
                self._waits[key] = wait
            while len(self._waits) > WAITS_KEPT:
                self._waits.popitem(last=False)

    def _log(self, grant: Grant) -> Log:
        path = below(self._config.state, "logs", grant.run_id, f"{grant.todo_id}.log")
        limit = self._config.settings.log_limit_bytes

        def append(text: str, skipped: int) -> None:
            self._store.log(grant.run_id, grant.todo_id, grant.attempt, text, skipped, str(path), limit)

        last_wait = self._waits.get((grant.run_id, grant.todo_id), "")
        secrets = secrets_of(grant.spec.todo)
        return Log(append, path, limit_bytes=limit, secrets=secrets, last_wait=last_wait)


def _remember_ended(orders: OrderCheck, run_id: str, status: str) -> None:
    """Remember that a run has ended, if this is its status: a todo may be settled while its run lives."""
    if status not in set(RunStatus) or not RunStatus(status).ended:
        return
    try:
        orders.remember_ended(run_id)
    except CoordinationError as error:  # the background service tries it again
        logger.warning("%s", error)


class OutcomeSteps:
    def __init__(
        self,
        *,
        store: AttemptStore,
        dispatcher: Dispatcher,
        transfer: CommitTransfer,
        context: Context,
        signed_results: SignedResults,
        auto_cleanup: AutoCleanup,
        served: ServedRepositories,
        orders: OrderCheck,
        lost_leases: int,
        service_waits: ServiceWaits | None,
        request_waits: RequestWaits | None,
    ) -> None:
        """`lost_leases`: the setting. `service_waits` and `request_waits`: None for a restricted worker,
        whose Redis user may fire no todo.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._transfer = transfer
        self._context = context
        self._signed_results = signed_results
        self._auto_cleanup = auto_cleanup
        self._served = served
        self._orders = orders
        self._lost_leases = lost_leases
        self._service_waits = service_waits
        self._request_waits = request_waits

    def take(self, grant: Grant, outcome: AttemptOutcome, log: Log) -> TaskResult:
        """Decide about a retry, close the log, and take the step; return the result for Celery."""
        retry_delay: timedelta | None = None
        outcome = replace(outcome, error=log.masked(outcome.error))
        if outcome.kind is OutcomeKind.FAILED:
            outcome, retry_delay = _after_failure(grant, outcome, log)
        _log_end(outcome, log)
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
        if grant.undo and failed and (unfit := self._served.awaited(grant.spec.repo.name)):
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
        why, blame = self._served.awaited(grant.spec.repo.name) or outcome.error, outcome.blame
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
        brief = until_answered(lambda: self._context.brief(grant.run_id))
        if state is TodoState.SUCCEEDED:
            branch = run_branch(grant.run_id, brief.branch_prefix)
            try:
                until_answered(lambda: self._transfer.send(grant, outcome, branch))
            except Superseded as superseded:
                return self._refused(grant, superseded.message)
        result = outcome.result(state)
        result = replace(result, signed=self._signed_results.seal(grant, result, brief.change_set))
        reply = self._step(grant, lambda: self._store.settle(grant, result))
        if reply.word == "stale":
            return LOST
        _remember_ended(self._orders, grant.run_id, reply.status)
        if reply.status in OVER:
            self._auto_cleanup.clear(grant.run_id, reply.status)
            repos = set(brief.repo_of.values())
            # the newest run of a change set keeps its bundles, and has copied those of the earlier ones
            kept = brief.change_set and reply.status != RunStatus.ROLLED_BACK
            for run in brief.lineage.builds_on if kept else (grant.run_id,):
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


def _log_end(outcome: AttemptOutcome, log: Log) -> None:
    """Log the end of an attempt that has not done so itself: its lease was lost, or it waits."""
    if outcome.kind is OutcomeKind.LOST:
        known = outcome.error not in ("", OutcomeKind.LOST)
        cause = outcome.error if known else "Redis does not know it any more"
        log.line(f"stopped: the lease of this attempt was lost: {cause}; nothing of the attempt counts")
        log.line("next: nothing to do: the todo is executed again by itself, here or by another worker")
    elif outcome.kind is OutcomeKind.BUSY and not log.wait:
        pause_s = (outcome.again or PARKED_FOR).total_seconds()
        log.wait_line(f"waits for {outcome.error}; looks again every {pause_s:g} s")
    elif outcome.kind is OutcomeKind.DEFERRED and not log.wait:
        log.wait_line(f"waits for {outcome.error}")


def _after_failure(
    grant: Grant, outcome: AttemptOutcome, log: Log
) -> tuple[AttemptOutcome, timedelta | None]:
    """Return the outcome with the retry policy's reason, and the delay before the next attempt; None if there
    is no next attempt.
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


def _settled_or_later(reply: Reply, why: str) -> TaskResult:
    return TaskResult(TaskResultKind.FAILED if reply.word == "settled" else TaskResultKind.LATER, why)
