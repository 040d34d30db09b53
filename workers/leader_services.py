"""The services that run only in the worker that leads the maintenance."""

from __future__ import annotations

from collections.abc import Iterator

from coordination.background import BackgroundService
from coordination.breakers.manager import BreakerManager
from coordination.cache.copies import CacheMaintenance
from coordination.locks.sweeper import Sweeper
from coordination.messages.bus import open_bus
from coordination.runs.maintenance.notifier import Notifier
from coordination.runs.maintenance.progress_feed import ProgressFeed
from coordination.runs.remote_steps.handlers import StepHandlers
from coordination.runs.remote_steps.serving import StepServer
from workers.core import WorkerCore


def leader_services(core: WorkerCore) -> Iterator[BackgroundService]:
    """Yield the services of a leader: the steps of restricted workers, left locks and messages, and the
    programs of the user that the settings name.
    """
    redis, keys, settings = core.redis, core.keys, core.config.settings
    handlers = StepHandlers(core.store, core.dispatcher, settings, core.worker.version)
    yield StepServer(redis, core.pubsub_redis, keys, handlers)
    bus = open_bus(redis, settings, core.worker.id)
    cache = CacheMaintenance(redis, settings)
    breakers = BreakerManager(redis, keys.namespace)
    yield Sweeper(redis, keys.namespace, periodic_jobs=[bus.sweep, cache.run_once, breakers.end_dead_probes])
    if command := settings.notify_command:
        yield Notifier(redis, keys, command, kill_grace=settings.kill_grace)
    if command := settings.progress_command:
        yield ProgressFeed(redis, keys, command, kill_grace=settings.kill_grace)
