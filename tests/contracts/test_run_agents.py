"""Agents in runs: how many todos one executes at once, and which todos wait while its account is limited."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from coordination.api import AgentUsage, CostsBy, WaitReason
from coordination.models import OnFailure, PlanBudget
from coordination.planner.graph import build
from coordination.settings import Settings
from tests.engine import BAD, Engine, OneOfSeveral
from tests.plans import PLAN, ecosystem, order

HOUR, AT_ONCE = timedelta(hours=1), timedelta(0)
WHY = "a limit of claude: 5-hour limit reached"


def by(*agents: str) -> dict[str, Any]:
    return {"action": {"type": "agent", "agent": agents}}


@pytest.fixture
def begin(store: Any) -> Callable[..., Engine]:
    """Begin one of several runs, whose todos are by agents unless told otherwise."""
    known: dict[str, OneOfSeveral] = {}

    def begin(
        more: dict[str, Any],
        parallel: int | None = None,
        plan: dict[str, Any] | None = None,
        day: dict[str, Any] | None = None,
        **how: Any,
    ) -> Engine:
        claude = {"name": "claude", "kind": "claude", "parallel": parallel}
        presets = [claude, {"name": "cheap", "kind": "codex"}]
        fields = {"agents": presets, "agent_budget": day or {}, "breaker_failures": how.pop("failures", 0)}
        settings = Settings.model_validate(fields)
        run, todos = OneOfSeveral(store, known), {name: f"of-{name}" for name in more}
        eco = ecosystem(todos, **more)
        (only,) = eco.coordination.plans
        limited = only.model_copy(update={"budget": PlanBudget.model_validate(plan or {})})
        eco = eco.with_coordination(plans=(limited,))
        run.submit(build(eco, only.id), eco, order(**how), settings)
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


def use(run: Engine, todo: str, micro_usd: int = 600_000, tokens: int = 100) -> str:
    """The todo begins, uses this and succeeds; return the answer of the step that counts it."""
    grant = run.take(todo)
    word = run.store.note_usage(grant, AgentUsage(rounds=1, input=tokens, micro_usd=micro_usd)).word
    run.settle(grant)
    return word


BUDGETS = pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"plan": {"usd": 1}}, f"the budget of {PLAN} is used up: 1.20 of 1.00 USD"),
        ({"plan": {"tokens": 200}}, f"the budget of {PLAN} is used up: 200 of 200 tokens"),
        ({"day": {"usd_per_day": 1.0}}, "the budget of this day (UTC) is used up: 1.20 of 1.00 USD"),
        ({"day": {"tokens_per_day": 150}}, "the budget of this day (UTC) is used up: 200 of 150 tokens"),
    ],
)


@BUDGETS
def test_over_the_budget_of_plan_or_day_agents_wait_and_hold_nothing(begin, store, limits: Any, why: str):
    run = begin({"A": by("claude"), "B": by("claude"), "C": by("claude"), "D": {}}, **limits)

    assert [use(run, "A"), use(run, "B")] == ["noted", "over"]
    assert run.drain() == ["D"]
    waits = run.todo("C")
    assert (waits.state, waits.wait_reason, waits.attempt) == ("parked", WaitReason.BUDGET, 1)
    assert waits.waits_for == f"{why}; to let it go on: coord approve C"
    assert store.redis.keys("test:lock-*") == []
    assert run.view().status == "running"


@BUDGETS
def test_an_approval_lets_one_todo_go_on_over_the_budget(begin, limits: Any, why: str):
    run = begin({"A": by("claude"), "B": by("claude"), "C": by("claude"), "D": by("claude")}, **limits)
    use(run, "A"), use(run, "B")
    run.drain()

    assert run.approve("C", "lena").word == "approved"
    grant = run.take("C")
    assert run.store.note_usage(grant, AgentUsage(input=1, micro_usd=1)).word == "noted"
    run.retry(grant, AT_ONCE, BAD)
    assert run.drain() == ["C"]
    assert (run.todo("C").state, run.todo("D").wait_reason) == ("succeeded", WaitReason.BUDGET)


def test_a_rejection_over_the_budget_fails_the_todo(begin):
    run = begin({"A": by("claude"), "B": by("claude")}, plan={"usd": 0.5})
    use(run, "A")
    run.drain()

    assert run.reject("B", "lena", "too expensive").word == "settled"
    assert run.todo("B").error == "rejected by lena: too expensive"


def test_a_new_day_has_a_budget_of_its_own(begin, store):
    run = begin({"A": by("claude"), "B": by("claude")}, day={"usd_per_day": 0.5})
    use(run, "A")
    assert run.drain() == []
    due = store.redis.zscore(store.keys.timers, f"{run.run_id} B")
    assert due % 86_400_000 == 0
    assert 0 < due - store.now_ms() <= 86_400_000

    (today,) = store.redis.keys("test:agent-use:*")
    store.redis.rename(today, "test:agent-use:1")
    run.fire("B")
    assert run.drain() == ["B"]


def test_the_budget_of_a_day_is_that_of_all_runs_and_that_of_a_plan_of_its_runs(begin):
    limits = {"plan": {"usd": 1}, "day": {"usd_per_day": 1.0}}
    use(begin({"A": by("claude")}, **limits), "A", micro_usd=2_000_000)
    other = begin({"B": by("claude")}, **limits)

    assert other.drain() == []
    assert other.waits_for("B").startswith("the budget of ")


def test_each_run_keeps_the_budget_with_which_it_was_ordered(begin):
    small = begin({"A": by("claude"), "B": by("claude")}, day={"usd_per_day": 1.0})
    use(small, "A", micro_usd=2_000_000)
    large = begin({"C": by("claude")}, day={"usd_per_day": 5.0})

    assert (small.drain(), large.drain()) == ([], ["C"])


def test_what_a_lost_worker_has_counted_stays_counted(begin):
    run = begin({"A": by("claude")}, plan={"usd": 1})
    grant = run.take("A")
    run.store.note_usage(grant, AgentUsage(rounds=1, micro_usd=1_500_000))
    run.lose("A")

    assert run.drain() == []
    assert run.todo("A").wait_reason is WaitReason.BUDGET


def test_a_program_that_lies_about_its_use_breaks_no_sum(begin):
    run = begin({"A": by("claude"), "B": by("claude")}, plan={"usd": 1})
    grant = run.take("A")
    for micro_usd in (2**53, 0, 2**53):
        assert run.store.note_usage(grant, AgentUsage(input=2**53, micro_usd=micro_usd)).word in (
            "over",
            "noted",
        )
    run.settle(grant)

    assert run.drain() == []


@pytest.mark.parametrize("damaged", ["", "{", "[]", "7", '{"before":7,"now":{"turns":"x"}}', "[" * 9999])
def test_a_damaged_record_of_use_is_replaced_by_the_next_one(begin, store, damaged: str):
    run = begin({"A": by("claude")})
    grant = run.take("A")
    store.redis.hset(store.keys.run(run.run_id).facts, "A usage", damaged)

    assert run.store.note_usage(grant, AgentUsage(rounds=1, turns=4)).word == "noted"
    assert run.todo("A").usage == AgentUsage(rounds=1, turns=4)


def test_a_grant_has_the_use_by_earlier_attempts(begin):
    run = begin({"A": by("claude", "cheap")})
    grant = run.take("A")
    assert grant.used == AgentUsage()
    run.store.note_usage(grant, AgentUsage(rounds=2, turns=5))
    run.retry(grant, AT_ONCE, BAD)

    assert run.take("A").used == AgentUsage(rounds=2, turns=5)


def costs_of(
    run: Engine, by: str = "plan", first: date = date(1970, 1, 1), **wanted: list[str]
) -> dict[str, Any]:
    found = run.costs(CostsBy(by), first, wanted)
    return {one.name: (one.used.rounds, one.used.input, one.used.micro_usd) for one in found}


def test_costs_are_summed_up_by_plan_repository_agent_and_day(begin, store):
    run = begin({"A": by("claude"), "B": by("claude"), "C": by("cheap")})
    use(run, "A", 500_000), use(run, "B", 400_000), use(run, "C", 300_000)
    use(begin({"A": by("cheap")}), "A", 200_000)

    assert costs_of(run) == {PLAN: (4, 400, 1_400_000)}
    assert costs_of(run, "agent") == {"claude": (2, 200, 900_000), "cheap": (2, 200, 500_000)}
    assert list(costs_of(run, "repo")) == ["of-A", "of-B", "of-C"]
    assert costs_of(run, "repo", agent=["cheap"], repo=["of-A", "of-B"]) == {"of-A": (1, 100, 200_000)}
    today = datetime.fromtimestamp(store.now_ms() / 1000, UTC).date()
    assert costs_of(run, "day") == {str(today): (4, 400, 1_400_000)}
    assert costs_of(run, first=today + timedelta(days=1)) == {}


def test_what_is_written_again_is_counted_once(begin):
    run = begin({"A": by("claude")})
    grant = run.take("A")
    for tokens in (100, 250, 250):
        run.store.note_usage(grant, AgentUsage(rounds=1, input=tokens, micro_usd=tokens))
    run.retry(grant, AT_ONCE, BAD)
    use(run, "A", 50, tokens=50)

    assert costs_of(run) == {PLAN: (2, 300, 300)}


def test_damaged_sums_do_not_count(begin, store):
    run = begin({"A": by("claude")})
    use(run, "A", 500_000)
    (today,) = store.redis.keys("test:agent-use:*")
    store.redis.hset(
        today, mapping={"P r a turns": "many", "P r a output": "9" * 400, "x": "1", "a b c d": "1"}
    )

    assert costs_of(run) == {PLAN: (1, 100, 500_000)}


def test_the_agents_of_each_repository_of_a_plan_are_named_with_their_use(begin):
    run = begin({"A": by("claude"), "B": by("cheap")})
    use(run, "A", 500_000), use(run, "B", 20_000)

    assert run.agents_of(PLAN) == {
        "of-A": [("claude", "1 round, 0 turns, 100 tokens, 0.50 USD")],
        "of-B": [("cheap", "1 round, 0 turns, 100 tokens, 0.02 USD")],
    }
    assert run.agents_of("PLAN-OTHER") == {}


def test_only_an_answer_ends_a_question(begin, store):
    run = begin({"A": by("claude")})
    run.hold_up(run.take("A"), "claude asks: which zone?", AT_ONCE, reason=WaitReason.PERSON)
    store.redis.zadd(store.keys.timers, {f"{run.run_id} A": 1})

    assert run.fire("A").word == "waits"
    assert run.drain() == []
    assert run.approve("A", "lena", "UTC").word == "approved"
    assert run.take("A").answer == "UTC"


@pytest.mark.parametrize("further", ["a login that is refused", "the budget"])
def test_an_approval_without_words_leaves_the_last_answer_to_the_agent(begin, further: str):
    run = begin({"A": by("claude"), "B": by("claude")}, plan={"usd": 0.5})
    run.hold_up(run.take("A"), "claude asks: which zone?", AT_ONCE, reason=WaitReason.PERSON)
    run.approve("A", "lena", "UTC")
    if further == "the budget":
        use(run, "B")
        run.drain()
    else:
        run.hold_up(run.take("A"), "claude: not logged in", AT_ONCE, reason=WaitReason.PERSON)

    run.approve("A", "lena", "")
    grant = run.take("A")
    assert (grant.question, grant.answer) == ("claude asks: which zone?", "UTC")


@pytest.mark.parametrize("waits", ["question", "budget"])
def test_a_compensation_of_a_todo_that_waited_for_a_person_goes_on_by_its_timer(begin, waits: str):
    run = begin({"A": {**by("claude"), "compensate": "true"}, "B": by("claude")}, plan={"usd": 0.5})
    if waits == "budget":
        grant = run.take("A")
        use(run, "B")
        run.hold_up(grant, "the budget is used up", AT_ONCE, reason=WaitReason.BUDGET)
        run.fire("A")
        run.drain()
        assert run.todo("A").wait_reason is WaitReason.BUDGET
    else:
        run.hold_up(run.take("A"), "claude asks: which zone?", AT_ONCE, reason=WaitReason.PERSON)
    run.roll_back()

    run.hold_up(run.take("A"), "git was killed", timedelta(seconds=5))
    assert run.fire("A").word == "fired"
    run.drain()
    assert run.view().status == "rolled_back"
