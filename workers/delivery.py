"""Handle a delivery: claim its todo, execute the attempt, and take the step that its outcome asks for.

A delivery costs at most three round trips on our own connection.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import redis

from coordination.backend.error_messages import cannot_write
from coordination.credentials.records import Purpose
from coordination.credentials.store import credentials_file
from coordination.errors import Unreadable
from coordination.models import ServiceAction, secrets_of
from coordination.retry import retried
from coordination.runs.brief import RunBrief
from coordination.runs.change_sets import ChangeSets
from coordination.runs.dispatch import Dispatcher
from coordination.runs.presence import Worker
from coordination.runs.records import SERVICE, RunStatus, TodoState
from coordination.runs.replies import Grant, Reply
from coordination.runs.shared import ContextCalls
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import HOST
from coordination.services.host import CHECK, ServiceHost
from workers.attempt.attempt import Attempt
from workers.attempt.context import Context
from workers.attempt.context_socket import served as served_context
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.logs import Log
from workers.attempt.secrets import TodoSecrets
from workers.cleanup.jobs import OVER, AutoCleanup
from workers.cleanup.taken_back import TakeBack
from workers.config import WorkerConfig
from workers.executors.land_job import LandJobs
from workers.landing.remote import base_at_remote
from workers.leases import Leases
from workers.order_check import OrderCheck, is_refusal
from workers.outcome import AttemptOutcome, OutcomeKind, TaskResult, TaskResultKind, with_retry_decision
from workers.result_cache import Results
from workers.sandbox import Sandboxes
from workers.served import ServedRepositories
from workers.signed_results import SignedResults
from workers.transfer.bundles import BundleStore
from workers.transfer.commits import CommitTransfer, PredecessorPaths
from workers.workspace.askpass import GitCredentials
from workers.workspace.base_commit import RunBase
from workers.workspace.git_sessions import GitSessions
from workers.workspace.lock import Superseded

T = TypeVar("T")

PARKED_FOR = timedelta(seconds=5)
HINDERED_FOR = timedelta(seconds=1)
"""The first time; the step doubles it up to a minute."""
REDIS_RETRY_S = 0.5
LOOK_S = 0.02
LOST = TaskResult(TaskResultKind.LATER, "its lease was lost")

logger = logging.getLogger(__name__)


class DeliveryHandler:
    def __init__(
        self,
        *,
        store: RunStore,
        dispatcher: Dispatcher,
        leases: Leases,
        worker: Worker,
        config: WorkerConfig,
        served: ServedRepositories,
        bundles: BundleStore,
        contexts: ContextCalls,
        results: Results | None,
        signed_results: SignedResults,
        auto_cleanup: AutoCleanup,
        orders: OrderCheck,
        git_sessions: GitSessions | None = None,
        change_sets: ChangeSets | None = None,
    ) -> None:
        """`change_sets`: None for a worker whose Redis user may not write them."""
        self._store = store
        self._dispatcher = dispatcher
        self._leases = leases
        self._worker = worker
        self._config = config
        self._served = served
        self._contexts = contexts
        self._results = results
        self._signed_results = signed_results
        self._auto_cleanup = auto_cleanup
        self._sandboxes = Sandboxes(config.settings, config.state)
        self._orders = orders
        self._git_sessions = git_sessions
        self._secrets = TodoSecrets(credentials_file(), os.environ, worker.host, self._record_secrets)
        git_credentials = GitCredentials(self._secrets.store, config.state, self._record_git)
        self._access = git_credentials.access
        self._change_sets = change_sets
        self._take_back = change_sets and TakeBack(
            change_sets=change_sets, signed_results=signed_results, checkouts=served,
            send=lambda grant, tip, base: self._transfer.send_reopened(grant, tip, base),
            until_answered=self._until_answered,
        )  # fmt: skip
        self._land_jobs = change_sets and LandJobs(
            store=store, change_sets=change_sets, signed_results=signed_results, checkouts=served,
            access=git_credentials.access, until_answered=self._until_answered,
            results=lambda grant: self._context.results(grant), settings=config.settings, state=config.state,
            send=lambda grant, tip, base: self._transfer.send_reopened(grant, tip, base),
        )  # fmt: skip
        self._transfer = CommitTransfer(bundles, config, served, git_credentials.access)
        predecessor_paths = PredecessorPaths(self._transfer.fetcher, config.state, self._home)
        limit_bytes = config.settings.context_limit_bytes
        self._context = Context(store, predecessor_paths, limit_bytes, signed_results, orders.brief)
        self._services = ServiceHost(config.state)
        self._running: set[Attempt] = set()
        self._guard = threading.Lock()

    def handle(self, run_id: str, todo_id: str, attempt: int, repo: str) -> TaskResult:
        """Claim and execute the todo; return what Celery is told. Never raises for what a todo does."""
        with self._served.held(repo):
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
                    short=self._short(repo, todo_id),
                )
            )
            self._dispatcher.follow(reply)
            if reply.grant is not None:
                return self._execute_if_ordered(reply.grant)
            if reply.word != "ended":
                return TaskResult(TaskResultKind.LATER, reply.word)
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

    def say(self, run_id: str, line: str) -> None:
        """Write a line into the logs of the run's todos that run here."""
        with self._guard:
            concerned = [attempt for attempt in self._running if attempt.grant.run_id == run_id]
        for attempt in concerned:
            attempt.say(line)

    def _unfit(self, repo: str) -> str:
        why = self._served.unfit(repo)
        return f"a worker for {repo}: on host {self._worker.host} {why}" if why else ""

    def _short(self, repo: str, todo: str) -> str:
        """Return why no new todo begins here at present. A name with a point is one of coord's."""
        host = self._worker.host
        if why := self._served.disk_shortage():
            return f"room on a disk for {repo}: on host {host} {why}"
        of_service = todo.startswith((f"{SERVICE}.", f"{CHECK}."))
        return (
            "" if of_service or not self._services.come_first() else f"the services of host {host} to be up"
        )

    def _execute_if_ordered(self, grant: Grant) -> TaskResult:
        refused = self._until_answered(lambda: self._orders.refusal(grant, self._context.brief))
        if refused is None:
            return self._execute(grant)
        why = f"not executed: {refused.message}"
        logger.error("%s of run %s was %s; %s", grant.todo_id, grant.run_id, why, refused.hint)
        line = f"[coord] {why}; {refused.hint}\n"
        self._until_answered(lambda: self._store.log(grant.run_id, grant.todo_id, grant.attempt, line))
        if not is_refusal(refused):  # of this machine's: it passes when its trust file is corrected
            reply = self._step(grant, lambda: self._store.hold_up(grant, why, HINDERED_FOR))
            return _settled_or_later(reply, why)
        arguments = (grant.run_id, grant.todo_id, self._worker.id, "", refused.message)
        if not isinstance(refused, Unreadable):
            self._until_answered(lambda: self._store.distrust(*arguments))
        result = AttemptOutcome(kind=OutcomeKind.REFUSED, why=why, blame="signature").result(TodoState.FAILED)
        reply = self._step(grant, lambda: self._store.settle(grant, result))
        return LOST if reply.word == "stale" else TaskResult(TaskResultKind.FAILED, why)

    def _execute(self, grant: Grant) -> TaskResult:
        log = self._log(grant)
        self._orders.name_signer(grant, log.head)
        attempt = Attempt(grant, self._environment(grant, log), log)
        with self._guard:
            self._running.add(attempt)
        self._leases.add(
            grant,
            lost=lambda: attempt.stop(OutcomeKind.LOST),
            stop=lambda: attempt.stop(OutcomeKind.CANCELLED),
            checkpoint=attempt.checkpoint,
        )
        try:
            outcome = attempt.run()
            outcome = replace(outcome, why=log.masked(outcome.why))
            outcome = with_retry_decision(outcome, grant.spec.retry, grant.tries, log.say)
            log.close()  # before the step: a reader that sees the end of the todo finds all of its log
            result = self._take_step(grant, outcome)
            if result.kind is TaskResultKind.DONE:
                attempt.on_accepted()
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

    def _log(self, grant: Grant) -> Log:
        path = self._config.state / "logs" / grant.run_id / f"{grant.todo_id}.log"
        limit = self._config.settings.log_limit_bytes

        def append(text: str, skipped: int) -> None:
            self._store.log(grant.run_id, grant.todo_id, grant.attempt, text, skipped, str(path), limit)

        return Log(append, path, limit_bytes=limit, secrets=secrets_of(grant.spec.todo))

    def _environment(self, grant: Grant, log: Log) -> AttemptEnvironment:
        brief = self._until_answered(lambda: self._context.brief(grant.run_id))
        runs, known = (grant.run_id, *brief.carried_from), (grant.run_id, *brief.earlier)
        value_bytes = self._config.settings.cache_value_bytes
        return AttemptEnvironment(
            brief=brief,
            context=cache(lambda: self._context_of(grant, log)),
            state=self._config.state,
            checkout=self._served[grant.spec.repo.name],
            output_limit_bytes=self._config.settings.output_limit_bytes,
            verify=lambda: self._signed_results.check_start(grant, brief),
            connection=lambda masked: served_context(
                self._contexts, grant.run_id, grant.todo_id, value_bytes, masked
            ),
            secrets=self._secrets,
            results=self._results,
            git_sessions=self._git_sessions,
            sandboxes=self._sandboxes,
            sandbox_demanded=self._orders.demands_sandbox(grant),
            fetch=lambda *what: self._until_answered(lambda: self._transfer.fetch(grant, known, *what)),
            base=self._base_of(grant, brief),
            set_back=partial(self._take_back.carry_out, grant, brief) if self._take_back else str,
            landing=partial(self._land_jobs.of, grant) if self._land_jobs else None,
            withdraw=lambda: self._until_answered(
                lambda: self._transfer.withdraw(
                    grant,
                    runs,
                    lambda pushed: self._signed_results.own_tips(
                        grant,
                        brief,
                        pushed,
                        lambda todos: self._store.handed_over(grant.run_id, [], signed=todos).signed,
                    ),
                )
            ),
        )

    def _base_of(self, grant: Grant, brief: RunBrief) -> Callable[[], RunBase] | None:
        repo, url = grant.spec.repo, grant.spec.repo.url
        if not url or brief.lands_locally:
            return None
        access = partial(self._access, grant.run_id, repo.name, url, Purpose.READ)
        return partial(base_at_remote, repo, self._served[repo.name], access)

    def _home(self, run_id: str, repo: str) -> Path | None:
        """Return the checkout of a repository, if this is the host on which the run works on it; None to a
        restricted worker, which may not read that.
        """
        if self._change_sets is None:
            return None
        meta = self._store.keys.run(run_id).meta
        host = self._until_answered(lambda: self._store.redis.hget(meta, f"{HOST}{repo}"))
        return self._served.get(repo) if host == self._worker.host else None

    def _record_secrets(self, grant: Grant, names: Sequence[str]) -> None:
        ids = (grant.run_id, grant.todo_id, grant.spec.repo.name)
        self._until_answered(lambda: self._store.secrets_read(*ids, self._worker.id, names))

    def _record_git(self, run_id: str, repo: str, name: str) -> None:
        self._until_answered(lambda: self._store.secrets_read(run_id, "", repo, self._worker.id, [name]))

    def _context_of(self, grant: Grant, log: Log) -> dict[str, Any]:
        context = self._until_answered(lambda: self._context.of(grant))
        for why in dict.fromkeys(one["why"] for one in context["predecessors"] if "why" in one):
            log.say(why)
        return context

    def _take_step(self, grant: Grant, outcome: AttemptOutcome) -> TaskResult:
        """Take the one step that the outcome asks for; return what Celery is told."""
        why = outcome.why
        logger.info("%s of run %s: %s %s", grant.todo_id, grant.run_id, outcome.kind, why.partition("\n")[0])
        match outcome.kind:
            case OutcomeKind.LOST:
                return LOST
            case OutcomeKind.SUPERSEDED:
                return self._refused(grant, why)
            case OutcomeKind.HANDED_BACK:
                return self._later(grant, lambda: self._store.hand_back(grant, outcome.output), "handed back")
            case OutcomeKind.BUSY:
                pause = outcome.again or PARKED_FOR
                return self._later(grant, lambda: self._store.park(grant, why, pause), why)
            case OutcomeKind.HINDERED:
                return self._hold_up(grant, outcome)
        failed = outcome.kind is not OutcomeKind.SUCCEEDED
        if grant.undo and failed and (unfit := self._unfit(grant.spec.repo.name)):
            return self._later(grant, lambda: self._store.park(grant, unfit, PARKED_FOR), unfit)
        if outcome.again is not None:
            return self._retry(grant, outcome, outcome.again)
        return self._settle(grant, outcome)

    def _hold_up(self, grant: Grant, outcome: AttemptOutcome) -> TaskResult:
        """Park the todo for a time that grows: passing trouble fails no todo, and rolls no run back."""
        limit = self._config.settings.lost_leases if outcome.limited else 0
        why, blame = self._unfit(grant.spec.repo.name) or outcome.why, outcome.blame
        delay = outcome.again or HINDERED_FOR
        reply = self._step(
            grant, lambda: self._store.hold_up(grant, why, delay, blame, limit, outcome.reason)
        )
        return _settled_or_later(reply, why)

    def _later(self, grant: Grant, step: Callable[[], Reply], why: str) -> TaskResult:
        self._step(grant, step)
        return TaskResult(TaskResultKind.LATER, why)

    def _retry(self, grant: Grant, outcome: AttemptOutcome, delay: timedelta) -> TaskResult:
        result = outcome.result(TodoState.FAILED)
        reply = self._step(grant, lambda: self._store.retry(grant, delay, result))
        return _settled_or_later(reply, outcome.why)

    def _settle(self, grant: Grant, outcome: AttemptOutcome) -> TaskResult:
        state, kind = {
            OutcomeKind.SUCCEEDED: (TodoState.SUCCEEDED, TaskResultKind.DONE),
            OutcomeKind.CANCELLED: (TodoState.CANCELLED, TaskResultKind.CANCELLED),
        }.get(outcome.kind, (TodoState.FAILED, TaskResultKind.FAILED))
        if state is TodoState.SUCCEEDED:
            try:
                self._until_answered(lambda: self._transfer.send(grant, outcome))
            except Superseded as superseded:
                return self._refused(grant, superseded.message)
        brief = self._until_answered(lambda: self._context.brief(grant.run_id))
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
                self._until_answered(partial(self._transfer.expire, run, repos))
        return TaskResult(kind, outcome.why)

    def _step(self, grant: Grant, step: Callable[[], Reply]) -> Reply:
        reply = self._until_answered(step)
        self._dispatcher.follow(reply)
        if reply.word == "stale":
            self._refused(grant, "another attempt holds the todo, or has settled it")
        return reply

    def _refused(self, grant: Grant, why: str) -> TaskResult:
        """Log and count the refused write of an attempt with an old fence, wherever its fence was checked."""
        line = f"the write of an old holder (fence {grant.fence}) was refused: {why}"
        logger.warning("%s of run %s: %s", grant.todo_id, grant.run_id, line)
        self._until_answered(lambda: self._store.refused(grant.run_id, grant.todo_id, grant.attempt, line))
        return LOST

    def _until_answered(self, ask: Callable[[], T]) -> T:
        """Return what Redis answers, however long it is away: the outcome of an attempt is not given up."""
        return retried(ask, repeat(REDIS_RETRY_S), _is_outage)


def _is_outage(error: Exception, _pause_s: float) -> bool:
    away = isinstance(error, redis.ConnectionError | redis.TimeoutError)
    if not away and not (isinstance(error, redis.RedisError) and cannot_write(error)):
        return False
    logger.warning("Redis does not answer, asking again: %s", error)
    return True


def _settled_or_later(reply: Reply, why: str) -> TaskResult:
    return TaskResult(TaskResultKind.FAILED if reply.word == "settled" else TaskResultKind.LATER, why)
