"""The library: one ecosystem for scripts and servers.

`CurrentCoord` is that of a process that lives for days: opened when needed, and again when its settings
change. `Coord.manager` reads the file anew whenever it has changed, and `Coord.redis_url` starts the embedded
server again; only new settings need a new Coord.
"""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar

from pydantic import ValidationError

from coordination.api import messages
from coordination.api.events import Subscriber
from coordination.api.facade import Facade
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.cache.contexts import Cache
from coordination.ecosystem.document import Document, read_bytes, snapshot
from coordination.environment import refuse_in_todo
from coordination.errors import BreakerOpen, InvalidFile, UsageError
from coordination.locks import LockManager
from coordination.messages import MessageBus
from coordination.models import Retry
from coordination.runs.retry_policy import Again, Failure, decide
from coordination.tracker.manager import CoordinationManager

if TYPE_CHECKING:
    from coordination.models import Ecosystem
    from coordination.tracker.records import EcosystemStatus


T = TypeVar("T")


class Coord(Facade):
    """`with Coord("ecosystem.yaml") as coord:`; a folder or None finds the file as the commands do.

    Settings are the file's and the environment's; `redis_url` comes before both. Without any Redis the
    embedded server is started when something needs it, and stopped when the last of its users is gone. A
    Coord can live for days in a server: it reads the file anew whenever that has changed, and starts the
    embedded server again where it does not run any more. Several threads may share it. Raises what the
    commands raise: every error is a CoordinationError.
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
        """Return the present content of the file. Raises InvalidFile."""
        return self.manager.document

    @property
    def manager(self) -> CoordinationManager:
        """Return the present records of the file; todos that runs execute are in progress.
        Raises InvalidFile.
        """
        raw = read_bytes(self.path)
        manager = self._read
        if manager is None or manager.document.text != raw:
            manager = self._read = self._manage(snapshot(raw, self.path).document)
        manager.look_again()
        return manager

    @property
    def redis_url(self) -> str:
        """Return the Redis to use; start the embedded server where it does not run."""
        return self.local.ensure_server()

    @property
    def locks(self) -> LockManager:
        """Return the locks, with the resources that the file declares."""
        with self.reached() as connection:
            connection.locks.resources.declare(self.manager.document.ecosystem.capacities())
        return self.authority.checked("locks", connection.locks)

    @property
    def breakers(self) -> BreakerManager:
        """Return the circuit breakers of repositories, resources and your own actions, with the policy of
        the settings.
        """
        return self.authority.checked("breakers", self.connection.breakers)

    @property
    def cache(self) -> Cache:
        """Return the values that todos share, and values that can be computed again."""
        cache = self.connection.cache
        cache.check_change = lambda: self.authority.check("context.set")
        return cache

    @property
    def messages(self) -> MessageBus:
        """Return the message bus; the sender is the person or agent who works at this machine."""
        return self.authority.checked("messages", self.connection.messages)

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
        thread, until `close`, and in the waiting one while a run is waited for; with each event once, in
        order, never twice at a time. `since`: an event's id or a time, to get earlier events first (default:
        from now on).

        Raises UsageError for an unknown event.
        """
        self.subscribers.on(event, subscriber, since)

    def start_worker(self, repos: Iterable[str]) -> None:
        """Start one worker for all repositories of the file, with the embedded server. With a configured
        Redis, others start the workers.
        """
        super().start_worker(list(repos))

    def stats(self) -> Statistics:
        """Return the figures of all parts: `manager`, `todos`, `runs`, `locks`, `resources`, `breakers`,
        `messages`, `cache`; see `Statistics`. Raises InvalidFile, Unreachable.
        """
        with self.reached():
            locks = self.locks.stats()
            inboxes, breakers = messages.figures(self.messages), self.breakers.stats()
            cache, runs = self.cache.stats().model_dump(), self.runs.stats()
        return Statistics(
            manager=_declared(self.document.ecosystem),
            todos=_todo_figures(self.manager.get_ecosystem_status(), runs["todos"]),
            runs=runs,
            locks={"held": locks.held, "waiting": locks.waiting},
            resources={name: asdict(stats) for name, stats in locks.resources.items()},
            breakers=breakers,
            messages=inboxes,
            cache=cache,
        )


