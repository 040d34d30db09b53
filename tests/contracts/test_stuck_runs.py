"""Runs that nobody will move on: how they are found, confirmed and reported. Each is damaged by hand."""

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
from tests.engine import BAD, Engine
from tests.plans import Todos

HOUR = timedelta(hours=1)
GPU = {"resources": ["gpu"]}


ONE, PAIR, CHAIN = {"A": "r1"}, {"A": "r1", "B": "r1"}, {"A": "r1", "B": ("r2", ["A"])}
Operation = Callable[[Engine], object]


def key(run: Engine, part: str) -> str:
    return f"{run.store.keys.run(run.run_id).prefix}:{part}"


def no_timer(todo: str) -> Operation:
    return lambda run: run.store.redis.zrem(run.store.keys.timers, f"{run.run_id} {todo}")


def no_lease(run: Engine) -> None:
    run.store.redis.zrem(run.store.keys.leases, f"{run.run_id} A")


def not_sent(todo: str) -> Operation:
    return lambda run: run.store.redis.zrem(key(run, "sent"), todo)


def begun(todos: Todos, **how: Any) -> Operation:
    return lambda run: run.begin(todos, **how)


def written(part: str, field: str, value: str | int) -> Operation:
    return lambda run: run.store.redis.hset(key(run, part), field, value)


def one_more(part: str, field: str) -> Operation:
    return lambda run: run.store.redis.hincrby(key(run, part), field, 1)


def settled(todo: str) -> Operation:
    return lambda run: run.settle(run.take(todo))


def parked(run: Engine) -> None:
    run.begin(ONE)
    run.store.park(run.take("A"), "a reason", HOUR)


def waits_for_a_resource(run: Engine) -> None:
    run.begin({"A": "r1", "B": "r2"}, capacities={"gpu": 1}, more={"A": GPU, "B": GPU}).take("A")
    assert run.claim(run.mail.popleft()).word == "parked"


def not_in_its_queue(run: Engine) -> None:
    no_timer("B")(run)
    assert run.store.stuck(run.run_id) == ()  # who frees the resource tells it
    run.store.redis.delete(run.store.keys.locks.queue("resource:gpu"))


def undoing(run: Engine) -> None:
    run.begin(CHAIN).drain()
    run.roll_back()


def by_level(run: Engine) -> None:
    run.begin(CHAIN, strategy=Strategy.LEVELS)


UNSENT = "{} was dispatched, and its message is not kept in mind"
UNQUEUED = "B is ready, and stands in no queue"
UNTOLD = "{} is parked, and nobody will tell it to go on"
UNOPENED = "B waits for a level that nobody will open"
UNENDED = "all its todos have ended, and it has not"
KINDS: dict[str, tuple[Operation, Operation, Operation | None, str]] = {
    "runs": (lambda run: run.begin(ONE).take("A"), no_lease, None, "A runs without a lease"),
    "dispatched": (begun(ONE), not_sent("A"), None, UNSENT.format("A")),
    "retrying": (
        lambda run: run.store.retry(run.begin(ONE).take("A"), HOUR, BAD),
        *(no_timer("A"), None, "A is to be tried again, and has no timer"),
    ),
    "ready": (
        lambda run: run.begin(PAIR).take("A"),
        *(lambda run: run.store.redis.delete(key(run, "queued")), None, UNQUEUED),
    ),
    "behind one that has ended": (
        lambda run: run.begin(PAIR | {"C": "r2"}).settle(run.take("C")),
        *(written("occupant", "r1", "C"), None, UNQUEUED),
    ),
    "next": (
        begun({"A": "r1", "B": "r2"}, max_parallel=1),
        *(one_more("meta", "active"), settled("A")),
        "B is next, nothing is at work, and nobody starts it",
    ),
    "parked": (parked, no_timer("A"), None, UNTOLD.format("A")),
    "waits for a resource": (waits_for_a_resource, not_in_its_queue, None, UNTOLD.format("B")),
    "at a gate": (
        begun(ONE, more={"A": {"gate": {"timeout": "1h"}}}),
        *(no_timer("A"), None, "A waits for a person, and its timeout has no timer"),
    ),
    "waits": (
        *(begun(CHAIN), written("pending", "B", 2), settled("A")),
        "B waits, and all before it has ended",
    ),
    "level not opened": (by_level, one_more("opened", "0"), settled("A"), UNOPENED),
    "level opened without it": (by_level, written("meta", "advanced.0", "join"), settled("A"), UNOPENED),
    "does not end": (begun(ONE), one_more("meta", "open"), settled("A"), UNENDED),
    "compensation sent": (undoing, not_sent("B"), None, UNSENT.format("B")),
    "compensation next": (undoing, written("behind", "A", 0), None, "A is to be undone, and was not sent"),
    "rollback does not end": (
        undoing,
        lambda run: (written("behind", "A", 2)(run), one_more("meta", "open")(run)),
        *(settled("B"), UNENDED),
    ),
}


