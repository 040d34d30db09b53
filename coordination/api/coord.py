"""The library: one ecosystem for scripts and servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from coordination.api import messages
from coordination.api.facade import Facade
from coordination.api.retrying import retrying
from coordination.api.statistics import Statistics, declared, todo_figures
from coordination.api.subscribers import Subscriber
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.cache.contexts import Cache
from coordination.ecosystem.document import Document, read_bytes, snapshot
from coordination.environment import refuse_in_todo
from coordination.locks import LockManager
from coordination.messages import MessageBus
from coordination.tracker.manager import CoordinationManager

T = TypeVar("T")


class Coord(Facade):
    """`with Coord("ecosystem.yaml") as coord:`; a folder or None finds the file as the commands do.

    Settings are the file's and the environment's; `redis_url` comes before both. Without any Redis the
    embedded server is started when something needs it, and stopped when the last of its users is gone. It
    lives for days in a server: the file is read anew whenever it has changed, and the embedded server is
    started again where it does not run any more. Raises what the commands raise: every error is a
    CoordinationError.
    """

    def __init__(self, ecosystem: str | Path | None = None, redis_url: str | None = None) -> None:
        refuse_in_todo("the library")
        super().__init__(ecosystem, redis_url)
        self._read: CoordinationManager | None = None
        # An invalid file or setting is an error at once.
        self.manager, self.settings, self.ecosystem_id  # noqa: B018

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def document(self) -> Document:
        """Return the file as it stands now. Raises InvalidFile."""
        return self.manager.document

    @property
    def manager(self) -> CoordinationManager:
        """Return the records of the file as it stands now, with the todos that runs execute in progress.
        Raises InvalidFile.
        """
        raw = read_bytes(self.path)
        if self._read is None or self._read.document.text != raw:
            document = snapshot(raw, self.path).document
            self._read = self.manage(document)
        self._read.look_again()
        return self._read

    @property
    def redis_url(self) -> str:
        """Return the Redis to use; start the embedded server where it does not run: not yet, or no more."""
        return self.local.ensure_server()

    @property
    def locks(self) -> LockManager:
        """Return the locks, with the resources that the file declares."""
        with self.reached() as connection:
            connection.locks.resources.declare(self.manager.document.ecosystem.capacities())
        return connection.locks

    @property
    def breakers(self) -> BreakerManager:
        """Return the circuit breakers of repositories, resources and your own actions, with the policy of
        the settings.
        """
        return self.connection.breakers

    @property
    def cache(self) -> Cache:
        """Return the values that todos share, and values that can be computed again."""
        return self.connection.cache

    @property
    def messages(self) -> MessageBus:
        """Return the message bus; the sender is the person or agent who works at this machine."""
        return self.connection.messages

    def retrying(
        self, name: str, action: Callable[[], T], *, breaker: Policy | None = None, **policy: Any
    ) -> T:
        """Return what `action` returns; try it again after a failure as a todo is: `attempts` (default: 3),
        `strategy`, `delay`, `factor`, `max_delay`, `jitter`, `retry_on`, `stop_on`. Each try goes through the
        circuit breaker `action:NAME`.

        Raises what the last try raised, BreakerOpen, UsageError.
        """
        return retrying(self.breakers, name, action, breaker=breaker, **policy)

    def on(self, event: str, subscriber: Subscriber, *, since: str | datetime | None = None) -> None:
        """Subscribe: `coord.on("todo.settled", print)`; also `todo.*` and `*`. The function is called in a
        thread,
        until `close`, and in the waiting one while a run is waited for; with each event once, in order, never
        twice at a time. `since`: an event's id or a time, to get earlier events first (default: from now on).

        Raises UsageError for an unknown event.
        """
        self.subscribers.on(event, subscriber, since)

    def start_worker(self, repos: Iterable[str]) -> None:
        """Start one worker for all repositories of the file, with the embedded server. Other workers are
        not ours to start.
        """
        super().start_worker(list(repos))

    def look_after(self) -> None:
        """Raises Unreachable where something that was started here died too often to be started again."""
        self.restarted()

    def stats(self) -> Statistics:
        """Return the figures of all parts: `manager`, `todos`, `runs`, `locks`, `resources`, `breakers`,
        `messages`, `cache`; see `statistics.py`. Raises InvalidFile, Unreachable.
        """
        with self.reached():
            locks = self.locks.stats()
            inboxes, breakers = messages.figures(self.messages), self.breakers.stats()
            cache, runs = self.cache.stats().model_dump(), self.runs.stats()
        return Statistics(
            manager=declared(self.document.ecosystem),
            todos=todo_figures(self.manager.get_ecosystem_status(), runs["todos"]),
            runs=runs,
            locks={"held": locks.held, "waiting": locks.waiting},
            resources={name: asdict(stats) for name, stats in locks.resources.items()},
            breakers=breakers,
            messages=inboxes,
            cache=cache,
        )
