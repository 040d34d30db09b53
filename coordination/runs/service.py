"""The deeds of this room, for every face: sweep a plan, look at a run, cancel, pause, resume it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import redis

from coordination.errors import Conflict, NotFound
from coordination.models import Ecosystem
from coordination.runs.presence import Presence
from coordination.runs.progress import Event, follow, log_of
from coordination.runs.records import Reply, RunView, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submit import Order, actor, submit
from coordination.runs.view import RunReader
from coordination.settings import Settings
from coordination.wire.connection import Profile, connect
from coordination.wire.keys import Keys

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph
    from coordination.runs.dispatch import Dispatcher


class Runs:
    """One Redis, one namespace. Raises redis-py's errors when Redis is away; `wire.connection.reaching` translates them."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.settings = settings
        self.keys = Keys(settings.namespace)
        self.redis = connect(url, Profile.COMMAND, settings.connect_timeout)
        self.store = RunStore(self.redis, settings.namespace)
        self.reader = RunReader(self.redis, self.keys)
        self.presence = Presence(self.redis, self.keys)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        # Celery takes 300 ms to import; looking at a run does not need it.
        from coordination.runs.dispatch import Dispatcher
        from coordination.wire.carrier import make_app

        return Dispatcher(make_app(self.url, self.keys, self.settings), self.store)

    @cached_property
    def _blocking(self) -> redis.Redis:
        return connect(self.url, Profile.READER, self.settings.connect_timeout)

    def sweep(self, ecosystem: Ecosystem, graph: PlanGraph, order: Order) -> str:
        """Starts a run; returns its id.

        Raises Conflict where another run has one of these todos in hand, or where workers are of another version of coord.
        """
        self.presence.meet(version("coord"), self.settings.heartbeat)
        self.refuse_what_is_under_way(graph)
        run_id, reply = submit(self.store, graph, ecosystem, self.settings, order)
        self.dispatcher.follow(reply)
        return run_id

    def refuse_what_is_under_way(self, graph: PlanGraph) -> None:
        """Raises Conflict where another run has one of these todos in hand."""
        for run_id in self.store.live_runs():
            run = self.reader.read(run_id)
            shared = [t.id for t in run.todos if t.id in graph.todos and not t.state.ended]
            if shared:
                raise Conflict(
                    f"run {run_id} of {run.plan_id} is {run.status} and has {shared[0]} in hand",
                    f"follow it: coord watch {run_id}; or end it: coord cancel {run_id}",
                )

    def failed_of(self, plan_id: str) -> tuple[str, ...]:
        """What failed in the plan's latest run, and what that held up: not what was blocked from outside of it."""
        for run_id in self.redis.zrevrange(self.keys.runs, 0, -1):
            if self.redis.hget(self.keys.run(run_id).meta, "plan_id") == plan_id:
                todos = self.reader.read(run_id).todos
                return tuple(t.id for t in todos if t.attempt and t.state.ended and t.state is not TodoState.SUCCEEDED)
        raise NotFound(f"{plan_id} has not been run yet", f"run all of it: coord sweep {plan_id}")

    def read(self, run: str) -> RunView:
        return self.reader.read(self.reader.resolve(run))

    def follow(self, run_id: str, since: str = "0") -> Iterator[Event | None]:
        return follow(self._blocking, self.keys, run_id, since=since)

    def no_room(self) -> bool:
        """Whether Redis cannot write to its disk: then nothing moves, and it says so only to who asks."""
        status: str = self.redis.info("persistence").get("aof_last_write_status", "ok")
        return status != "ok"

    def log(self, run_id: str, todo_id: str) -> Iterator[str | None]:
        return log_of(self._blocking, self.keys, run_id, todo_id)

    def cancel(self, run_id: str) -> None:
        self._told(self.store.cancel(run_id, actor()), "cancelled", run_id)

    def pause(self, run_id: str) -> None:
        self._told(self.store.pause(run_id, actor()), "paused", run_id)

    def resume(self, run_id: str) -> None:
        self._told(self.store.resume(run_id, actor()), "resumed", run_id)

    def complete(self, todo_id: str) -> list[str]:
        """A person did a manual todo; returns the runs that waited for it."""
        done = []
        for run_id in self.store.live_runs():
            reply = self.store.complete(run_id, todo_id, actor())
            self.dispatcher.follow(reply)
            if reply.word == "settled":
                done.append(run_id)
                self._open_level_after(run_id, todo_id)
        return done

    def succeeded_hours(self, run_id: str) -> Mapping[str, float | None]:
        """Todo → hours that its run took, of each that succeeded: what the file is told."""
        todos = self.reader.read(run_id).todos
        return {t.id: (t.duration_s or 0.0) / 3600 for t in todos if t.state is TodoState.SUCCEEDED}

    def _open_level_after(self, run_id: str, todo_id: str) -> None:
        # No message carried this todo, so no chord counts it.
        place = self.redis.hget(self.keys.run(run_id).place, todo_id)
        self.dispatcher.advance(run_id, int(place.split()[1]), "join")

    def _told(self, reply: Reply, expected: str, run_id: str) -> None:
        if reply.word == "unknown":
            raise NotFound(f"there is no run {run_id!r}", "coord list-runs shows them")
        if reply.word != expected:
            raise Conflict(
                f"run {run_id} cannot be {expected}: its status is {reply.status}",
                f"look at it: coord show-run {run_id}",
            )
        self.dispatcher.follow(reply)
