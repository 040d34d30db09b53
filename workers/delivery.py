"""Handle a delivery: claim its todo and execute the attempt.

A delivery costs at most three round trips on our own connection.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from coordination.credentials.records import Purpose
from coordination.credentials.store import credentials_file
from coordination.errors import Unreadable
from coordination.models import ServiceAction, secrets_of
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.dispatch import Dispatcher
from coordination.runs.records import RunBrief, RunStatus
from coordination.runs.replies import Grant
from coordination.runs.run_contexts import ContextCalls
from coordination.runs.run_kinds import SERVICE
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import HOST
from coordination.runs.worker_registry import Worker
from coordination.services.host import CHECK, ServiceHost
from workers.attempt.attempt import Attempt
from workers.attempt.context import Context, PredecessorPaths
from workers.attempt.context_socket import served as served_context
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.logs import Log
from workers.attempt.result_cache import Results
from workers.cleanup.jobs import AutoCleanup
from workers.cleanup.rollback import ChangeSetRollback
from workers.config import ServedRepositories, WorkerConfig
from workers.credentials import GitCredentials, TodoSecrets
from workers.landing.job import LandJobs
from workers.landing.remote import base_at_remote
from workers.leases import Leases
from workers.outcome import OutcomeKind, TaskResult, TaskResultKind
from workers.outcome_steps import OutcomeSteps, until_answered
from workers.sandbox import Sandboxes
from workers.transfer.bundles import BundleStore
from workers.transfer.commits import CommitTransfer
from workers.trust.order_check import OrderCheck, is_refusal
from workers.trust.signed_results import SignedResults
from workers.waits import RequestWaits, ServiceWaits
from workers.workspace.base_commit import RunBase
from workers.workspace.git_sessions import GitSessions

LOOK_S = 0.02

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
        service_waits: ServiceWaits | None = None,
        request_waits: RequestWaits | None = None,
    ) -> None:
        """`change_sets`, `service_waits` and `request_waits` are None for a restricted worker: its Redis user
        may neither write change sets nor fire todos.
        """
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
        self._rollback = change_sets and ChangeSetRollback(
            change_sets=change_sets, signed_results=signed_results, checkouts=served,
            send=lambda grant, tip, base: self._transfer.send_reopened(grant, tip, base),
            until_answered=until_answered,
        )  # fmt: skip
        self._land_jobs = change_sets and LandJobs(
            store=store, change_sets=change_sets, signed_results=signed_results, checkouts=served,
            access=git_credentials.access, until_answered=until_answered,
            results=lambda grant: self._context.results(grant), settings=config.settings, state=config.state,
            send=lambda grant, tip, base: self._transfer.send_reopened(grant, tip, base),
        )  # fmt: skip
        self._transfer = CommitTransfer(bundles, config, served, git_credentials.access)
        predecessor_paths = PredecessorPaths(self._transfer.fetcher, config.state, self._home)
        limit_bytes = config.settings.context_limit_bytes
        self._context = Context(store, predecessor_paths, limit_bytes, signed_results, orders.brief)
        self._steps = OutcomeSteps(
            store=store, dispatcher=dispatcher, transfer=self._transfer, context=self._context,
            signed_results=signed_results, auto_cleanup=auto_cleanup,
            lost_leases=config.settings.lost_leases, unfit=self._unfit, service_waits=service_waits,
            request_waits=request_waits,
        )  # fmt: skip
        self._services = ServiceHost(config.state)
        self._running: set[Attempt] = set()
        self._guard = threading.Lock()

    def handle(self, run_id: str, todo_id: str, attempt: int, repo: str) -> TaskResult:
        """Claim and execute the todo; return the result for Celery. A failure of the todo raises nothing."""
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
                    unfit=self._unfit(repo),
                    short=self._why_no_start(repo, todo_id),
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

    def log_line(self, run_id: str, line: str) -> None:
        """Write a line into the logs of the run's todos that run here."""
        with self._guard:
            concerned = [attempt for attempt in self._running if attempt.grant.run_id == run_id]
        for attempt in concerned:
            attempt.log_line(line)

    def _unfit(self, repo: str) -> str:
        why = self._served.unfit(repo)
        return f"a worker for {repo}: on host {self._worker.host} {why}" if why else ""

    def _why_no_start(self, repo: str, todo: str) -> str:
        """Return why this worker starts no todo now; empty if it can.

        A todo named `service.NAME` or `check.NAME` is coord's own, and does not wait for services.
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
        refused = until_answered(lambda: self._orders.refusal(grant, self._context.brief))
        if refused is None:
            return self._execute(grant)
        why = f"not executed: {refused.message}"
        logger.error("%s of run %s was %s; %s", grant.todo_id, grant.run_id, why, refused.hint)
        line = f"[coord] {why}; {refused.hint}\n"
        until_answered(lambda: self._store.log(grant.run_id, grant.todo_id, grant.attempt, line))
        passing = not is_refusal(refused)  # it passes when the trust file of this machine is corrected
        if not passing and not isinstance(refused, Unreadable):
            arguments = (grant.run_id, grant.todo_id, self._worker.id, "", refused.message)
            until_answered(lambda: self._store.distrust(*arguments))
        return self._steps.refuse(grant, why, passing=passing)

    def _execute(self, grant: Grant) -> TaskResult:
        log = self._log(grant)
        self._orders.name_signer(grant, log.heading)
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
            result = self._steps.take(grant, outcome, log)
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

    def _log(self, grant: Grant) -> Log:
        path = self._config.state / "logs" / grant.run_id / f"{grant.todo_id}.log"
        limit = self._config.settings.log_limit_bytes

        def append(text: str, skipped: int) -> None:
            self._store.log(grant.run_id, grant.todo_id, grant.attempt, text, skipped, str(path), limit)

        return Log(append, path, limit_bytes=limit, secrets=secrets_of(grant.spec.todo))

    def _environment(self, grant: Grant, log: Log) -> AttemptEnvironment:
        brief = until_answered(lambda: self._context.brief(grant.run_id))
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
            fetch=lambda *what: until_answered(lambda: self._transfer.fetch(grant, known, *what)),
            base=self._base_of(grant, brief),
            set_back=partial(self._rollback.roll_back, grant, brief) if self._rollback else str,
            landing=partial(self._land_jobs.of, grant) if self._land_jobs else None,
            withdraw=lambda: until_answered(
                lambda: self._transfer.withdraw(
                    grant,
                    runs,
                    lambda pushed: self._signed_results.deletable_tips(
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
        """Return the checkout of a repository if the run works on it on this host, else None. Always None in
        a restricted worker, which may not read the host.
        """
        if self._change_sets is None:
            return None
        meta = self._store.keys.run(run_id).meta
        host = until_answered(lambda: self._store.redis.hget(meta, f"{HOST}{repo}"))
        return self._served.get(repo) if host == self._worker.host else None

    def _record_secrets(self, grant: Grant, names: Sequence[str]) -> None:
        ids = (grant.run_id, grant.todo_id, grant.spec.repo.name)
        until_answered(lambda: self._store.secrets_read(*ids, self._worker.id, names))

    def _record_git(self, run_id: str, repo: str, name: str) -> None:
        until_answered(lambda: self._store.secrets_read(run_id, "", repo, self._worker.id, [name]))

    def _context_of(self, grant: Grant, log: Log) -> dict[str, Any]:
        context = until_answered(lambda: self._context.of(grant))
        for why in dict.fromkeys(one["why"] for one in context["predecessors"] if "why" in one):
            log.line(why)
        return context
