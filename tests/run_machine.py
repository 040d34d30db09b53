"""Takes a run of any plan through any order of events, and compares it with run_model.py after each of them.

The machine is the transport: it keeps every message and delivers any of them at any time, as often as it
likes, or never. Executors crash, come late and repeat their results; people approve, reject, pause, cancel
and roll back; processes begin anew, and Redis loses its functions. Other users take and return resources.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import fakeredis
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.lock import Acquire, Held, Release
from coordination.backend.steps.run import Delivery, Reply
from coordination.models import OnFailure, Strategy
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import submit, view_of
from tests.plans import ecosystem, graph, order
from tests.run_model import ENDS, LIVE, RunModel

LEASE = timedelta(hours=1)
LOST_CAP = 3
CAPACITIES = {"gpu": 3, "db": 1}
NEEDS = st.lists(
    st.sampled_from([{"name": "gpu"}, {"name": "gpu", "amount": 2}, {"name": "db"}]),
    max_size=2,
    unique_by=lambda need: need["name"],
)
SELDOM = st.integers(0, 4).map(lambda drawn: drawn == 3)
"""Rarely true, so that many histories are long."""
PERSONS = st.sampled_from([None] * 8 + ["gate", "manual"])
OUTCOMES = st.sampled_from([TodoState.SUCCEEDED, TodoState.SUCCEEDED, TodoState.SUCCEEDED, TodoState.FAILED])
WORK = st.lists(OUTCOMES, min_size=1, max_size=5)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, tuple[str, list[str]]]:
    size = draw(st.integers(1, 9))
    names = [f"T{i}" for i in range(size)]
    return {
        name: (
            draw(st.sampled_from(["r1", "r2", "r3"])),
            sorted(draw(st.sets(st.sampled_from(names[:i]), max_size=3))) if i else [],
        )
        for i, name in enumerate(names)
    }


class AnyHistory(RuleBasedStateMachine):
    def __init__(self, client: redis.Redis | None = None) -> None:
        """`client`: a server of its own, which it empties; None: one in this process."""
        super().__init__()
        self.redis = client or fakeredis.FakeRedis(decode_responses=True)
        self.redis.flushall()
        self.store = RunStore(self.redis, "test")
        self.lock = StepCaller(self.redis)
        self.messages: list[Delivery] = []
        self.held: list[Grant] = []
        """All grants so far: their executors may be slow or dead."""
        self.lent: list[str] = []
        """Requests of another user, whose hold on a resource does not expire."""
        self.settled_by: dict[str, int] = {}
        self.model: RunModel | None = None

    @initialize(
        todos=plans(),
        strategy=st.sampled_from([Strategy.LEVELS, Strategy.DATAFLOW, Strategy.AUTO]),
        on_failure=st.sampled_from(
            [OnFailure.HALT, OnFailure.CONTINUE, OnFailure.ROLLBACK, OnFailure.ROLLBACK]
        ),
        max_parallel=st.sampled_from([None, 1, 2]),
        slots=st.sampled_from([1, 2]),
        data=st.data(),
    )
    def begin(self, todos, strategy, on_failure, max_parallel, slots, data) -> None:
        self.todos = todos
        self.needs = {name: data.draw(NEEDS) for name in todos}
        persons = {name: who for name in todos if (who := data.draw(PERSONS))}
        more = {
            name: {"resources": needs} | self.person(persons.get(name)) for name, needs in self.needs.items()
        }
        self.max_parallel = max_parallel
        auto, by_level = strategy is Strategy.AUTO, strategy is not Strategy.DATAFLOW
        how = order(Strategy.LEVELS if by_level else strategy, on_failure, max_parallel, auto=auto)
        self.run_id, reply = submit(
            self.store,
            graph(todos, slots=slots, capacities=CAPACITIES, **more),
            ecosystem(todos, slots=slots, capacities=CAPACITIES, **more),
            Settings(breaker_failures=0),
            how,
        )
        before = {name: others for name, (_, others) in todos.items()}
        self.model = RunModel(before, on_failure, by_level, auto, persons)
        self.follow(reply)

    def person(self, who: str | None) -> dict[str, Any]:
        if who == "gate":
            return {"gate": {"timeout": "1d", "on_timeout": "approve"}}
        return {"action": {"type": "manual"}} if who else {}

    def follow(self, reply: Reply) -> Reply:
        self.messages += [*reply.header, *reply.sends]
        self.see_a_wait_for_a_resource()
        for run_id, todo in reply.wakes:
            self.follow(self.store.fire(run_id, todo))
        return reply

    def see_a_wait_for_a_resource(self) -> None:
        """Resources are not part of the model."""
        switched = self.redis.hget(self.store.keys.run(self.run_id).meta, "switched")
        if switched and "waited for resource" in switched:
            self.model.waits_outside()

    def states(self) -> dict[str, str]:
        return self.redis.hgetall(self.store.keys.run(self.run_id).state)

    def any_executor(self, data: st.DataObject) -> Grant:
        """Return a grant, mostly one whose executor still holds its todo."""
        fences = set(self.redis.hvals(self.store.keys.holders))
        live = [grant for grant in self.held if str(grant.fence) in fences]
        return data.draw(st.one_of(st.sampled_from(live or self.held), st.sampled_from(self.held)))

    def join(self) -> None:
        level = self.redis.hget(self.store.keys.run(self.run_id).meta, "level")
        self.follow(self.store.advance(self.run_id, int(level), "join"))

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def deliver_any_message_that_was_ever_sent(self, data: st.DataObject) -> None:
        delivery = data.draw(st.one_of(st.sampled_from(self.messages[-4:]), st.sampled_from(self.messages)))
        self.claim(delivery)

    @rule(outcomes=WORK)
    def a_worker_works_for_a_while(self, outcomes: list[TodoState]) -> None:
        self.works(outcomes)

    @rule(outcomes=WORK)
    def another_worker_works_for_a_while(self, outcomes: list[TodoState]) -> None:
        self.works(outcomes)

    def works(self, outcomes: list[TodoState]) -> None:
        """Claim the latest messages, and settle the todos that are held, one after another."""
        for outcome in outcomes:
            self.fire_timers()
            for delivery in self.messages[-6:]:
                self.claim(delivery)
            fences = set(self.redis.hvals(self.store.keys.holders))
            if held := [grant for grant in self.held if str(grant.fence) in fences]:
                self.settle(held[0], outcome)

    def claim(self, delivery: Delivery) -> None:
        todo, request = delivery.todo_id, uuid4().hex

        def ask() -> Reply:
            return self.follow(
                self.store.claim(
                    self.run_id, todo, delivery.attempt, worker="w", host="h", lease=LEASE, request=request
                )
            )

        grant = ask().grant
        if grant is not None:
            assert ask().grant == grant, "a repeated claim returns the same grant"
            assert all(grant.fence > g.fence for g in self.held), "the fence does not grow"
            assert (grant.undo is not None) == self.model.at[todo].startswith("undo")
            self.model.granted(todo)
            self.held.append(grant)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=OUTCOMES)
    def any_executor_settles(self, data: st.DataObject, outcome: TodoState) -> None:
        self.settle(self.any_executor(data), outcome)

    def settle(self, grant: Grant, outcome: TodoState) -> None:
        current = self.redis.hget(self.store.keys.holders, f"{self.run_id} {grant.todo_id}")
        reply = self.follow(self.store.settle(grant, Result(outcome=outcome, exit_code=0)))
        if reply.word == "settled":
            assert current == str(grant.fence), "an old fence settled"
            self.settled_by[grant.todo_id] = grant.fence
            self.model.settled(grant.todo_id, outcome)
        elif reply.word == "again":
            assert self.settled_by[grant.todo_id] == grant.fence
        self.join()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["retry", "park", "hand_back"]))
    def any_executor_gives_up_for_now(self, data: st.DataObject, how: str) -> None:
        grant = self.any_executor(data)
        if how == "retry":
            reply = self.store.retry(
                grant, timedelta(milliseconds=1), Result(outcome=TodoState.FAILED, error="no")
            )
        elif how == "park":
            reply = self.store.park(grant, "something", timedelta(milliseconds=1))
        else:
            reply = self.store.hand_back(grant)
        self.follow(reply)
        if reply.word != "stale":
            todo = grant.todo_id
            ended = (
                self.model.put_off(todo) if how == "park" else self.model.again(todo, later=how == "retry")
            )
            assert (reply.word == "settled") == bool(ended)
        self.join()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def any_executor_leaves_a_checkpoint(self, data: st.DataObject) -> None:
        grant = self.any_executor(data)
        current = self.redis.hget(self.store.keys.holders, f"{self.run_id} {grant.todo_id}")
        word = self.store.checkpoint(grant, str(grant.fence)).word
        assert word == ("kept" if current == str(grant.fence) else "stale")

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_lease_runs_out(self, data: st.DataObject) -> None:
        todo = self.any_executor(data).todo_id
        self.redis.zadd(self.store.keys.leases, {f"{self.run_id} {todo}": 1}, xx=True)
        reply = self.follow(self.store.lose(self.run_id, todo, LOST_CAP))
        if reply.word == "requeued":
            assert self.model.again(todo, later=False) == ""
        elif reply.word == "settled" and not self.model.again(todo, later=False):
            self.model.at[todo] = "undo running" if self.model.at[todo] == "undo due" else "running"
            self.model.settled(todo, "failed")
        self.join()

    @rule(what=st.sampled_from(["timers", "timers", "resend", "processes"]))
    def housekeeping(self, what: str) -> None:
        if what == "timers":
            self.fire_timers()
        elif what == "resend":
            self.follow(self.store.resend(self.run_id, timedelta(0), 100))
        else:  # all begin anew, and Redis has forgotten the steps that it was sent
            self.redis.execute_command("FUNCTION", "FLUSH")
            self.store = RunStore(self.redis, "test")
        self.join()

    def fire_timers(self) -> None:
        for run_id, todo in self.store.due(int(time.time() * 1000) + 60_000):
            self.model.fired(todo)
            self.follow(self.store.fire(run_id, todo))

    @rule(how=st.sampled_from(["pause", "resume", "resume", "resume", "cancel", "roll back"]), effect=SELDOM)
    def a_person_steers(self, how: str, effect: bool) -> None:
        if how in ("pause", "resume"):
            self.follow(getattr(self.store, how)(self.run_id, "me"))
            (self.model.paused if how == "pause" else self.model.resumed)()
        elif how == "cancel" and effect:
            self.follow(self.store.cancel(self.run_id, "me"))
            self.model.cancel()
        elif effect:
            self.roll_back()

    def roll_back(self) -> None:
        self.follow(self.store.rollback(self.run_id, "me", "because"))
        self.model.roll_back()

    @rule(data=st.data(), verdict=st.sampled_from(["approve", "approve", "reject"]))
    def a_person_decides(self, data: st.DataObject, verdict: str) -> None:
        for todo in [todo for todo in self.todos if self.model.at[todo] == "gated"]:
            if self.model.at[todo] == "gated":  # one that was rejected may end the others
                self.decide(todo, verdict)
        others = [todo for todo in self.todos if self.model.at[todo] != "gated"]
        if others:
            todo = data.draw(st.sampled_from(others))
            assert self.store.approve(self.run_id, todo, "me", "").word == "idle"
            assert self.store.reject(self.run_id, todo, "me", "").word == "idle"

    def decide(self, todo: str, verdict: str) -> None:
        reply = getattr(self.store, verdict)(self.run_id, todo, "me", "")
        self.model.decided(todo, verdict)
        self.follow(reply)
        self.join()

    @rule(data=st.data())
    def a_person_accepts_a_failed_compensation(self, data: st.DataObject) -> None:
        todo = data.draw(st.sampled_from(sorted(self.todos)))
        reply = self.follow(self.store.accept(self.run_id, todo, "me", "it may stay"))
        assert (reply.word == "accepted") == (
            self.model.at[todo] in ("compensation_failed", "undo due", "undo retrying")
        ), self.model.at[todo]
        if reply.word == "accepted":
            self.model.accepted(todo)

    @rule(want=st.sampled_from(["", "1/0 resource:gpu", "3/0 resource:gpu", "1/0 resource:db"]))
    def another_user_takes_or_returns_a_resource(self, want: str) -> None:
        if not want:
            self.another_user_returns_resources()
            return
        request = f"request{len(self.lent)}"
        step = Acquire(
            request=request, wants=want, ttl_ms=3_600_000, priority=0, place_ms=0, rank="",
            party="another user", description=(),
        )  # fmt: skip
        if isinstance(self.lock(step, [self.store.keys.locks.head]), Held):
            self.lent.append(request)

    def another_user_returns_resources(self) -> None:
        while self.lent:
            step = Release(request=self.lent.pop(), party="another user")
            assert self.lock(step, [self.store.keys.locks.head])

    @invariant()
    def the_engine_keeps_its_promises(self) -> None:
        if self.model is None:
            return
        keys = self.store.keys.run(self.run_id)
        names = ["resource:gpu", "resource:db", "slot:r1", "slot:r2", "slot:r3"]
        with self.redis.pipeline(transaction=False) as pipe:
            for key in (keys.state, keys.facts, keys.meta, self.store.keys.holders):
                pipe.hgetall(key)
            for name in names:
                pipe.zrange(self.store.keys.locks.shares(name), 0, -1)
            states, facts, meta, holders, *found = pipe.execute()
        shares = dict(zip(names, found, strict=True))
        running = [todo for todo, at in states.items() if at == "running"]
        self.states_are_those_of_the_model(states, facts, meta)
        self.resources_are_used_within_their_capacity(running, shares)
        self.one_executor_for_a_todo_and_for_a_repository(running, holders, shares)
        self.counters_match_the_states(list(states.values()), meta)
        self.a_todo_that_does_not_run_says_why(meta)
        assert self.store.stuck(self.run_id) == (), "the run is stuck"

    def states_are_those_of_the_model(
        self, states: dict[str, str], facts: dict[str, str], meta: dict[str, str]
    ) -> None:
        assert {todo: self.model_state(todo, at, facts) for todo, at in states.items()} == self.model.at
        assert meta["status"] == self.model.status
        assert (meta["strategy"] == "levels") == self.model.by_level

    def model_state(self, todo: str, at: str, facts: dict[str, str]) -> str:
        """Return the state of the model that a state in Redis stands for."""
        if at in ENDS or at == "waiting":
            return at
        if f"{todo} undo" not in facts and facts.get(f"{todo} waits_for", "").startswith(
            ("an approval", "a person")
        ):
            return "gated"
        word = at if at in ("running", "retrying") else "due"
        return f"undo {word}" if f"{todo} undo" in facts else word

    def resources_are_used_within_their_capacity(
        self, running: list[str], shares: dict[str, list[str]]
    ) -> None:
        for name, capacity in CAPACITIES.items():
            needed = [n.get("amount", 1) for todo in running for n in self.needs[todo] if n["name"] == name]
            taken = shares[f"resource:{name}"]
            assert sum(needed) <= sum(int(share.split()[0]) for share in taken) <= capacity
            users = [todo for todo in running if any(need["name"] == name for need in self.needs[todo])]
            assert {f"{self.run_id} {todo}" for todo in users} <= {share.partition(" ")[2] for share in taken}

    def one_executor_for_a_todo_and_for_a_repository(
        self, running: list[str], holders: dict[str, str], shares: dict[str, list[str]]
    ) -> None:
        slots = {
            share.partition(" ")[2] for name in shares if name.startswith("slot:") for share in shares[name]
        }
        repos = [self.todos[todo][0] for todo in running]

        assert set(running) == {member.partition(" ")[2] for member in holders}
        assert len(repos) == len(set(repos))
        assert {f"{self.run_id} {todo}" for todo in running} <= slots
        if self.max_parallel:
            assert len(running) <= self.max_parallel

    def counters_match_the_states(self, states: list[str], meta: dict[str, str]) -> None:
        for state in TodoState:
            assert int(meta.get(f"n.{state}", 0)) == states.count(state)
        assert int(meta["open"]) == sum(not TodoState(s).ended for s in states)
        assert int(meta["active"]) == states.count("running") + states.count("dispatched")
        assert (meta["status"] not in LIVE) == (meta["open"] == "0")

    def a_todo_that_does_not_run_says_why(self, meta: dict[str, str]) -> None:
        """Promise 6: it is sent to a worker, says what it waits for, or is behind one that does."""
        if meta["open"] != "0":
            for todo in view_of(self.store, self.run_id).todos:
                assert todo.waits_for or todo.state not in (TodoState.PARKED, TodoState.RETRYING), todo

    def teardown(self) -> None:
        """When executors are healthy and people decide, the run ends or is undone (promise 6)."""
        if self.model is not None:
            self.another_user_returns_resources()
            self.follow(self.store.resume(self.run_id, "me"))
            self.model.resumed()
            self.end_the_run()
            if len(self.held) % 2:
                self.roll_back()
                self.end_the_run()
                assert self.model.status == "rolled_back"
                assert all(self.model.at[todo] == "compensated" for todo in self.model.intents)
            self.no_lock_lease_or_timer_is_left()

    def end_the_run(self) -> None:
        for _ in range(1000):
            if self.model.status not in LIVE:
                break
            self.a_healthy_worker_settles()
        self.the_engine_keeps_its_promises()
        assert self.model.status not in LIVE, self.model.at

    def no_lock_lease_or_timer_is_left(self) -> None:
        for pattern in ("request", "queue", "shares"):
            assert not self.redis.keys(f"test:lock-{pattern}:*")
        assert not self.redis.smembers(self.store.keys.locks.names)
        assert not self.redis.hlen(self.store.keys.holders)
        for key in (self.store.keys.timers, self.store.keys.leases, self.store.keys.live):
            assert not self.redis.zcard(key)

    def a_healthy_worker_settles(self) -> None:
        for todo, at in self.states().items():
            if at == "running":
                fence = self.redis.hget(self.store.keys.holders, f"{self.run_id} {todo}")
                self.settle(next(g for g in self.held if str(g.fence) == fence), TodoState.SUCCEEDED)
        for todo in [todo for todo, at in self.model.at.items() if at == "gated"]:
            self.decide(todo, "approve")
        self.join()
        self.fire_timers()
        messages, self.messages = self.messages, []
        for message in messages:
            self.claim(message)
