"""Agents in runs: how many todos one executes at once, and which todos wait while its account is limited."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coordination.api import WaitReason
from coordination.models import OnFailure
from coordination.settings import Settings
from tests.engine import BAD, Engine, OneOfSeveral
from tests.plans import ecosystem, graph, order

HOUR, AT_ONCE = timedelta(hours=1), timedelta(0)
WHY = "a limit of claude: 5-hour limit reached"


def by(*agents: str) -> dict[str, Any]:
    return {"action": {"type": "agent", "agent": agents}}


@pytest.fixture
def begin(store: Any) -> Callable[..., Engine]:
    """Begin one of several runs, whose todos are by agents unless told otherwise."""
    known: dict[str, OneOfSeveral] = {}

    def begin(more: dict[str, Any], parallel: int | None = None, **how: Any) -> Engine:
        claude = {"name": "claude", "kind": "claude", "parallel": parallel}
        presets = [claude, {"name": "cheap", "kind": "codex"}]
        settings = Settings.model_validate({"agents": presets, "breaker_failures": how.pop("failures", 0)})
        run, todos = OneOfSeveral(store, known), {name: f"of-{name}" for name in more}
        run.submit(graph(todos, **more), ecosystem(todos, **more), order(**how), settings)
        return run

    return begin


def limit(run: Engine, todo: str, time: timedelta = HOUR, why: str = WHY) -> None:
    assert run.hold_up(run.take(todo), why, time, reason=WaitReason.LIMIT).word == "parked"


def end_limit(store: Any, name: str = "agent:claude") -> None:
    """The time of the limit is over, and so is that of the todos that wait for its end."""
    store.redis.hset(store.keys.breakers.of(name), "until", store.now_ms() - 1)


@pytest.mark.parametrize("failures", [0, 5])
def test_a_limit_parks_the_other_todos_of_the_agent_before_they_start(begin, store, failures: int):
    run = begin({"A": by("claude"), "B": by("claude"), "C": by("cheap"), "D": {}}, failures=failures)
    limit(run, "A")

    assert sorted(run.drain()) == ["C", "D"]
    for todo in "AB":
        assert (run.todo(todo).state, run.todo(todo).wait_reason) == ("parked", WaitReason.LIMIT)
        assert run.todo(todo).attempt == 1
        due = store.redis.zscore(store.keys.timers, f"{run.run_id} {todo}")
        assert due == pytest.approx(store.now_ms() + 3_600_000, abs=60_000)
    assert run.waits_for("B").startswith(f"{WHY}; until 20")


def test_all_of_them_go_on_when_the_limit_has_ended(begin, store):
    run = begin({"A": by("claude"), "B": by("claude"), "C": by("claude")})
    limit(run, "A")
    assert run.drain() == []

    end_limit(store)
    for todo in "ABC":
        run.fire(todo)

    assert sorted(run.drain()) == ["A", "B", "C"]
    assert store.redis.keys("test:breaker*") == []


def test_a_limit_holds_in_other_runs(begin):
    limit(begin({"A": by("claude")}), "A")
    other = begin({"B": by("claude")})

    assert other.drain() == []
    assert other.todo("B").wait_reason is WaitReason.LIMIT


def test_a_person_who_resets_it_wakes_all_that_wait(begin, store):
    run = begin({"A": by("claude"), "B": by("claude")})
    limit(run, "A")
    run.drain()
    (found,) = run.breakers.list()
    assert (found.name, found.reason, found.behind) == ("agent:claude", WHY, 2)
    assert found.outlook == f"until {found.probe_at:%Y-%m-%dT%H:%M:%SZ}"
    run.breakers.reset("claude")
    for todo in "AB":
        assert store.redis.zscore(store.keys.timers, f"{run.run_id} {todo}") <= store.now_ms()
        run.fire(todo)
    assert sorted(run.drain()) == ["A", "B"]


def test_a_limit_that_ends_earlier_does_not_shorten_one(begin, store):
    run = begin({"A": by("claude"), "B": by("claude")})
    first, second = run.take("A"), run.take("B")
    run.hold_up(first, WHY, HOUR, reason=WaitReason.LIMIT)
    run.hold_up(second, "a limit of claude: overloaded", timedelta(seconds=30), reason=WaitReason.LIMIT)

    (found,) = run.breakers.list()
    assert found.probe_at is not None
    assert found.probe_at > datetime.now(UTC) + HOUR / 2


def test_a_clock_that_jumps_back_ends_a_limit(begin, store):
    run = begin({"A": by("claude"), "B": by("claude")})
    limit(run, "A")
    store.redis.hset(store.keys.breakers.of("agent:claude"), "until", store.now_ms() + 40 * 86_400_000)

    assert sorted(run.drain()) == ["A", "B"]


def test_a_limit_of_a_cancelled_run_is_known_to_the_others(begin):
    run = begin({"A": by("claude")})
    grant = run.take("A")
    run.cancel("lena")
    assert run.hold_up(grant, WHY, HOUR, reason=WaitReason.LIMIT).word == "settled"

    assert begin({"B": by("claude")}).drain() == []


def test_a_retry_by_another_agent_does_not_wait_for_the_first(begin):
    run = begin({"A": by("claude", "cheap"), "B": by("claude")})
    grant = run.take("A")
    limit(run, "B")
    run.retry(grant, AT_ONCE, BAD)

    assert run.drain() == ["A"]


def test_failures_open_no_breaker_of_an_agent(begin, store):
    run = begin({"A": by("claude")}, failures=1)
    run.settle(run.take("A"), BAD)

    assert store.redis.hgetall(store.keys.breakers.all) == {}


def test_an_agent_executes_as_many_todos_at_once_as_its_preset_says(begin, store):
    run = begin({"A": by("claude"), "B": by("claude"), "C": by("claude"), "D": by("cheap")}, parallel=2)
    grants = [grant for grant in (run.next() for _ in range(4)) if grant]

    assert sorted(grant.todo_id for grant in grants) == ["A", "B", "D"]
    assert run.todo("C").wait_reason is WaitReason.RESOURCE
    assert run.waits_for("C").startswith("resource agent claude (2 of 2 in use by A of run")
    assert store.redis.zcard("test:lock-shares:agent:claude") == 2
    run.settle(grants[0])
    assert run.drain() == ["C"]


def test_a_retry_takes_its_share_of_the_next_agent(begin, store):
    run = begin({"A": by("claude", "cheap"), "B": by("claude")}, parallel=1)
    run.retry(run.take("A"), AT_ONCE, BAD)

    assert sorted(run.drain()) == ["A", "B"]
    assert store.redis.keys("test:lock-shares:*") == []


def test_a_compensation_waits_for_no_agent(begin, store):
    undone = {**by("claude"), "compensate": "true"}
    run = begin({"A": undone, "B": by("claude")}, on_failure=OnFailure.ROLLBACK)
    run.settle(run.take("A"))
    limit(run, "B")
    run.roll_back()

    assert "A" in run.drain()
    assert run.view().status == "rolled_back"


def test_damaged_facts_of_agents_block_nothing(begin, store):
    run = begin({"A": by("claude"), "B": by("claude")}, parallel=1)
    facts = store.keys.run(run.run_id).facts
    store.redis.hset(facts, mapping={"A agents": "", "B agents": "claude"})

    assert sorted(run.drain()) == ["A", "B"]