class CurrentCoord:
    """The Coord of a file, or of the file that a command finds where `path` is None; for several threads."""

    def __init__(self, path: Path | None, redis_url: str | None = None) -> None:
        self._path, self._redis_url = path, redis_url
        self._opened: list[Coord] = []
        """The last one is in use; an earlier one may be, by an operation that began earlier."""
        self._settings: Mapping[str, Any] = {}
        self._lock = threading.Lock()

    def get(self) -> Coord:
        """Return the ecosystem. Raises InvalidFile until it could be opened once; a file that breaks later
        does not stop the process.
        """
        with self._lock:
            if not self._opened or self._outdated(self._opened[-1]):
                coord = Coord(self._path, self._redis_url)
                self._settings = coord.document.ecosystem.settings
                self._opened.append(coord)
            return self._opened[-1]

    def close(self, before: Callable[[Coord], object] = lambda _: None) -> None:
        """Give back what was started for reading; runs continue. `before`: called with each Coord first."""
        with self._lock:
            opened, self._opened = self._opened, []
            with ExitStack() as closing:  # each is closed, also where another cannot be
                for coord in opened:
                    closing.callback(coord.close)
                    closing.callback(before, coord)

    def _outdated(self, coord: Coord) -> bool:
        try:
            return coord.document.ecosystem.settings != self._settings
        except InvalidFile:
            return False


def retrying(
    breakers: BreakerManager,
    name: str,
    action: Callable[[], T],
    *,
    breaker: Policy | None = None,
    **policy: Any,
) -> T:
    """Return what the action returns. `policy`: the fields of a todo's `retry`. Raises what the last try
    raised, BreakerOpen, UsageError.
    """
    rules = _rules(policy)
    failures = 0
    while True:
        try:
            return breakers.call(name, action, policy=breaker)
        except BreakerOpen:
            raise
        except Exception as error:
            failures += 1
            match decide(rules, failures, random.random(), _failure(error)):  # noqa: S311 (jitter, no secret)
                case Again(delay):
                    time.sleep(delay.total_seconds())
                case _:
                    raise


def _rules(policy: dict[str, Any]) -> Retry:
    try:
        return Retry.model_validate(policy)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(Retry.model_fields)
        raise UsageError(f"{field} of a retry policy: {first['msg']}", f"there are: {known}") from error


def _failure(error: Exception) -> Failure:
    """Return the error as a retry policy sees it: exit code and output of a command, a timeout, the
    message.
    """
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    text = output.decode(errors="replace") if isinstance(output, bytes) else str(output)
    return Failure(
        exit_code=error.returncode if isinstance(error, subprocess.CalledProcessError) else None,
        timeout=isinstance(error, TimeoutError | subprocess.TimeoutExpired),
        shows=lambda pattern: any(re.search(pattern, line) for line in text.splitlines()),
    )


Figures = Mapping[str, Any]


class Statistics(TypedDict):
    """Figures at this moment, and counters since the creation of the namespace, by part."""

    manager: Figures
    """`repos`: the number of repositories; `issues`, `plans`, `todos`, `dependencies`: records by status in
    the file.
    """
    todos: Figures
    """`by_status`: as views show them, joined with live runs; `ready`, `blocked`: their numbers; `in_runs`:
    todos of live runs by state.
    """
    runs: Figures
    """`live` by status, `todos` of live runs by state, `leases`, `queues` and `workers` by repository, and
    all `counters`: runs and todos by outcome, lost leases, retries.
    """
    locks: Figures
    """`held`, `waiting`."""
    resources: Mapping[str, Figures]
    """Each resource: capacity, in use, waiting, and how long requests waited."""
    breakers: Figures
    """Circuit breakers by state."""
    messages: Figures
    """Inboxes, waiting messages, dead letters."""
    cache: Figures
    """Hits, misses, hit rate, evictions, entries, bytes."""


def _declared(ecosystem: Ecosystem) -> Figures:
    """Return the numbers of records in the file."""
    counts = {
        name: dict(Counter(str(record["status"]) for record in records))
        for name, records in ecosystem.coordination.model_dump(mode="json").items()
        if isinstance(records, list)
    }
    return {"repos": len(ecosystem.repos), **counts}


def _todo_figures(status: EcosystemStatus, in_runs: Mapping[str, int]) -> Figures:
    """Return the numbers of todos. `in_runs`: todos of live runs by state."""
    return {
        "by_status": status.counts["todos"],
        "ready": len(status.ready),
        "blocked": len(status.blocked),
        "in_runs": in_runs,
    }
