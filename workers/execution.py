"""The parts that execute todos; a worker makes them when the first todo is delivered to it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property, lru_cache

from coordination.background import BackgroundService
from coordination.cache import Limits, Store
from coordination.cache.entries import RESULTS
from coordination.forges.budget import ForgeBudget
from coordination.locks import LockManager
from coordination.messages.bus import MessageBus, open_bus
from coordination.models import Signatures
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.remote_steps.calls import ProxyContexts, ProxyStore
from coordination.runs.remote_steps.handlers import BRIEFS_KEPT
from coordination.runs.run_contexts import ContextCalls
from coordination.services.host import ServiceHost
from workers.attempt.environment import AttemptEnvironments
from workers.attempt.result_cache import Results
from workers.cleanup.automatic import AutoCleanup
from workers.core import WorkerCore
from workers.delivery import DeliveryHandler, OutcomeSteps
from workers.leases import Leases
from workers.transfer.routes import BundleStore
from workers.trust.signed_results import SignedResults
from workers.waits import RequestWaits, ServiceWaits
from workers.workspace.change_set import GitSessions


class Execution:
    def __init__(self, core: WorkerCore, leases: Leases) -> None:
        self._core = core
        self._leases = leases

    @cached_property
    def deliveries(self) -> DeliveryHandler:
        core = self._core
        return DeliveryHandler(
            store=core.attempt_store,
            dispatcher=core.dispatcher,
            leases=self._leases,
            worker=core.worker,
            config=core.config,
            served=core.served,
            orders=core.order_check,
            environments=self.environments,
            steps=self.outcome_steps,
        )

    @cached_property
    def environments(self) -> AttemptEnvironments:
        core = self._core
        return AttemptEnvironments(
            store=core.attempt_store,
            worker=core.worker,
            config=core.config,
            served=core.served,
            bundles=self.bundles,
            contexts=self.contexts,
            results=self.results,
            signed_results=self.signed_results,
            orders=core.order_check,
            git_sessions=self.git_sessions,
            change_sets=self.change_sets,
            bus=self._bus,
        )

    @property
    def _bus(self) -> MessageBus | None:
        """None for a restricted worker, which may not read inboxes."""
        core = self._core
        return None if core.restricted else open_bus(core.redis, core.config.settings, core.worker.id)

    @cached_property
    def outcome_steps(self) -> OutcomeSteps:
        core = self._core
        return OutcomeSteps(
            store=core.attempt_store,
            dispatcher=core.dispatcher,
            transfer=self.environments.transfer,
            context=self.environments.context,
            signed_results=self.signed_results,
            auto_cleanup=self.auto_cleanup,
            served=core.served,
            orders=core.order_check,
            lost_leases=core.config.settings.lost_leases,
            service_waits=self.service_waits,
            request_waits=self.request_waits,
        )

    @cached_property
    def git_sessions(self) -> GitSessions:
        return GitSessions()

    @cached_property
    def bundles(self) -> BundleStore:
        return BundleStore(self._core.bundle_redis, self._core.keys)

    @cached_property
    def change_sets(self) -> ChangeSets | None:
        """None for a restricted worker: a change set belongs to all repositories of its plan."""
        return None if self._core.restricted else ChangeSets(self._core.store)

    @cached_property
    def auto_cleanup(self) -> AutoCleanup:
        core = self._core
        return AutoCleanup(
            core.attempt_store,
            core.config.state,
            core.served,
            spare_changes=core.config.signatures is Signatures.REQUIRE,
            change_sets=self.change_sets,
        )

    @cached_property
    def signed_results(self) -> SignedResults:
        core = self._core
        return SignedResults(
            key=core.worker_key,
            trust=core.trust,
            report=core.report_distrust,
            here=lambda: core.here,
            ordered_on=lambda run: core.order_check.ordered_on(run),
        )

    @cached_property
    def results(self) -> Results | None:
        """None without the setting, and for a restricted worker: results and their locks belong to all
        repositories, and its user may not read those.
        """
        settings = self._core.config.settings
        if self._core.restricted or not settings.cache_todos:
            return None
        limits = Limits.of(settings)
        store = Store(self._core.redis, settings.namespace, RESULTS, limits)
        locks = LockManager(self._core.redis, settings.namespace)
        return Results(store, locks, limits, settings.cache_todos_ttl, self.signed_results)

    @cached_property
    def contexts(self) -> ContextCalls:
        """The operations on shared context values that todos may ask for."""
        store = self._core.attempt_store
        if isinstance(store, ProxyStore):
            return ProxyContexts(store)
        briefs = lru_cache(BRIEFS_KEPT)(store.brief)
        return ContextCalls(self._core.store, self._core.config.settings, briefs)

    # Threads, each of which starts with its first wait

    @cached_property
    def service_waits(self) -> ServiceWaits | None:
        """None for a restricted worker: it may fire no todo, so its parked todos wait for their timers."""
        return (
            None
            if self._core.restricted
            else ServiceWaits(ServiceHost(self._core.config.state), self._core.dispatcher.fire)
        )

    @cached_property
    def request_waits(self) -> RequestWaits | None:
        """None for a restricted worker, as for services: its landings ask the forge at intervals."""
        if self._core.restricted:
            return None
        budget = ForgeBudget(self._core.redis, self._core.keys, self._core.config.settings.forge_budget)
        return RequestWaits(
            self._core.dispatcher.fire, lambda host: budget.allows_webhook_look(host, datetime.now(UTC))
        )

    @property
    def waits(self) -> tuple[BackgroundService, ...]:
        return tuple(waits for waits in (self.service_waits, self.request_waits) if waits)

    def close(self) -> None:
        self.git_sessions.close()
        for part in ("results", "contexts"):
            if made := self.__dict__.get(part):  # made only if it was asked for
                made.close()
