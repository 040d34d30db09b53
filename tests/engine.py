"""The port of the engine: the steps of a run on a real Redis, from its submission to its end, and its views.

Replies become deliveries in memory, and the test plays the workers, people and timers. A test of the engine
takes its steps here, so that a change of the stores and scripts behind them concerns this module.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Self

from coordination.backend.steps.run import Delivery, Reply
from coordination.breakers.manager import BreakerManager
from coordination.models import Ecosystem
from coordination.planner.graph import PlanGraph, build
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Result, RunBrief, TodoState
from coordination.runs.retrying.ended import read, restorable
from coordination.runs.retrying.retry_plan import RetryPlan, plan_retry_of
from coordination.runs.retrying.retry_run import submission_of_retry
from coordination.runs.store import RunStore
from coordination.runs.submission import submit as submission
from coordination.runs.submission.draft import Signing
from coordination.runs.submission.order import Order
from coordination.runs.views.costs import AgentCosts, CostsBy, agents_of, read_costs
from coordination.runs.views.records import RunView, TodoView
from coordination.runs.views.run_view import RunReader
from coordination.settings import Settings
from tests.plans import PLAN, Todos, ecosystem, order

LEASE = timedelta(seconds=30)
OK = Result(outcome=TodoState.SUCCEEDED, exit_code=0)
UNBROKEN = Settings(breaker_failures=0)
"""A history of failures is about them, not about what a circuit breaker makes of them."""
BAD = Result(outcome=TodoState.FAILED, exit_code=1, error="exit code 1")


def submit(
    store: RunStore,
    graph: PlanGraph,
    ecosystem: Ecosystem,
    settings: Settings,
    order: Order,
    file: str = "",
    signing: Signing | None = None,
    **where: Any,
) -> tuple[str, Reply]:
    """Submit a run as the product does."""
    found = submission.submission_of(store, graph, ecosystem, settings, order, file, **where)
    return submission.submit(store, found, signing)


def retry_of(
    store: RunStore, run_id: str, file: Ecosystem | None, settings: Settings | None = None, **which: Any
) -> RetryPlan:
    """Plan the retry of an ended run; `which`: as for the plan of the product."""
    old = read(store, run_id)
    which.setdefault("carried", restorable(store, old))
    return plan_retry_of(old, file, settings or Settings(), **which)


def submit_retry(
    store: RunStore, retry: RetryPlan, settings: Settings, *, signing: Signing | None = None, **how: Any
) -> tuple[str, Reply]:
    how = {"on_failure": None, "max_parallel": None, **how}
    return submission.submit(store, submission_of_retry(store, retry, settings, {}, **how), signing)


def view_of(store: RunStore, run_id: str) -> RunView:
    return RunReader(store.redis, store.keys).read(run_id)


class Engine:
    """One run on one Redis, with the workers' part played step by step."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.mail: deque[Delivery] = deque()
        self.run_id = ""

    def submit(
        self, graph: PlanGraph, ecosystem: object, order: Order, settings: Settings | None = None
    ) -> str:
        self.run_id, reply = submit(self.store, graph, ecosystem, settings or UNBROKEN, order)  # type: ignore[arg-type]
        self.follow(reply)
        return self.run_id

    def begin(
        self,
        todos: Todos,
        *,
        slots: int = 1,
        capacities: Mapping[str, int] | None = None,
        more: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
        **how: Any,
    ) -> Self:
        """Submit a plan. `more`: further fields of single todos; `how`: arguments of `plans.order`."""
        eco = ecosystem(todos, slots=slots, capacities=capacities, **(more or {}))
        self.submit(build(eco, PLAN), eco, order(**how), settings)
        return self

    def follow(self, reply: Reply) -> Reply:
        self.mail.extend([*reply.header, *reply.sends])
        for run_id, todo_id in reply.wakes:
            self.follow(self.store.fire(run_id, todo_id))
        return reply

    def begin_again(self, retry: RetryPlan, **how: Any) -> Reply:
        """Submit the retry; from here on its run is the one whose steps are taken."""
        self.run_id, reply = submit_retry(self.store, retry, Settings(), **how)
        return self.follow(reply)

    def claim(self, delivery: Delivery, host: str = "h1", request: str = "", unfit: str = "") -> Reply:
        return self.follow(
            self.store.claim(
                delivery.run_id,
                delivery.todo_id,
                delivery.attempt,
                worker="w",
                host=host,
                lease=LEASE,
                request=request,
                unfit=unfit,
            )
        )

    def next(self) -> Grant | None:
        """Claims the next delivery; None where it is refused."""
        return self.claim(self.mail.popleft()).grant

    def take(self, todo: str) -> Grant:
        """Claims the delivery of this todo, which must be granted."""
        delivery = next(d for d in self.mail if d.todo_id == todo)
        self.mail.remove(delivery)
        grant = self.claim(delivery).grant
        assert grant is not None, f"{todo} was refused"
        return grant

    def settle(self, grant: Grant, result: Result = OK) -> str:
        word = self.follow(self.store.settle(grant, result)).word
        self.join()
        return word

    def lose(self, todo: str, cap: int = 3) -> str:
        """The lease of the todo runs out."""
        self.store.redis.zadd(self.store.keys.leases, {f"{self.run_id} {todo}": 1})
        return self.follow(self.store.lose(self.run_id, todo, cap)).word

    def roll_back(self) -> str:
        return self.follow(self.store.rollback(self.run_id, "lena", "lena asked for it")).word

    def retry(self, grant: Grant, delay: timedelta, result: Result = BAD) -> Reply:
        """The todo failed and is tried again after the delay."""
        return self.follow(self.store.retry(grant, delay, result))

    def hand_back(self, grant: Grant, output: str = "") -> Reply:
        """The worker stops and gives the todo back."""
        return self.follow(self.store.hand_back(grant, output))

    def park(self, grant: Grant, waits_for: str, delay: timedelta) -> Reply:
        return self.follow(self.store.park(grant, waits_for, delay))

    def hold_up(self, grant: Grant, why: str, delay: timedelta, **how: Any) -> Reply:
        """A temporary failure parks the todo; `how`: as for the step of the store."""
        return self.follow(self.store.hold_up(grant, why, delay, **how))

    def checkpoint(self, grant: Grant, output: str) -> str:
        return self.follow(self.store.checkpoint(grant, output)).word

    def fire(self, todo: str) -> Reply:
        """The timer of the todo is over."""
        return self.follow(self.store.fire(self.run_id, todo))

    def resend(self, older_than: timedelta, limit: int) -> Reply:
        return self.follow(self.store.resend(self.run_id, older_than, limit))

    def park_unserved(self, served: Collection[tuple[str, str]]) -> Reply:
        return self.follow(self.store.park_unserved(self.run_id, served))

    def pause(self, who: str) -> Reply:
        return self.follow(self.store.pause(self.run_id, who))

    def resume(self, who: str) -> Reply:
        return self.follow(self.store.resume(self.run_id, who))

    def cancel(self, who: str) -> Reply:
        return self.follow(self.store.cancel(self.run_id, who))

    def approve(self, todo: str, who: str, comment: str = "") -> Reply:
        return self.follow(self.store.approve(self.run_id, todo, who, comment))

    def reject(self, todo: str, who: str, comment: str) -> Reply:
        return self.follow(self.store.reject(self.run_id, todo, who, comment))

    def complete(self, todo: str, who: str) -> Reply:
        return self.follow(self.store.complete(self.run_id, todo, who))

    def accept(self, todo: str, who: str, reason: str) -> Reply:
        """A person says that the failed compensation is undone."""
        return self.follow(self.store.accept(self.run_id, todo, who, reason))

    def join(self) -> None:
        level = self.store.redis.hget(self.store.keys.run(self.run_id).meta, "level")
        self.follow(self.store.advance(self.run_id, int(level or 0), "join"))

    def drain(self, result_of: Callable[[Grant], Result] = lambda _: OK) -> list[str]:
        """Execute what is delivered until nothing is; return the todos in the order of their starts."""
        started = []
        while self.mail:
            grant = self.next()
            if grant is not None:
                started.append(grant.todo_id)
                self.settle(grant, result_of(grant))
        return started

    def costs(
        self, by: CostsBy, first: date, wanted: Mapping[str, Collection[str]]
    ) -> tuple[AgentCosts, ...]:
        return read_costs(self.store.redis, self.store.keys, by, first, wanted)

    def agents_of(self, plan: str) -> dict[str, list[tuple[str, str]]]:
        return agents_of(self.store.redis, self.store.keys, plan)

    @property
    def breakers(self) -> BreakerManager:
        return BreakerManager(self.store.redis, self.store.keys.namespace)

    def brief(self) -> RunBrief:
        return self.store.brief(self.run_id)

    def status(self) -> str | None:
        return self.store.status(self.run_id)

    def now_ms(self) -> int:
        """The server's clock."""
        return self.store.now_ms()

    def view(self) -> RunView:
        return view_of(self.store, self.run_id)

    def states(self, todos: Iterable[str] = ()) -> dict[str, str]:
        return {t.id: str(t.state) for t in self.view().todos if not todos or t.id in todos}

    def todo(self, todo: str) -> TodoView:
        return next(t for t in self.view().todos if t.id == todo)

    def waits_for(self, todo: str) -> str | None:
        return self.todo(todo).waits_for

    def facts(self) -> dict[str, str]:
        facts: dict[str, str] = self.store.redis.hgetall(self.store.keys.run(self.run_id).facts)
        return facts

    def events(self, what: str = "") -> list[dict[str, str]]:
        found = self.store.redis.xrange(self.store.keys.run(self.run_id).events)
        return [fields for _, fields in found if what in ("", fields["what"])]

    def tick(self) -> None:
        """One round of a keeper's timers."""
        for run_id, todo in self.store.due(self.store.now_ms()):
            self.follow(self.store.fire(run_id, todo))


def attempt_of(store: RunStore, run_id: str, todo: str) -> int:
    """Return the number of the todo's last attempt."""
    return int(store.redis.hget(store.keys.run(run_id).facts, f"{todo} attempt"))


class OneOfSeveral(Engine):
    """Delivers what the step of one run makes necessary for another. `known`: shared by all of them."""

    def __init__(self, store: RunStore, known: dict[str, OneOfSeveral]) -> None:
        super().__init__(store)
        self._known = known

    def follow(self, reply: Reply) -> Reply:
        self._known[self.run_id] = self
        for delivery in [*reply.header, *reply.sends]:
            self._known[delivery.run_id].mail.append(delivery)
        for run_id, todo in reply.wakes:
            self.follow(self.store.fire(run_id, todo))
        return reply
