"""A worker with its services: what starts with it, what starts when it is needed, what only the leader runs.

| service (thread) | runs | |
|---|---|---|
| `Leases` | from the start | heartbeats: the worker's record, the leases of its todos |
| `LocalLiveness` | from the start | recovers the todos of workers of this machine that died |
| `Notifications` | from the start | its inbox: cancelled runs, cleanup jobs, news of forges |
| `CleanupJobs` | from the start | cleanup jobs of commands, and periodic jobs |
| `EndedOrders` | from the start, if signatures are required | remembers runs that have ended |
| `MaintenanceLeader` | from the start | asks for the leader's lock; leads while it holds it |
| of `leader_services.py` | only while this worker leads | restricted workers, left locks, user programs |
| of `file_services.py` | from the start, if the worker has the file | health, results, history |
| `ServiceWaits` `RequestWaits` | from the first todo that waits so | fire a parked todo early |

The consumer and its threads are Celery's. The parts that execute todos (`execution.py`) are made for the
first todo that is delivered. These three modules, and all that they import, are loaded only where they are
needed. So are the execution of a cleanup job, and the cryptography of the worker's key for its first result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from celery import Celery

from coordination.background import BackgroundService, opened_once
from coordination.runs.maintenance.leader import MaintenanceLeader
from workers.agents.memory import remove_unused
from workers.attempt.context_socket import clear_sockets
from workers.celery_worker import collect, forget_names, register
from workers.cleanup.jobs import CleanupJobs
from workers.core import WorkerCore
from workers.leases import Leases, LocalLiveness
from workers.notifications import Callbacks, Notifications, PubSubNotifications
from workers.trust.order_memory import EndedOrders
from workers.trust.worker_trust import ExpiryWatch
from workers.workspace.files import clear_scratch, has_workspaces

if TYPE_CHECKING:
    from workers.delivery import DeliveryHandler
    from workers.execution import Execution

logger = logging.getLogger(__name__)


class Container(WorkerCore):
    @property
    def services(self) -> Sequence[BackgroundService]:
        """The services that start with the worker, in this order."""
        return (
            self.leases,
            self.maintenance_leader,
            self.cleanup_jobs,
            self.notifications,
            self.local_liveness,
            *self._ended_orders(),
            *self._of_the_file,
        )

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.attempt_store, self.registry, self.worker, self.config, self.served)

    @cached_property
    def local_liveness(self) -> LocalLiveness:
        return LocalLiveness(
            self.config.state, self.worker.id, self.store, self.dispatcher, self.config.settings
        )

    def _ended_orders(self) -> Iterable[BackgroundService]:
        """Yield the service that remembers ended orders; a restricted worker may not list runs."""
        if self.trust.requires and not self.restricted:
            yield EndedOrders(self.store, self.order_check.remember_ended, self.order_check.verified_runs)

    # Leadership

    @cached_property
    def maintenance_leader(self) -> MaintenanceLeader:
        return MaintenanceLeader(
            self.store,
            self.dispatcher,
            self.config.settings,
            label=self.worker.id,
            state=self.config.state,
            services=self.leader_services,
        )

    def leader_services(self) -> Iterator[BackgroundService]:
        """Make the services that run only in the leader."""
        from workers.leader_services import leader_services  # only the leader needs it

        return leader_services(self)

    # The file

    @cached_property
    def _of_the_file(self) -> Sequence[BackgroundService]:
        if self.config.file is None:
            return ()
        from workers.file_services import file_services  # the file and its graph: other workers need neither

        return tuple(file_services(self, self.config.file))

    # Todos

    @opened_once
    def execution(self) -> Execution:
        """The parts that execute todos, made for the first one."""
        from workers.execution import Execution  # what it imports is a third of the modules of coord here

        return Execution(self, self.leases)

    @property
    def deliveries(self) -> DeliveryHandler:
        return self.execution.deliveries

    @property
    def waits(self) -> Sequence[BackgroundService]:
        """The services that fire parked todos early; none before the first todo."""
        return self.execution.waits if self._has_executed else ()

    def hand_back_all(self) -> None:
        """Kill the commands of all todos that run here, and hand the todos back."""
        if self._has_executed:
            self.deliveries.hand_back_all()

    @property
    def _has_executed(self) -> bool:
        return "execution" in self.__dict__

    # Notifications

    @cached_property
    def notifications(self) -> Notifications | PubSubNotifications:
        return Notifications(self.redis, self.config.settings, self.worker, self.callbacks)

    @property
    def callbacks(self) -> Callbacks:
        return Callbacks(
            send_heartbeat=self.leases.wake,
            look_for_jobs=self.cleanup_jobs.wake,
            log_line=self._log_line,
            record_news=self._record_news,
        )

    def _log_line(self, run_id: str, line: str) -> None:
        if self._has_executed:
            self.deliveries.log_line(run_id, line)

    def _record_news(self, payload: Any) -> None:
        """Pass the news on; before the first todo, none of this worker can have missed it."""
        if self._has_executed and (waits := self.execution.request_waits):
            waits.hear(payload)

    # Cleaning up

    @cached_property
    def cleanup_jobs(self) -> CleanupJobs:
        periodic_jobs: list[Callable[[], object]] = [
            collect, forget_names, self._clean_up_after_runs, partial(clear_scratch, self.config.state),
            clear_sockets, self._remove_unused_sessions, *self._expiry(),
        ]  # fmt: skip
        return CleanupJobs(
            self.cleanup_queue,
            self.worker,
            self.config.state,
            self.served,
            periodic_jobs,
            self.order_check.refuse_job,
        )

    def _clean_up_after_runs(self) -> None:
        """Clean up after the runs that this worker, or one before it, has executed todos of."""
        if self._has_executed or has_workspaces(self.config.state):
            self.execution.auto_cleanup.run_once()
            self.execution.git_sessions.close_idle()

    def _remove_unused_sessions(self) -> None:
        remove_unused(self.config.state, self.config.settings.keep_runs)

    def _expiry(self) -> Iterable[Callable[[], object]]:
        """Yield the periodic job that announces expiry; a restricted worker may write no event."""
        if not self.restricted:
            yield ExpiryWatch(
                self.config.settings, self.config.state, self.trust.read_file, self._announce_expiry
            ).run_once

    def _announce_expiry(self, fact: str, hint: str) -> None:
        data = {"host": self.worker.host, "next": hint}
        self.store.announce("access.expiring", self.worker.host, title=fact, data=data)

    # The process

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
        register(self.app, lambda: self.deliveries, self.dispatcher, joins=not self.restricted)
        return self.app

    def close(self) -> None:
        if self._has_executed:
            self.execution.close()
        super().close()
