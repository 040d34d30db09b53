"""The container of a worker's services: each is made once, when it is first asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from importlib.metadata import version

from celery import Celery

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.step_connection import PlainStepConnection
from coordination.background import BackgroundService
from coordination.breakers.manager import BreakerManager
from coordination.broker.celery_app import make_app
from coordination.cache import Limits, Store
from coordination.cache.copies import CacheMaintenance
from coordination.cache.entries import RESULTS
from coordination.forges.budget import ForgeBudget
from coordination.locks import LockManager
from coordination.locks.release import Sweeper
from coordination.messages.bus import open_bus
from coordination.models import Signatures
from coordination.runs.attempt_store import AttemptStore, Grant
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.leader import MaintenanceLeader
from coordination.runs.maintenance.notifier import Notifier
from coordination.runs.maintenance.progress_feed import ProgressFeed
from coordination.runs.remote_steps.handlers import BRIEFS_KEPT, StepHandlers
from coordination.runs.remote_steps.serving import StepServer
from coordination.runs.run_contexts import ContextCalls
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.services.host import ServiceHost
from coordination.trust.orders import Audience
from coordination.trust.trust_file import trust_path
from workers.attempt.context_socket import clear_sockets
from workers.attempt.environment import AttemptEnvironments
from workers.attempt.result_cache import Results
from workers.celery_worker import collect, forget_names, register
from workers.cleanup.jobs import AutoCleanup, CleanupJobs
from workers.config import ServedRepositories, WorkerConfig
from workers.delivery import DeliveryHandler, OutcomeSteps
from workers.leases import Leases, LocalLiveness
from workers.transfer.routes import BundleStore
from workers.trust.order_memory import EndedOrders, OrderMemory
from workers.trust.server_memory import ServerMemory
from workers.trust.signed_results import SignedResults
from workers.trust.worker_trust import ExpiryWatch, OrderCheck, WorkerKey, WorkerTrust
from workers.wakeups import Callbacks, Notifications, PubSubNotifications, RequestWaits, ServiceWaits
from workers.workspace.change_set import GitSessions
from workers.workspace.files import clear_scratch
from workers.workspace.repository import remote_urls

logger = logging.getLogger(__name__)


class Container:
    reads_parts = False
    """True where the worker may not read the whole brief of a run."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.served = ServedRepositories(config)
        self.keys = Keys(config.settings.namespace)
        self.redis = connect(config.redis_url, Profile.WORKER, config.settings.connect_timeout)
        self.pubsub_redis = connect(
            config.redis_url, Profile.READER, config.settings.connect_timeout, decode=False
        )
        self.bundle_redis = connect(config.redis_url, Profile.BULK, config.settings.connect_timeout)
        host = config.settings.this_host
        self.worker = Worker(
            id=f"coord-{os.getpid()}@{host}",
            host=host,
            pid=os.getpid(),
            version=version("coord"),
            repos=tuple(config.places),
            jobs=config.jobs,
            places={repo: str(path) for repo, path in config.places.items()},
            state=str(config.state),
        )

    @cached_property
    def store(self) -> RunStore:
        return RunStore(self.redis, self.config.settings.namespace, PlainStepConnection(self.redis))

    @cached_property
    def attempt_store(self) -> AttemptStore:
        return self.store

    @cached_property
    def registry(self) -> WorkerRegistry:
        return WorkerRegistry(self.redis, self.keys)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.attempt_store, self.registry, self.worker, self.config, self.served)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.app, self.store)

    @cached_property
    def maintenance_leader(self) -> MaintenanceLeader:
        return MaintenanceLeader(
            self.store, self.dispatcher, self.config.settings, label=self.worker.id, state=self.config.state
        )

    @cached_property
    def serving(self) -> StepServer:
        handlers = StepHandlers(self.store, self.dispatcher, self.config.settings, self.worker.version)
        return StepServer(
            self.redis, self.pubsub_redis, self.keys, handlers, lambda: self.maintenance_leader.leads
        )

    @cached_property
    def local_liveness(self) -> LocalLiveness:
        return LocalLiveness(
            self.config.state, self.worker.id, self.store, self.dispatcher, self.config.settings
        )

    @property
    def services(self) -> Sequence[BackgroundService]:
        """The background threads besides Celery's own, in the order in which they start."""
        return (
            self.leases,
            self.maintenance_leader,
            self.serving,
            self.cleanup_jobs,
            self.notifications,
            self.sweeper,
            self.local_liveness,
            *filter(None, [self.service_waits, self.request_waits]),
            *self._ended_orders(),
            *self._of_the_file,
            *self.user_programs,
        )

    @cached_property
    def _of_the_file(self) -> Sequence[BackgroundService]:
        if (file := self.config.file) is None:
            return ()
        from workers.file_services import file_services  # the file and its graph: other workers need neither

        confirm = self.order_check.confirm_outcome
        return tuple(file_services(self.config, file, self.store, self.worker, self.served, confirm))

    @cached_property
    def user_programs(self) -> Sequence[BackgroundService]:
        """The services that start the programs of the user that the settings name."""
        settings, grace = self.config.settings, self.config.settings.kill_grace
        found: list[BackgroundService] = []
        if command := settings.notify_command:
            found.append(Notifier(self.redis, self.keys, command, self._leads, kill_grace=grace))
        if command := settings.progress_command:
            found.append(ProgressFeed(self.redis, self.keys, command, self._leads, kill_grace=grace))
        return found

    def _leads(self) -> bool:
        return self.maintenance_leader.leads

    @cached_property
    def environments(self) -> AttemptEnvironments:
        return AttemptEnvironments(
            store=self.attempt_store,
            worker=self.worker,
            config=self.config,
            served=self.served,
            bundles=self.bundles,
            contexts=self.contexts,
            results=self.results,
            signed_results=self.signed_results,
            orders=self.order_check,
            git_sessions=self.git_sessions,
            change_sets=self.change_sets,
        )

    @cached_property
    def outcome_steps(self) -> OutcomeSteps:
        return OutcomeSteps(
            store=self.attempt_store,
            dispatcher=self.dispatcher,
            transfer=self.environments.transfer,
            context=self.environments.context,
            signed_results=self.signed_results,
            auto_cleanup=self.auto_cleanup,
            served=self.served,
            orders=self.order_check,
            lost_leases=self.config.settings.lost_leases,
            service_waits=self.service_waits,
            request_waits=self.request_waits,
        )

    @cached_property
    def deliveries(self) -> DeliveryHandler:
        return DeliveryHandler(
            store=self.attempt_store,
            dispatcher=self.dispatcher,
            leases=self.leases,
            worker=self.worker,
            config=self.config,
            served=self.served,
            orders=self.order_check,
            environments=self.environments,
            steps=self.outcome_steps,
        )

    @cached_property
    def service_waits(self) -> ServiceWaits | None:
        return ServiceWaits(ServiceHost(self.config.state), self._fire)

    @cached_property
    def request_waits(self) -> RequestWaits | None:
        budget = ForgeBudget(self.redis, self.keys, self.config.settings.forge_budget)
        return RequestWaits(self._fire, lambda host: budget.allows_webhook_look(host, datetime.now(UTC)))

    def _fire(self, run_id: str, todo_id: str) -> None:
        reply = self.store.fire(run_id, todo_id)
        self.dispatcher.follow(reply)
        if reply.word == "settled":
            self.dispatcher.open_level_after(run_id, todo_id)

    @cached_property
    def git_sessions(self) -> GitSessions:
        return GitSessions()

    @cached_property
    def change_sets(self) -> ChangeSets | None:
        return ChangeSets(self.store)

    @cached_property
    def here(self) -> Audience:
        """The place whose orders this worker executes."""
        ecosystem = self.config.ecosystem_id or (None if self.config.file is None else "")
        return self.attempt_store.audience(ecosystem, self.server_memory.server())

    @cached_property
    def server_memory(self) -> ServerMemory:
        return ServerMemory(self.config.state, self.config.redis_url, self.attempt_store)

    @cached_property
    def order_check(self) -> OrderCheck:
        return OrderCheck(
            self.attempt_store,
            self.trust,
            restricted=self.reads_parts,
            here=lambda: self.here,
            repos=lambda: tuple(self.served),
            report=self._report_refused,
            confines_all=self.config.settings.sandbox == "require",
            urls=self._urls_of,
            repos_of_service=ServiceHost(self.config.state).repos_of,
            memory=self.order_memory,
        )

    @cached_property
    def order_memory(self) -> OrderMemory | None:
        return OrderMemory(self.config.state) if self.trust.requires else None

    def _ended_orders(self) -> Iterable[BackgroundService]:
        """Yield the service that remembers ended orders; a restricted worker may not list runs."""
        if self.trust.requires and not self.reads_parts:
            yield EndedOrders(self.store, self.order_check.remember_ended, self.order_check.verified_runs)

    def _urls_of(self, repo: str) -> Collection[str]:
        """Return the addresses that this machine has for a repository: that of its file, and the remotes of
        the checkout.
        """
        declared, place = self.config.urls.get(repo), self.served.get(repo)
        return ({declared} if declared else set()) | (remote_urls(place) if place else set())

    @cached_property
    def auto_cleanup(self) -> AutoCleanup:
        spare_changes = self.config.signatures is Signatures.REQUIRE
        return AutoCleanup(
            self.attempt_store,
            self.config.state,
            self.served,
            spare_changes=spare_changes,
            change_sets=self.change_sets,
        )

    @cached_property
    def contexts(self) -> ContextCalls:
        """The operations on shared context values that todos may ask for."""
        return ContextCalls(self.store, self.config.settings, lru_cache(BRIEFS_KEPT)(self.store.brief))

    @cached_property
    def bundles(self) -> BundleStore:
        return BundleStore(self.bundle_redis, self.keys)

    @cached_property
    def results(self) -> Results | None:
        settings = self.config.settings
        if not settings.cache_todos:
            return None
        limits = Limits.of(settings)
        store = Store(self.redis, settings.namespace, RESULTS, limits)
        locks = LockManager(self.redis, settings.namespace)
        return Results(store, locks, limits, settings.cache_todos_ttl, self.signed_results)

    @cached_property
    def worker_key(self) -> WorkerKey:
        return WorkerKey(self.config.state, self.worker.host)

    @cached_property
    def signed_results(self) -> SignedResults:
        return SignedResults(
            key=self.worker_key,
            trust=self.trust,
            report=self._report_distrust,
            here=lambda: self.here,
            ordered_on=lambda run: self.order_check.ordered_on(run),
        )

    @cached_property
    def trust(self) -> WorkerTrust:
        return WorkerTrust(
            trust_path(),
            self.worker_key,
            lambda: (self.config.state, *self.served.values()),
            self.config.signatures,
        )

    def _report_refused(self, subject: str, why: str, run: str) -> None:
        if not self.reads_parts:  # a restricted worker may write no event; its log has it
            self.store.announce("trust.refused", subject, run=run, actor=self.worker.id, title=why)

    def _report_distrust(self, grant: Grant, why: str) -> None:
        repo = grant.spec.repo.name
        self.attempt_store.distrust(grant.run_id, grant.todo_id, self.worker.id, repo, why)

    @cached_property
    def cleanup_queue(self) -> CleanupQueue:
        return CleanupQueue(self.redis, self.keys)

    @cached_property
    def cleanup_jobs(self) -> CleanupJobs:
        clear = partial(clear_scratch, self.config.state)
        periodic_jobs: list[Callable[[], object]] = [
            collect, forget_names, self.auto_cleanup.run_once, clear, clear_sockets,
            self.git_sessions.close_idle, *self._expiry(),
        ]  # fmt: skip
        return CleanupJobs(
            self.cleanup_queue,
            self.worker,
            self.config.state,
            self.served,
            periodic_jobs,
            self.order_check.refuse_job,
        )

    def _expiry(self) -> Iterable[Callable[[], object]]:
        """Yield the periodic job that announces expiry; a restricted worker may write no event."""
        if not self.reads_parts:
            yield ExpiryWatch(
                self.config.settings, self.config.state, self.trust.read, self._announce_expiry
            ).run_once

    def _announce_expiry(self, fact: str, hint: str) -> None:
        data = {"host": self.worker.host, "next": hint}
        self.store.announce("access.expiring", self.worker.host, title=fact, data=data)

    @property
    def callbacks(self) -> Callbacks:
        return Callbacks(
            send_heartbeat=self.leases.wake,
            look_for_jobs=self.cleanup_jobs.wake,
            log_line=self.deliveries.log_line,
            **({"record_news": self.request_waits.hear} if self.request_waits else {}),
        )

    @cached_property
    def notifications(self) -> Notifications | PubSubNotifications:
        return Notifications(self.redis, self.config.settings, self.worker, self.callbacks)

    @cached_property
    def sweeper(self) -> Sweeper:
        bus = open_bus(self.redis, self.config.settings, self.worker.id)
        cache = CacheMaintenance(self.redis, self.config.settings)
        breakers = BreakerManager(self.redis, self.keys.namespace)
        periodic_jobs = [bus.sweep, cache.run_once, breakers.end_dead_probes]
        return Sweeper(self.redis, self.keys.namespace, periodic_jobs=periodic_jobs, label=self.worker.id)

    @cached_property
    def app(self) -> Celery:
        return make_app(self.config.redis_url, self.keys, self.config.settings)

    @property
    def queues(self) -> list[str]:
        return [self.keys.control_queue, *self.queues_of(self.served)]

    def queues_of(self, repos: Iterable[str]) -> list[str]:
        """Return two queues for each repository: one that its workers share, and one of this host."""
        return [self.keys.queue(repo, host) for repo in repos for host in (None, self.worker.host)]

    def sign_on(self) -> None:
        """Make this worker known before its first delivery. Raises Conflict where this worker must not be."""
        self.trust.sign_on(self.config.places)
        if self.trust.requires and self.config.file and not self.config.ecosystem_id:
            from coordination.ecosystem.first_file import LINE_OF_ID, new_id  # the worker has read the file

            logger.warning(
                "%s has no `coordination.id`, so an order for another file without one counts here, too; %s",
                self.config.file,
                LINE_OF_ID.format(new_id()),
            )
        self.leases.sign_on()
        self.local_liveness.sign()
        if isinstance(self.notifications, Notifications):
            self.notifications.subscribe()
        self.dispatcher.leave_message_template()

    def registered(self) -> Celery:
        """Return the app with its tasks."""
        register(self.app, self.deliveries, self.dispatcher, joins=not self.config.settings.restricted)
        return self.app

    def close(self) -> None:
        self.git_sessions.close()
        if memory := self.__dict__.get("order_memory"):
            memory.close()
        if results := self.__dict__.get("results"):  # made only if it was asked for
            results.close()
        if contexts := self.__dict__.get("contexts"):
            contexts.close()
        for client in (self.redis, self.pubsub_redis, self.bundle_redis):
            client.close()
