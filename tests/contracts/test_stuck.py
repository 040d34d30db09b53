"""A run that nobody will ever move on. A rightly working engine leaves none, so each of these was damaged by
hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.backend.library import function
from coordination.models import Strategy
from coordination.runs.maintenance.stuck import CONFIRM_S, LONGEST_S, LOOK_S, QUIET_S, StuckWatch
from coordination.runs.store import RunStore
from tests.contracts.carrier import BAD, Harness
from tests.plans import ecosystem, graph, order

HOUR = timedelta(hours=1)
GPU = {"resources": ["gpu"]}


def begin(run: Harness, todos: dict[str, Any], *, more: dict[str, Any] | None = None, **how: Any) -> Harness:
    known: dict[str, Any] = {"capacities": {"gpu": 1}, **(more or {})}
    run.submit(graph(todos, **known), ecosystem(todos, **known), order(**how))
    return run


def key(run: Harness, part: str) -> str:
    return f"{run.store.keys.run(run.run_id).prefix}:{part}"


def a_running_one(run: Harness) -> None:
    begin(run, {"A": "r1"}).take("A")
    run.store.redis.zrem(run.store.keys.leases, f"{run.run_id} A")


def a_dispatched_one(run: Harness) -> None:
    begin(run, {"A": "r1"})
    run.store.redis.zrem(key(run, "sent"), "A")


def a_retrying_one(run: Harness) -> None:
    begin(run, {"A": "r1"})
    run.store.retry(run.take("A"), HOUR, BAD)
    run.store.redis.zrem(run.store.keys.timers, f"{run.run_id} A")


def a_ready_one(run: Harness) -> None:
    begin(run, {"A": "r1", "B": "r1"}).take("A")
    run.store.redis.delete(key(run, "queued"))


def one_behind_another_that_has_ended(run: Harness) -> None:
    begin(run, {"A": "r1", "B": "r1", "C": "r2"}).settle(run.take("C"))
    run.store.redis.hset(key(run, "busy"), "r1", "C")


def a_next_one_that_nobody_starts(run: Harness) -> None:
    begin(run, {"A": "r1", "B": "r2"}, max_parallel=1)
    run.store.redis.hincrby(key(run, "meta"), "active", 1)  # as if another were at work
    run.settle(run.take("A"))


def a_parked_one(run: Harness) -> None:
    begin(run, {"A": "r1"})
    run.store.park(run.take("A"), "a reason", HOUR)
    run.store.redis.zrem(run.store.keys.timers, f"{run.run_id} A")


def one_that_waits_for_a_resource(run: Harness) -> None:
    begin(run, {"A": "r1", "B": "r2"}, more={"A": GPU, "B": GPU}).take("A")
    assert run.claim(run.mail.popleft()).word == "parked"
    run.store.redis.zrem(run.store.keys.timers, f"{run.run_id} B")
    assert run.store.stuck(run.run_id) == ()  # the releaser of the resource notifies it
    run.store.redis.delete(run.store.keys.locks.queue("resource:gpu"))


def one_at_a_gate_with_a_timeout(run: Harness) -> None:
    begin(run, {"A": "r1"}, more={"A": {"gate": {"timeout": "1h"}}})
    run.store.redis.zrem(run.store.keys.timers, f"{run.run_id} A")


def a_waiting_one(run: Harness) -> None:
    begin(run, {"A": "r1", "B": ("r2", ["A"])})
    run.store.redis.hset(key(run, "pending"), "B", 2)  # as if another were before it
    run.settle(run.take("A"))


def one_of_a_level_that_nobody_opens(run: Harness) -> None:
    begin(run, {"A": "r1", "B": ("r2", ["A"])}, strategy=Strategy.LEVELS)
    run.store.redis.hincrby(key(run, "opened"), "0", 1)
    run.settle(run.take("A"))


def one_whose_level_was_opened_without_it(run: Harness) -> None:
    begin(run, {"A": "r1", "B": ("r2", ["A"])}, strategy=Strategy.LEVELS)
    run.store.redis.hset(key(run, "meta"), "advanced.0", "join")
    run.settle(run.take("A"))


def a_run_that_does_not_end(run: Harness) -> None:
    begin(run, {"A": "r1"})
    run.store.redis.hincrby(key(run, "meta"), "open", 1)
    run.settle(run.take("A"))


def begin_to_undo(run: Harness) -> None:
    begin(run, {"A": "r1", "B": ("r2", ["A"])})
    run.settle(run.take("A"))
    run.settle(run.take("B"))
    run.follow(run.store.rollback(run.run_id, "ann", "tried"))


def a_compensation_that_was_dispatched(run: Harness) -> None:
    begin_to_undo(run)
    run.store.redis.zrem(key(run, "sent"), "B")


def a_compensation_that_is_next(run: Harness) -> None:
    begin_to_undo(run)
    run.store.redis.hset(key(run, "behind"), "A", 0)  # and B is not undone yet: nobody counts it down


def a_rollback_that_does_not_end(run: Harness) -> None:
    begin_to_undo(run)
    run.store.redis.hset(key(run, "behind"), "A", 2)
    run.store.redis.hincrby(key(run, "meta"), "open", 1)
    run.settle(run.take("B"))


KINDS: list[tuple[Callable[[Harness], None], str]] = [
    (a_running_one, "A runs without a lease"),
    (a_dispatched_one, "A was dispatched, and its message is not kept in mind"),
    (a_retrying_one, "A is to be tried again, and has no timer"),
    (a_ready_one, "B is ready, and stands in no queue"),
    (one_behind_another_that_has_ended, "B is ready, and stands in no queue"),
    (a_next_one_that_nobody_starts, "B is next, nothing is at work, and nobody starts it"),
    (a_parked_one, "A is parked, and nobody will tell it to go on"),
    (one_that_waits_for_a_resource, "B is parked, and nobody will tell it to go on"),
    (one_at_a_gate_with_a_timeout, "A waits for a person, and its timeout has no timer"),
    (a_waiting_one, "B waits, and all before it has ended"),
    (one_of_a_level_that_nobody_opens, "B waits for a level that nobody will open"),
    (one_whose_level_was_opened_without_it, "B waits for a level that nobody will open"),
    (a_run_that_does_not_end, "all its todos have ended, and it has not"),
    (a_compensation_that_was_dispatched, "B was dispatched, and its message is not kept in mind"),
    (a_compensation_that_is_next, "A is to be undone, and was not sent"),
    (a_rollback_that_does_not_end, "all its todos have ended, and it has not"),
]


@pytest.mark.parametrize(("damage", "words"), KINDS, ids=[damage.__name__ for damage, _ in KINDS])
def test_what_nobody_will_ever_move_is_found(run: Harness, damage: Callable[[Harness], None], words: str):
    damage(run)
    assert run.store.stuck(run.run_id) == (words,)


@pytest.mark.parametrize(("damage", "words"), KINDS, ids=[damage.__name__ for damage, _ in KINDS])
def test_without_the_damage_nothing_is_found(
    run: Harness, damage: Callable[[Harness], None], words: str, monkeypatch: pytest.MonkeyPatch
):
    for command in ("zrem", "hset", "hincrby", "delete"):  # the steps themselves are scripts
        monkeypatch.setattr(run.store.redis, command, lambda *_: None)
    if damage is a_compensation_that_is_next:
        begin_to_undo(run)
    else:
        damage(run)
    assert run.store.stuck(run.run_id) == ()


@pytest.fixture
def watch(store: RunStore, tmp_path: Path) -> StuckWatch:
    return StuckWatch(store, tmp_path)


def look(watch: StuckWatch, run: Harness, now_s: float) -> list[str]:
    return watch.run_once(run.store.live_runs(), now_s, lambda _: nullcontext())


def stuck_events(run: Harness) -> list[dict[str, str]]:
    found = run.store.redis.xrange(run.store.keys.run(run.run_id).events)
    return [fields for _, fields in found if fields["what"] == "run.stuck"]


def test_a_stuck_run_is_told_once_after_a_second_look_with_its_state(
    run: Harness, watch: StuckWatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    a_parked_one(run)
    assert look(watch, run, 0) == []
    assert look(watch, run, QUIET_S) == []  # once is no proof
    assert look(watch, run, QUIET_S + CONFIRM_S) == [run.run_id]
    assert look(watch, run, QUIET_S + CONFIRM_S + LONGEST_S) == []

    file = tmp_path / "stuck" / f"{run.run_id}.json"
    (event,) = stuck_events(run)
    assert (event["why"], event["where"]) == (
        "A is parked, and nobody will tell it to go on",
        f"its state is in {file}",
    )
    assert json.loads(file.read_text())["keys"]["state"] == {"hash": {"A": "parked"}}
    assert run.store.redis.hget(run.store.keys.counters, "runs_stuck") == "1"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "internal error: run " in caplog.text
    assert str(file) in (run.view().internal_error or "")

    other = StuckWatch(run.store, tmp_path)  # the watch of the next maintenance leader
    assert [look(other, run, at) for at in (0, QUIET_S, QUIET_S + CONFIRM_S)] == [[], [], []]
    assert len(stuck_events(run)) == 1


def test_a_stuck_run_is_told_the_next_time_where_redis_did_not_answer(
    run: Harness, watch: StuckWatch, monkeypatch: pytest.MonkeyPatch
):
    a_parked_one(run)
    assert [look(watch, run, at) for at in (0, QUIET_S)] == [[], []]

    with monkeypatch.context() as patched:
        patched.setattr(run.store.redis, "fcall", unanswered_at("run/report_stuck", run.store.redis.fcall))
        with pytest.raises(redis.TimeoutError):
            look(watch, run, QUIET_S + CONFIRM_S)

    assert look(watch, run, QUIET_S + 2 * CONFIRM_S) == [run.run_id]
    assert len(stuck_events(run)) == 1


def unanswered_at(step: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever is asked is answered but this step."""

    def ask(name: str, *words: Any) -> Any:
        if name == function(step):
            raise redis.TimeoutError("no answer")
        return plain(name, *words)

    return ask


