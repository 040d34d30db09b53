"""Any plan, any order of deliveries, losses, retries, pauses, cancels and repetitions: the promises hold at every step.

The carrier is played by the machine: it keeps every message for ever and delivers any of them at any time, as often as it
likes. Somebody else takes resources and gives them back. What must hold is held against a model that only knows the plan.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import fakeredis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordination.models import OnFailure, Strategy
from coordination.planner.delivery import Delivery
from coordination.runs.records import Grant, Reply, Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submit import submit
from coordination.runs.view import RunReader
from coordination.settings import Settings
from coordination.wire.scripts import Scripts
from tests.plans import ecosystem, graph, order

LEASE = timedelta(hours=1)
LOST_CAP = 3
CAPACITIES = {"gpu": 3, "db": 1}
NEEDS = st.lists(
    st.sampled_from([{"name": "gpu"}, {"name": "gpu", "amount": 2}, {"name": "db"}]),
    max_size=2,
    unique_by=lambda need: need["name"],
)
OUTCOMES = st.sampled_from([TodoState.SUCCEEDED, TodoState.SUCCEEDED, TodoState.SUCCEEDED, TodoState.FAILED])


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
    def __init__(self) -> None:
        super().__init__()
        self.redis = fakeredis.FakeRedis(decode_responses=True)
        self.store = RunStore(self.redis, "test")
        self.lock = Scripts(self.redis)
        self.messages: list[Delivery] = []
        self.held: list[Grant] = []
        """Every grant ever given: executors may be slow, dead or both."""
        self.lent: list[str] = []
        """Requests of somebody else, whose hold on a resource does not expire."""
        self.outcome: dict[str, str] = {}
        self.settled_by: dict[str, int] = {}

    @initialize(
        todos=plans(),
        strategy=st.sampled_from([Strategy.LEVELS, Strategy.DATAFLOW]),
        on_failure=st.sampled_from([OnFailure.HALT, OnFailure.CONTINUE]),
        max_parallel=st.sampled_from([None, 1, 2]),
        slots=st.sampled_from([1, 2]),
        data=st.data(),
    )
    def begin(self, todos, strategy, on_failure, max_parallel, slots, data) -> None:
        self.todos = todos
        self.needs = {name: data.draw(NEEDS) for name in todos}
        more = {name: {"resources": needs} for name, needs in self.needs.items()}
        self.strategy = strategy
        self.max_parallel = max_parallel
        how = order(strategy, on_failure, max_parallel)
        self.run_id, reply = submit(
            self.store,
            graph(todos, slots=slots, capacities=CAPACITIES, **more),
            ecosystem(todos, slots=slots, capacities=CAPACITIES, **more),
            Settings(),
            how,
        )
        self.follow(reply)

    def follow(self, reply: Reply) -> Reply:
        self.messages += [*reply.header, *reply.sends]
        for run_id, todo in reply.wakes:
            self.follow(self.store.fire(run_id, todo))
        return reply

    def states(self) -> dict[str, str]:
        return self.redis.hgetall(self.store.keys.run(self.run_id).state)

    def any_executor(self, data: st.DataObject) -> Grant:
        """Mostly one that still holds its todo."""
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
        before = self.states()
        over = self.redis.hmget(self.store.keys.run(self.run_id).meta, "halted", "cancelled")
        reply = self.follow(
            self.store.claim(self.run_id, delivery.todo_id, delivery.attempt, worker="w", host="h", lease=LEASE)
        )
        if reply.grant is None:
            return
        _, predecessors = self.todos[delivery.todo_id]
        assert before[delivery.todo_id] == "dispatched"
        assert over == [None, None], "started after a halt or a cancel"
        assert all(self.outcome.get(p) == "succeeded" for p in predecessors), (
            "started before its predecessors succeeded"
        )
        assert all(reply.grant.fence > g.fence for g in self.held), "a fence that does not grow"
        self.held.append(reply.grant)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=OUTCOMES)
    def any_executor_settles(self, data: st.DataObject, outcome: TodoState) -> None:
        grant = self.any_executor(data)
        current = self.redis.hget(self.store.keys.holders, f"{self.run_id} {grant.todo_id}")
        reply = self.follow(self.store.settle(grant, Result(outcome=outcome, exit_code=0)))
        if reply.word == "settled":
            assert current == str(grant.fence), "an old fence settled"
            assert grant.todo_id not in self.outcome, "settled twice"
            self.outcome[grant.todo_id] = outcome
            self.settled_by[grant.todo_id] = grant.fence
        elif reply.word == "again":
            assert self.settled_by[grant.todo_id] == grant.fence
        self.join()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["retry", "park", "hand_back"]))
    def any_executor_gives_up_for_now(self, data: st.DataObject, how: str) -> None:
        grant = self.any_executor(data)
        if how == "retry":
            reply = self.store.retry(grant, timedelta(milliseconds=1), Result(outcome=TodoState.FAILED, error="no"))
        elif how == "park":
            reply = self.store.park(grant, "something", timedelta(milliseconds=1))
        else:
            reply = self.store.hand_back(grant)
        if reply.word == "settled":
            self.outcome[grant.todo_id] = self.states()[grant.todo_id]
        self.follow(reply)
        self.join()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_lease_runs_out(self, data: st.DataObject) -> None:
        todo = self.any_executor(data).todo_id
        self.redis.zadd(self.store.keys.leases, {f"{self.run_id} {todo}": 1}, xx=True)
        reply = self.follow(self.store.lose(self.run_id, todo, LOST_CAP))
        if reply.word == "settled":
            self.outcome[todo] = self.states()[todo]
        self.join()

    @rule()
    def timers_are_fired(self) -> None:
        for run_id, todo in self.store.due(2**53):
            self.follow(self.store.fire(run_id, todo))

    @rule()
    def everything_unclaimed_is_sent_again(self) -> None:
        self.follow(self.store.resend(self.run_id, timedelta(0), 100))

    @rule(on=st.booleans())
    def somebody_pauses_or_resumes(self, on: bool) -> None:
        self.follow(self.store.pause(self.run_id, "me") if on else self.store.resume(self.run_id, "me"))

    @rule(earnest=st.integers(0, 9))
    def somebody_cancels(self, earnest: int) -> None:
        if earnest == 0:  # rarely, or no history would be long
            self.follow(self.store.cancel(self.run_id, "me"))

    @rule(want=st.sampled_from(["1/0 resource:gpu", "3/0 resource:gpu", "1/0 resource:db"]))
    def somebody_else_takes_what_is_free(self, want: str) -> None:
        request = f"request{len(self.lent)}"
        args = [request, want, 3_600_000, 0, 0, "", "somebody"]
        if self.lock_step("acquire", *args).startswith("held "):
            self.lent.append(request)

    @rule()
    def somebody_else_gives_it_back(self) -> None:
        while self.lent:
            assert self.lock_step("release", self.lent.pop(), "somebody") == 1

    def lock_step(self, step: str, *args: str | int) -> Any:
        return self.lock(f"lock/{step}", [self.store.keys.locks.head], args)

    @invariant()
    def resources_are_used_within_their_capacity(self) -> None:
        for name, capacity in CAPACITIES.items() if hasattr(self, "run_id") else ():
            running = [todo for todo, at in self.states().items() if at == "running"]
            in_use = sum(need.get("amount", 1) for todo in running for need in self.needs[todo] if need["name"] == name)
            shares = self.shares(f"resource:{name}")
            assert in_use <= sum(int(share.split()[0]) for share in shares) <= capacity
            assert {f"{self.run_id} {t}" for t in running if any(n["name"] == name for n in self.needs[t])} <= {
                share.partition(" ")[2] for share in shares
            }

    def shares(self, name: str) -> list[str]:
        return self.redis.zrange(self.store.keys.locks.shares(name), 0, -1)

    @invariant()
    def what_has_ended_stays_as_it_ended(self) -> None:
        if hasattr(self, "run_id"):
            states = self.states()
            assert all(states[todo] == outcome for todo, outcome in self.outcome.items())

    @invariant()
    def one_executor_for_a_todo_and_for_a_repository(self) -> None:
        if not hasattr(self, "run_id"):
            return
        running = [todo for todo, at in self.states().items() if at == "running"]
        holders = {m.partition(" ")[2] for m in self.redis.hkeys(self.store.keys.holders)}
        seats = {share.partition(" ")[2] for repo in ("r1", "r2", "r3") for share in self.shares(f"seat:{repo}")}
        repos = [self.todos[todo][0] for todo in running]

        assert set(running) == holders
        assert len(repos) == len(set(repos))
        assert {f"{self.run_id} {todo}" for todo in running} <= seats
        if self.max_parallel:
            assert len(running) <= self.max_parallel

    @invariant()
    def the_counts_are_what_is_there(self) -> None:
        if not hasattr(self, "run_id"):
            return
        states = list(self.states().values())
        meta = self.redis.hgetall(self.store.keys.run(self.run_id).meta)
        for state in TodoState:
            assert int(meta.get(f"n.{state}", 0)) == states.count(state)
        assert int(meta["open"]) == sum(not TodoState(s).ended for s in states)
        assert int(meta["active"]) == states.count("running") + states.count("dispatched")
        assert (meta["status"] in ("succeeded", "failed", "cancelled")) == (meta["open"] == "0")

    @invariant()
    def a_todo_that_does_not_run_says_why(self) -> None:
        """Promise 6: it is under way to a worker, or says what it waits for, or stands behind one that does."""
        if not hasattr(self, "run_id") or self.redis.hget(self.store.keys.run(self.run_id).meta, "open") == "0":
            return
        view = RunReader(self.redis, self.store.keys).read(self.run_id)
        for todo in view.todos:
            if todo.state in (TodoState.PARKED, TodoState.RETRYING):
                assert todo.waits_for, todo

    def teardown(self) -> None:
        """Whatever happened: once executors are well again, the run ends (promise 6)."""
        if hasattr(self, "run_id"):
            self.somebody_else_gives_it_back()
            self.follow(self.store.resume(self.run_id, "me"))
            for _ in range(1000):
                if self.redis.hget(self.store.keys.run(self.run_id).meta, "open") == "0":
                    break
                self.step_of_a_well_worker()
            assert self.redis.hget(self.store.keys.run(self.run_id).meta, "open") == "0", self.states()
            assert not self.redis.keys("test:lock-request:*")
            assert not self.redis.keys("test:lock-queue:*")
            assert not self.redis.keys("test:lock-shares:*")
            assert not self.redis.smembers(self.store.keys.locks.names)
            assert not self.redis.hlen(self.store.keys.holders)
            assert not self.redis.zcard(self.store.keys.timers)
            assert not self.redis.zcard(self.store.keys.leases)
            assert not self.redis.zcard(self.store.keys.live)
        self.redis.close()

    def step_of_a_well_worker(self) -> None:
        for todo, at in self.states().items():
            if at == "running":
                fence = self.redis.hget(self.store.keys.holders, f"{self.run_id} {todo}")
                grant = next(g for g in self.held if str(g.fence) == fence)
                self.follow(self.store.settle(grant, Result(outcome=TodoState.SUCCEEDED, exit_code=0)))
        self.join()
        self.timers_are_fired()
        messages, self.messages = self.messages, []
        for m in messages:
            reply = self.follow(self.store.claim(self.run_id, m.todo_id, m.attempt, worker="w", host="h", lease=LEASE))
            if reply.grant:
                self.held.append(reply.grant)


AnyHistory.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # to make a history that fails shorter takes minutes
)
TestAnyHistory = AnyHistory.TestCase