@pytest.mark.parametrize(("begin", "damage", "then", "words"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("damaged", [True, False])
def test_a_todo_or_run_that_nobody_will_move_is_found(
    run: Engine, begin: Operation, damage: Operation, then: Operation | None, words: str, damaged: bool
):
    begin(run)
    if damaged:
        damage(run)
    if then:
        then(run)
    assert run.store.stuck(run.run_id) == ((words,) if damaged else ())


@pytest.fixture
def watch(store: RunStore, tmp_path: Path) -> StuckWatch:
    return StuckWatch(store, tmp_path)


def look(watch: StuckWatch, run: Engine, now_s: float) -> list[str]:
    return watch.run_once(run.store.live_runs(), now_s, lambda _: nullcontext())


def test_a_stuck_run_is_told_once_after_a_second_look_with_its_state(
    run: Engine, watch: StuckWatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    parked(run)
    no_timer("A")(run)
    assert look(watch, run, 0) == []
    assert look(watch, run, QUIET_S) == []  # once is no proof
    assert look(watch, run, QUIET_S + CONFIRM_S) == [run.run_id]
    assert look(watch, run, QUIET_S + CONFIRM_S + LONGEST_S) == []

    file = tmp_path / "stuck" / f"{run.run_id}.json"
    (event,) = run.events("run.stuck")
    assert (event["why"], event["where"]) == (
        "A is parked, and nobody will tell it to go on",
        f"its state is in {file}",
    )
    assert json.loads(file.read_text())["keys"]["state"] == {"hash": {"A": "parked"}}
    assert run.store.redis.hget(run.store.keys.counters, "runs_stuck") == "1"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "internal error: run " in caplog.text
    assert str(file) in (run.view().internal_error or "")

    other = StuckWatch(run.store, tmp_path)  # of the keeper that leads next
    assert [look(other, run, at) for at in (0, QUIET_S, QUIET_S + CONFIRM_S)] == [[], [], []]
    assert len(run.events("run.stuck")) == 1


def test_a_stuck_run_is_told_the_next_time_where_redis_did_not_answer(
    run: Engine, watch: StuckWatch, monkeypatch: pytest.MonkeyPatch
):
    parked(run)
    no_timer("A")(run)
    assert [look(watch, run, at) for at in (0, QUIET_S)] == [[], []]

    with monkeypatch.context() as patched:
        patched.setattr(run.store.redis, "fcall", unanswered_at("run/report_stuck", run.store.redis.fcall))
        with pytest.raises(redis.TimeoutError):
            look(watch, run, QUIET_S + CONFIRM_S)

    assert look(watch, run, QUIET_S + 2 * CONFIRM_S) == [run.run_id]
    assert len(run.events("run.stuck")) == 1


def unanswered_at(step: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever is asked is answered but this step."""

    def ask(name: str, *words: Any) -> Any:
        if name == function(step):
            raise redis.TimeoutError("no answer")
        return plain(name, *words)

    return ask


def test_a_run_in_which_something_happens_is_not_asked(run: Engine, watch: StuckWatch):
    parked(run)
    no_timer("A")(run)
    for at in range(10):
        run.store.redis.xadd(run.store.keys.run(run.run_id).events, {"what": "something", "todo": ""})
        assert look(watch, run, at * QUIET_S) == []


def test_what_was_mended_between_two_looks_is_not_told(run: Engine, watch: StuckWatch):
    parked(run)
    no_timer("A")(run)
    look(watch, run, 0)
    look(watch, run, QUIET_S)
    run.store.redis.zadd(run.store.keys.timers, {f"{run.run_id} A": 1})

    assert [look(watch, run, QUIET_S + n * CONFIRM_S) for n in range(1, 5)] == [[], [], [], []]


def test_a_run_that_rightly_waits_is_asked_less_and_less(
    run: Engine, watch: StuckWatch, monkeypatch: pytest.MonkeyPatch
):
    run.begin(ONE, more={"A": {"gate": True}})
    asked: list[str] = []
    monkeypatch.setattr(RunStore, "stuck", lambda _, run_id: asked.append(run_id) or ())
    for at in range(0, 7200, int(LOOK_S)):
        look(watch, run, at)

    assert 7200 / LONGEST_S <= len(asked) <= 7200 / LONGEST_S + 5


def test_a_state_that_cannot_be_written_is_told_without_it(run: Engine, tmp_path: Path):
    parked(run)
    no_timer("A")(run)
    (tmp_path / "stuck").write_text("a file where the folder should be")
    watch = StuckWatch(run.store, tmp_path)

    assert [look(watch, run, at) for at in (0, QUIET_S, QUIET_S + CONFIRM_S)][-1] == [run.run_id]
    assert "could not be written" in run.events("run.stuck")[0]["where"]


def test_a_run_that_has_ended_is_never_stuck(run: Engine):
    run.begin(ONE).settle(run.take("A"))
    assert run.store.stuck(run.run_id) == ()
    assert run.store.stuck("no-such-run") == ()
    assert Keys("test").live == run.store.keys.live