def test_a_run_in_which_something_happens_is_not_asked(run: Harness, watch: StuckWatch):
    a_parked_one(run)
    for at in range(10):
        run.store.redis.xadd(run.store.keys.run(run.run_id).events, {"what": "something", "todo": ""})
        assert look(watch, run, at * QUIET_S) == []


def test_what_was_mended_between_two_looks_is_not_told(run: Harness, watch: StuckWatch):
    a_parked_one(run)
    look(watch, run, 0)
    look(watch, run, QUIET_S)
    run.store.redis.zadd(run.store.keys.timers, {f"{run.run_id} A": 1})

    assert [look(watch, run, QUIET_S + n * CONFIRM_S) for n in range(1, 5)] == [[], [], [], []]


def test_a_run_that_rightly_waits_is_asked_less_and_less(
    run: Harness, watch: StuckWatch, monkeypatch: pytest.MonkeyPatch
):
    begin(run, {"A": "r1"}, more={"A": {"gate": True}})
    asked: list[str] = []
    monkeypatch.setattr(RunStore, "stuck", lambda _, run_id: asked.append(run_id) or ())
    for at in range(0, 7200, int(LOOK_S)):
        look(watch, run, at)

    assert 7200 / LONGEST_S <= len(asked) <= 7200 / LONGEST_S + 5


def test_a_state_that_cannot_be_written_is_told_without_it(run: Harness, tmp_path: Path):
    a_parked_one(run)
    (tmp_path / "stuck").write_text("a file where the folder should be")
    watch = StuckWatch(run.store, tmp_path)

    assert [look(watch, run, at) for at in (0, QUIET_S, QUIET_S + CONFIRM_S)][-1] == [run.run_id]
    assert "could not be written" in stuck_events(run)[0]["where"]


def test_a_run_that_has_ended_is_never_stuck(run: Harness):
    begin(run, {"A": "r1"}).settle(run.take("A"))
    assert run.store.stuck(run.run_id) == ()
    assert run.store.stuck("no-such-run") == ()
    assert Keys("test").live == run.store.keys.live
