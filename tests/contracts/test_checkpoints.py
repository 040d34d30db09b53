"""Output written by an attempt reaches the next attempt, however it ended; and only from the holder of the
todo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from coordination.runs.records import Grant, Result
from tests.contracts.carrier import BAD, OK, Harness
from tests.plans import ecosystem, graph, order

SOON = timedelta(0)
HALF = '{"done":[1,2]}'
MORE = '{"done":[1,2,3]}'


def lost(run: Harness, grant: Grant) -> None:
    """Its worker was killed after it had told Redis once."""
    assert run.store.checkpoint(grant, HALF).word == "kept"
    run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} A": 1})
    assert run.follow(run.store.lose(run.run_id, "A", 3)).word == "requeued"


ENDS: dict[str, Callable[[Harness, Grant], object]] = {
    "its worker was killed": lost,
    "it failed and is tried again": lambda run, grant: run.follow(
        run.store.retry(grant, SOON, replace(BAD, output=HALF))
    ),
    "its worker was told to stop": lambda run, grant: run.follow(run.store.hand_back(grant, HALF)),
}


def begun(run: Harness) -> Grant:
    todos = {"A": "r1"}
    run.submit(graph(todos), ecosystem(todos), order())
    return run.take("A")


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_next_attempt_gets_what_the_last_one_had_written(
    run: Harness, end: Callable[[Harness, Grant], object]
):
    first = begun(run)
    assert first.checkpoint == ""
    end(run, first)

    assert run.take("A").checkpoint == HALF


def test_it_stays_until_an_attempt_writes_its_own(run: Harness):
    run.store.hand_back(begun(run), HALF)
    run.mail.clear()
    for written in ("", MORE, ""):
        run.follow(run.store.resend(run.run_id, SOON, 9))
        run.follow(run.store.hand_back(run.take("A"), written))
        run.mail.clear()

    run.follow(run.store.resend(run.run_id, SOON, 9))
    assert run.take("A").checkpoint == MORE


def test_who_lost_the_todo_changes_nothing_of_it(run: Harness):
    old = begun(run)
    lost(run, old)
    new = run.take("A")

    assert run.store.checkpoint(old, '"too late"').word == "stale"
    assert run.store.retry(old, SOON, replace(BAD, output='"too late"')).word == "stale"
    assert run.store.checkpoint(new, MORE).word == "kept"
    run.follow(run.store.hand_back(new))
    assert run.take("A").checkpoint == MORE


def test_what_a_failed_todo_had_written_is_no_output_of_it(run: Harness):
    run.settle(begun(run), replace(BAD, output=HALF))

    keys = run.store.keys.run(run.run_id)
    assert run.view().todos[0].output is None
    assert run.store.redis.hget(keys.checkpoint, "A") == HALF


def test_a_todo_that_succeeded_with_an_output_has_nothing_left_to_go_on_from(run: Harness):
    grant = begun(run)
    run.store.checkpoint(grant, HALF)
    done: Result = replace(OK, output=MORE)
    run.settle(grant, done)

    assert run.view().todos[0].output == {"done": [1, 2, 3]}
    assert not run.store.redis.exists(run.store.keys.run(run.run_id).checkpoint)
