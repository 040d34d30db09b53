"""One ecosystem with its rooms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from coordination.api import post
from coordination.api.done import Completed, complete_todo
from coordination.api.events import Subscriber, Subscribers
from coordination.api.retrying import retrying
from coordination.api.runs import Runs
from coordination.backend.client import reaching
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.cache.contexts import Cache, Context
from coordination.cache.document import export, restore
from coordination.ecosystem.document import find, read_bytes, snapshot
from coordination.locks import LockManager
from coordination.messages import MessageBus
from coordination.operations.glance import glance, knowing, running_redis
from coordination.operations.local import Local
from coordination.planner.forecast import Forecast, forecast
from coordination.planner.graph import PlanGraph, build
from coordination.planner.selection import ALL, Selectors
from coordination.runs.shared import context_of
from coordination.settings import read_settings, refuse_in_todo
from coordination.tracker.manager import CoordinationManager

T = TypeVar("T")


class Coord:
    """`with Coord("ecosystem.yaml") as coord:`; a folder or None finds the file as the commands do.

    Settings are the file's and the environment's; `redis_url` comes before both. Without any Redis the embedded server is
    started when something needs it, and stopped when the last of its users is gone. Raises what the commands raise:
    everything is a CoordinationError.
    """

    def __init__(self, ecosystem: str | Path | None = None, redis_url: str | None = None) -> None:
        refuse_in_todo("the library")
        self.path = find(Path.cwd(), None if ecosystem is None else Path(ecosystem))
        self._manager: CoordinationManager | None = None
        found = self.manager.document.ecosystem
        self.settings = read_settings(found.settings, {"redis_url": redis_url}, folder=self.path.parent)
        self.ecosystem_id = found.coordination.id or ""
        self.runs = Runs(self)
        self.planner = Planner(self)
        self.subscribers = Subscribers()
        self._local = Local(self.path, self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def manager(self) -> CoordinationManager:
        """The file as it stands now, with the todos that runs execute in progress. Raises InvalidFile."""
        raw = read_bytes(self.path)
        if self._manager is None or self._manager.document.text != raw:
            document = snapshot(raw, self.path).document
            self._manager = CoordinationManager(document, executing=self._executing)
        self._manager.look_again()
        return self._manager

    def _executing(self) -> Mapping[str, str]:
        """As far as a Redis that is there says so at once."""
        seen = glance(self.path, self.settings, lambda live: live.executing())
        return seen.answer if seen else {}

    @property
    def locks(self) -> LockManager:
        """With the resources that the file declares."""
        deeds = self.runs.deeds
        with reaching(deeds.url):
            deeds.locks.resources.declare(self.manager.document.ecosystem.capacities())
        return deeds.locks

    @property
    def breakers(self) -> BreakerManager:
        """Of repositories, resources and actions of your own, with the policy that the settings say."""
        return self.runs.deeds.breakers

    @property
    def cache(self) -> Cache:
        """Values that todos share, and what may be made again."""
        return self.runs.deeds.cache

    def context(self, *, plan: str = "", run: str = "", todo: str = "") -> Context:
        """Of a todo of a run, of a run (or `last`), a plan, or the ecosystem: `coord.context(run="last").get("version")`."""
        cache = self.cache
        with reaching(self.redis_url):
            return context_of(cache, plan, run, todo)

    def export_context(self, file: str | Path) -> int:
        """Write all contexts to a file, as `coord context export` does; returns how many values."""
        cache = self.cache
        with reaching(self.redis_url):
            return export(cache.entries, cache.namespace, Path(file))

    def import_context(self, file: str | Path, *, keep: bool = False) -> int:
        """Put back what an export wrote; with `keep`, what is there stays. Returns how many values. Raises UsageError."""
        cache = self.cache
        with reaching(self.redis_url):
            return restore(cache.entries, Path(file), only_new=keep)

    def retrying(self, name: str, action: Callable[[], T], *, breaker: Policy | None = None, **policy: Any) -> T:
        """What `action` returns, tried again after a failure as a todo is: `attempts` (3 unless said), `strategy`, `delay`,
        `factor`, `max_delay`, `jitter`, `retry_on`, `stop_on`. Each try goes through the circuit breaker `action:NAME`.

        Raises what the last try raised, BreakerOpen, UsageError.
        """
        return retrying(self.breakers, name, action, breaker=breaker, **policy)

    @property
    def messages(self) -> MessageBus:
        """The sender is who works at this machine."""
        return self.runs.deeds.messages

    @property
    def redis_url(self) -> str:
        """The Redis to use. The embedded server is started where it does not run: not yet, or no more."""
        return self._local.ensure_server()

    def on(self, event: str, subscriber: Subscriber) -> None:
        """`coord.on("todo.settled", print)`; also `todo.*` and `*`. Called while a run is waited for, see `events.py`."""
        self.subscribers.on(event, subscriber)

    def start_worker(self, repos: Iterable[str]) -> None:
        """With the embedded server: one for all repositories of the file, unless it is there. Else workers are not ours."""
        if not self.settings.redis_url:
            self.manager.check_paths(repos)
            self._local.ensure_worker()

    def look_after(self) -> None:
        """Raises Unreachable where something that was started here died too often to be started again."""
        self._local.news()

    def complete_todo(self, todo: str, hours: float | None = None) -> Completed:
        """Whoever did it says so: to the run that waits for it, else to the file. No server is started for the question.

        Raises Conflict while a run carries it out, or where it is completed already.
        """
        if running_redis(self.path, self.settings) is None:
            return complete_todo(self.manager, None, todo, hours)
        deeds = self.runs.deeds
        with reaching(deeds.url):
            return complete_todo(self.manager, deeds, todo, hours)

    def detach(self) -> None:
        """What was started here goes on without us, until `coord down`."""
        self._local.detach()

    def stats(self) -> Mapping[str, Mapping[str, Any]]:
        """How much there is of everything, by room."""
        with reaching(self.redis_url):
            locks = self.locks.stats()
            messages, breakers = post.figures(self.messages), self.breakers.stats()
            cache = self.cache.stats().model_dump()
        resources = {name: asdict(stats) for name, stats in locks.resources.items()}
        held: Mapping[str, Any] = {"held": locks.held, "waiting": locks.waiting}
        rooms: dict[str, Mapping[str, Any]] = {
            "locks": held,
            "resources": resources,
            "breakers": breakers,
            "messages": messages,
            "cache": cache,
        }
        return {"manager": self._declared(), "runs": self.runs.stats(), **rooms}

    def close(self) -> None:
        """Gives back what was started for us; a run that still goes on then waits for the next worker."""
        self.runs.close()
        self._local.leave()

    def _declared(self) -> Mapping[str, Any]:
        declared = self.manager.document.ecosystem.coordination
        counts = {
            name: dict(Counter(str(record["status"]) for record in records))
            for name, records in declared.model_dump(mode="json").items()
            if isinstance(records, list)
        }
        return {"repos": len(self.manager.document.ecosystem.repos), **counts}


class Planner:
    """`coord.planner`: looking ahead."""

    def __init__(self, coord: Coord) -> None:
        self._coord = coord

    def graph(self, plan: str, wanted: Selectors = ALL) -> PlanGraph:
        """Levels, critical path, what is blocked and by what, with what earlier runs have taught if a Redis is there to say so.
        Raises NotFound and PlanRefused.
        """
        coord = self._coord
        return knowing(coord.path, coord.settings, build(coord.manager.document.ecosystem, plan, wanted))

    def forecast(self, plan: str, wanted: Selectors = ALL, *, max_parallel: int | None = None) -> Forecast:
        settings, graph = self._coord.settings, self.graph(plan, wanted)
        slots = settings.slots_beside(max_parallel or graph.plan.max_parallel)
        return forecast(graph, max_parallel=slots, margin=settings.levels_margin)
