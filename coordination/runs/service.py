"""The deeds of this room, for every face: sweep a plan, retry a run, look at one, cancel, pause, resume it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.server_check import refuse_unfit
from coordination.ecosystem.revision import Outcome
from coordination.environment import actor
from coordination.errors import Conflict, NotFound, UsageError
from coordination.messages import MessageBus
from coordination.messages.bus import open_bus
from coordination.messages.live import BEGINNING
from coordination.models import Ecosystem, OnFailure, Verdict
from coordination.runs import approvals
from coordination.runs.approvals import Decision
from coordination.runs.filings import file_outcome, keep_filings
from coordination.runs.presence import Presence
from coordination.runs.records import Reply, RunStatus, RunView, TodoState
from coordination.runs.retrying import named_checkpoints
from coordination.runs.retrying.ended import read, refuse_again, restorable
from coordination.runs.retrying.named_checkpoints import NamedCheckpoint, one_named
from coordination.runs.retrying.retry_plan import CarryOver, left_of, submit_retry
from coordination.runs.rollback import Prospect, prospect, refuse_built_on, refuse_to_accept
from coordination.runs.store import RunStore
from coordination.runs.submission.conflicts import refuse_under_way
from coordination.runs.submission.landed import bases, refuse_not_landed
from coordination.runs.submission.structure import refuse_changed
from coordination.runs.submission.submit import Order, submit
from coordination.runs.views.durations import learned
from coordination.runs.views.log_reader import LogReader, marked, prefixed
from coordination.runs.views.progress import Event, follow
from coordination.runs.views.run_view import RunReader
from coordination.settings import Settings
from coordination.text import did_you_mean, listed

if TYPE_CHECKING:
    from coordination.breakers.manager import BreakerManager
    from coordination.cache.contexts import Cache
    from coordination.locks import Lock, LockManager
    from coordination.planner.graph import PlanGraph
    from coordination.runs.dispatch import Dispatcher
    from coordination.runs.export.received import Received

START_TTL = timedelta(minutes=1)
"""Longer than it takes to write a large run."""


class Runs:
    """One Redis, one namespace. Raises redis-py's errors when Redis is away; `backend.client.reaching` translates them."""

    def __init__(self, url: str, settings: Settings, ecosystem_id: str = "") -> None:
        """`ecosystem_id`: what the file has as `coordination.id`, for what starts or changes runs."""
        self.url = url
        self.settings = settings
        self.ecosystem_id = ecosystem_id
        self.keys = Keys(settings.namespace)
        self.redis = connect(url, Profile.COMMAND, settings.connect_timeout)
        self.store = RunStore(self.redis, settings.namespace)
        self.reader = RunReader(self.redis, self.keys)
        self.presence = Presence(self.redis, self.keys)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        # Celery takes 300 ms to import; looking at a run does not need it.
        from coordination.broker.celery_app import make_app
        from coordination.runs.dispatch import Dispatcher

        return Dispatcher(make_app(self.url, self.keys, self.settings), self.store)

    @cached_property
    def locks(self) -> LockManager:
        from coordination.locks import LockManager  # looking at runs does not need it: `list-runs` starts 11 ms sooner

        return LockManager(self.redis, self.settings.namespace)

    @cached_property
    def breakers(self) -> BreakerManager:
        from coordination.breakers.manager import BreakerManager
        from coordination.breakers.records import Policy

        return BreakerManager(self.redis, self.settings.namespace, policy=Policy.of(self.settings))

    @cached_property
    def cache(self) -> Cache:
        from coordination.cache.contexts import Cache
        from coordination.cache.limits import Limits

        return Cache(self.redis, self.settings.namespace, Limits.of(self.settings))

    @cached_property
    def messages(self) -> MessageBus:
        """The sender is who works at this machine."""
        return open_bus(self.redis, self.settings)

    @cached_property
    def _blocking(self) -> redis.Redis:
        return connect(self.url, Profile.READER, self.settings.connect_timeout)

    def knowing(self, graph: PlanGraph) -> PlanGraph:
        """With what was learned in earlier runs of how long todos take. Asks no server that is of no use."""
        refuse_unfit(self.redis, self.url)
        return graph.with_learned(learned(self.redis, self.keys, graph.unknown))

    def sweep(self, ecosystem: Ecosystem, graph: PlanGraph, order: Order, accepted: Collection[str] = ()) -> str:
        """Starts a run; returns its id. `accepted`: completed todos whose results count as landed, by a person's word.

        Raises Conflict where another run has one of these todos in hand, where workers are of another version of coord or another
        ecosystem, or
        (NotLanded) where the result of a completed predecessor is not in its base branch.
        """
        self._look_at_redis()
        self.refuse_not_landed(ecosystem, graph, accepted)
        with self._alone():
            self.refuse_what_is_under_way(graph.todos)
            run_id, reply = submit(self.store, graph, ecosystem, self.settings, order)
        self._follow(run_id, reply)
        return run_id

    def refuse_not_landed(
        self, ecosystem: Ecosystem, graph: PlanGraph, accepted: Collection[str] = (), *, record: bool = True
    ) -> None:
        """Raise NotLanded where a todo of the graph stands on a result that is not in its base branch."""
        wanted = bases(ecosystem, graph.plan, graph.todos)
        refuse_not_landed(self.store, self.presence, wanted, accepted, record=record)

    def left_of(
        self,
        run_id: str,
        ecosystem: Ecosystem | None = None,
        *,
        without: Collection[str] = (),
        start: Collection[str] = (),
        as_it_was: bool = False,
    ) -> CarryOver:
        """What a retry of the run would do: see `carry_over.left_of`.

        Raises Conflict for a run that goes on or was retried, or a host that is there; NotFound; UsageError; PlanRefused.
        """
        ended = read(self.store, run_id)
        self._refuse_living(ended.pins, without)
        carried = restorable(self.store, ended)
        how: dict[str, Any] = {"without": without, "start": start, "as_it_was": as_it_was}
        return left_of(ended, ecosystem, self.settings, carried=carried, **how)

    def retry(self, left: CarryOver, *, on_failure: OnFailure | None = None, max_parallel: int | None = None) -> str:
        """Starts a run of what is left of another; returns its id. Raises Conflict as `sweep` does."""
        self._look_at_redis()
        refuse_not_landed(self.store, self.presence, left.bases)
        with self._alone():
            refuse_again(self.store, left.ended)
            self.refuse_what_is_under_way(left.again)
            run_id, reply = submit_retry(
                self.store, left, self.settings, on_failure=on_failure, max_parallel=max_parallel
            )
        self._follow(run_id, reply)
        return run_id

    def import_(self, run: Received) -> str:
        """A run of another Redis is one of this one. Raises Conflict where it is here, or a run has one of its open todos in hand."""
        from coordination.runs.export.adoption import adopt, refuse_known

        self._look_at_redis()
        with self._alone():
            refuse_known(self.store, run)
            self.refuse_what_is_under_way(run.unsettled)
            adopt(self.store, run, actor())
        return run.run_id

    def _refuse_living(self, pins: Mapping[str, str], without: Collection[str]) -> None:
        for worker in self.presence.workers():
            serves = [repo for repo in worker.fit if pins.get(repo) == worker.host]
            if worker.host in without and serves:
                raise Conflict(
                    f"host {worker.host} is there: {worker.id} serves {serves[0]}",
                    f"leave --without {worker.host} out; or stop that worker first",
                )

    def prospect(self, run_id: str) -> Prospect:
        """What a rollback of the run would undo. Raises NotFound; Conflict where a later run has built on it."""
        refuse_built_on(self.store, run_id)
        return prospect(self.store, run_id)

    def rollback(self, run_id: str) -> str:
        """Undoes what the run has begun: `rolling_back` from now on, `already` where that was so, `done` where it is undone.

        Raises NotFound; Conflict where a later run has built on it, or another one has one of its todos in hand.
        """
        self._look_at_redis()
        with self._alone():
            self._refuse_to_undo(run_id)
            reply = self.store.rollback(run_id, actor(), f"{actor()} asked for it")
        self._follow(run_id, reply)
        if reply.word == "unknown":
            raise NotFound(f"there is no run {run_id!r}", "coord list-runs shows them")
        return reply.word

    def create_checkpoint(self, run_id: str, name: str) -> NamedCheckpoint:
        """Raises UsageError, NotFound or Conflict: see `named_checkpoints.create`."""
        return named_checkpoints.create(self.store, run_id, name, actor())

    def checkpoints(self, run_id: str) -> list[NamedCheckpoint]:
        """Of the run, the oldest first."""
        return named_checkpoints.named(self.store, run_id)

    def undone_by_restore(self, run_id: str, name: str) -> Prospect:
        """What a restore would undo: what the run has begun since. Raises NotFound; Conflict where a later run has built on it."""
        found = self.prospect(run_id)
        todos = named_checkpoints.since(self.store, one_named(self.store, run_id, name), found.todos)
        helpless = tuple(todo for todo in found.helpless if todo in todos)
        return replace(found, todos=todos, helpless=helpless, takes_up=())

    def restore(self, run_id: str, name: str) -> Prospect:
        """Begins to undo what came since the checkpoint; when the run has ended, retry it. Nothing is begun where nothing came since
        and the run has ended. Asked again, it goes on. Raises as `rollback` does.
        """
        self._look_at_redis()
        with self._alone():
            found = self.undone_by_restore(run_id, name)
            if found.status.ended:
                self.refuse_what_is_under_way(found.todos)
            if not found.todos and found.status.ended and found.status not in named_checkpoints.BACK:
                return found
            reply = self.store.restore(run_id, actor(), name)
        named_checkpoints.refuse_restore(run_id, reply.word)
        self._follow(run_id, reply)
        return found

    def accept(self, run_id: str, todos: Collection[str], reason: str) -> None:
        """What could not be undone counts as undone, for this reason, and the rest goes on.

        Raises UsageError without a reason; NotFound; Conflict where one of the todos is no failed compensation.
        """
        if not reason.strip():
            raise UsageError("whoever answers for what could not be undone says why", 'add: --reason "…"')
        self._look_at_redis()
        with self._alone():
            self._refuse_to_undo(run_id)
            refuse_to_accept(self.reader.read(run_id), todos)
            replies = {todo: self.store.accept(run_id, todo, actor(), reason.strip()) for todo in dict.fromkeys(todos)}
        for reply in replies.values():
            self.dispatcher.follow(reply)
        if late := [todo for todo, reply in replies.items() if reply.word != "accepted"]:
            words = f"{listed(late)} of run {run_id} is being undone at this moment"
            raise Conflict(words, f"wait what comes of it: coord watch {run_id}")

    def _refuse_to_undo(self, run_id: str) -> None:
        found = self.prospect(run_id)
        if found.status.ended:
            self.refuse_what_is_under_way(found.todos)

    def refuse_what_is_under_way(self, todos: Collection[str]) -> None:
        """Raises Conflict where another run has one of these todos in hand."""
        refuse_under_way(self.store, self.reader, todos)

    def failed_of(self, plan_id: str) -> tuple[str, ...]:
        """What failed in the plan's latest run, and what that held up: not what was blocked from outside of it."""
        for run_id in self.redis.zrevrange(self.keys.runs, 0, -1):
            if self.redis.hget(self.keys.run(run_id).meta, "plan_id") == plan_id:
                todos = self.reader.read(run_id).todos
                return tuple(t.id for t in todos if t.attempt and t.state.ended and t.state is not TodoState.SUCCEEDED)
        raise NotFound(f"{plan_id} has not been run yet", f"run all of it: coord sweep {plan_id}")

    def read(self, run: str) -> RunView:
        return self.reader.read(self.reader.resolve(run))

    def follow(self, run_id: str, since: str = BEGINNING) -> Iterator[Event | None]:
        return follow(self._blocking, self.keys, run_id, since=since)

    def last_event(self, run_id: str) -> str:
        """From where on what comes is news."""
        newest = self.redis.xrevrange(self.keys.run(run_id).events, count=1)
        return newest[0][0] if newest else BEGINNING

    def close(self) -> None:
        if "locks" in self.__dict__:
            self.locks.close()
        if "breakers" in self.__dict__:
            self.breakers.close()
        if "cache" in self.__dict__:
            self.cache.close()
        self.redis.close()
        if "_blocking" in self.__dict__:
            self._blocking.close()

    def no_room(self) -> bool:
        """Whether Redis cannot write to its disk: then nothing moves, and it says so only to who asks."""
        status: str = self.redis.info("persistence").get("aof_last_write_status", "ok")
        return status != "ok"

    def log(self, run_id: str, todo: str | None = None, *, follow: bool = False) -> Iterator[str]:
        """What a todo wrote over all its attempts, in pieces; without one, what all wrote, each line with its todo.

        With `follow` until what is asked for has ended. Raises NotFound.
        """
        todos = self._todos(run_id, todo)
        reader = LogReader(self._blocking, self.keys, run_id, todos)
        texts = marked(reader.followed() if follow else reader.written())
        return prefixed(texts, todos) if todo is None else (text for _, text in texts)

    def _todos(self, run_id: str, todo: str | None) -> list[str]:
        todos = [one.id for one in self.reader.read(run_id).todos]
        if todo is None:
            return todos
        if todo not in todos:
            raise NotFound(
                f"run {run_id} has no todo {todo!r}{did_you_mean(todo, todos)}",
                f"coord show-run {run_id} lists them",
            )
        return [todo]

    def cancel(self, run_id: str) -> None:
        self._told(self.store.cancel(run_id, actor()), "cancelled", run_id)

    def pause(self, run_id: str) -> None:
        self._told(self.store.pause(run_id, actor()), "paused", run_id)

    def resume(self, run_id: str, ecosystem: Ecosystem | None = None) -> None:
        """Raises PlanRefused where the file, if there is one, has another graph for the run's todos; NotFound; Conflict."""
        if ecosystem is not None and self.reader.status(run_id) is RunStatus.PAUSED:
            left = {todo.id for todo in self.reader.read(run_id).todos if not todo.state.ended}
            refuse_changed(self.store.brief(run_id), ecosystem, left, f"resume {run_id}")
        self._told(self.store.resume(run_id, actor()), "resumed", run_id)

    def complete(self, todo_id: str, run_id: str | None = None) -> str:
        """A person did a manual todo; returns the run that goes on. Raises NotFound, Conflict, or UsageError where more
        than one run waits for it and none is named.
        """
        live = self.store.live_runs() if run_id is None else [run_id]
        chosen = approvals.run_with_manual_todo(todo_id, approvals.find_runs_of(self.redis, self.keys, todo_id, live))
        reply = self.store.complete(chosen, todo_id, actor())
        self.dispatcher.follow(reply)
        if reply.word != "settled":
            raise Conflict(f"{todo_id} of run {chosen} was settled meanwhile", f"look at it: coord show-run {chosen}")
        self.dispatcher.open_level_after(chosen, todo_id)
        return chosen

    def approve(self, todo_id: str, run_id: str | None = None, comment: str = "") -> Decision:
        """A person lets a todo go on at its gate, or has done a manual one. A run that is paused goes on with it when it is
        resumed. Raises NotFound, Conflict, or UsageError where nothing is to approve or more than one run asks.
        """
        return self._decide(Verdict.APPROVE, todo_id, run_id, comment)

    def reject(self, todo_id: str, run_id: str | None = None, comment: str = "") -> Decision:
        """It has failed, and is not tried again; the run's `on_failure` says what follows. Raises as `approve` does."""
        return self._decide(Verdict.REJECT, todo_id, run_id, comment)

    def _decide(self, verdict: Verdict, todo_id: str, run_id: str | None, comment: str) -> Decision:
        chosen = approvals.run_with_gate(self.store, verdict, todo_id, run_id)
        step = self.store.approve if verdict is Verdict.APPROVE else self.store.reject
        who, said = actor(), comment.strip()
        reply = step(chosen, todo_id, who, said)
        self.dispatcher.follow(reply)
        if reply.word == "idle":  # somebody else has decided meanwhile
            (one,) = approvals.find_runs_of(self.redis, self.keys, todo_id, [chosen])
            raise approvals.why_not(self.store, verdict, todo_id, one)
        if reply.word == "settled":
            self.dispatcher.open_level_after(chosen, todo_id)
        status = self.reader.status(chosen)
        return Decision(todo=todo_id, run_id=chosen, verdict=verdict, by=who, comment=said, run_status=status)

    def look_after(self) -> None:
        """One round of what a worker's keeper does all the time: where no worker is left, nobody else gives up a dead one."""
        from coordination.runs.maintenance.leader import Reaper

        if self.settings.reaper:
            Reaper(self.store, self.dispatcher, self.settings).run_once()

    def outcome(self, run_id: str) -> Outcome:
        """What the file is told of the run: of one of a recurring plan, nothing."""
        return file_outcome(self.store, self.reader.read(run_id))

    def filed(self, run_id: str, completed: Collection[str], reopened: Collection[str], left: Collection[str]) -> None:
        """Keeps what of the run's outcome was written to the file; without that, a sweep is refused where the file still says
        completed (`landed.py`). `left`: undone, and completed in the file all the same.
        """
        keep_filings(self.store, run_id, completed, reopened, left)

    def _alone(self) -> Lock:
        """To look what is under way and to start a run: two at once would both find nothing, and both do the work."""
        return self.locks.acquire("start", ttl=START_TTL, wait=START_TTL, owner=actor())

    def _look_at_redis(self) -> None:
        """Before a run is started: it must keep what it is given, and be of our version of coord and our ecosystem."""
        refuse_unfit(self.redis, self.url)
        self.presence.meet(version("coord"), self.settings.heartbeat, self.ecosystem_id)

    def _told(self, reply: Reply, expected: str, run_id: str) -> None:
        if reply.word == "unknown":
            raise NotFound(f"there is no run {run_id!r}", "coord list-runs shows them")
        if reply.word != expected:
            raise _refused(expected, self.reader.read(run_id, todos=False))
        self._follow(run_id, reply)

    def _follow(self, run_id: str, reply: Reply) -> None:
        """With what is left to do of it where the run is large: should we die here, keepers do that."""
        self.dispatcher.follow(reply)
        self.dispatcher.finish(run_id)


def _refused(wish: str, run: RunView) -> Conflict:
    if run.status is RunStatus.ROLLING_BACK:
        words = f"run {run.run_id} cannot be {wish}: it is being rolled back, and goes on in that direction"
        return Conflict(words, f"follow it: coord watch {run.run_id}")
    if run.status.ended:
        words = f"run {run.run_id} cannot be {wish}: it ended as {run.status} at {run.finished_at}"
        return Conflict(words, f"look at it: coord show-run {run.run_id}")
    if run.status is RunStatus.PAUSED:
        return Conflict(f"run {run.run_id} is paused already", f"go on with it: coord resume {run.run_id}")
    return Conflict(f"run {run.run_id} cannot be {wish}: it is {run.status}", f"follow it: coord watch {run.run_id}")
