"""Locks in any order of events, held against a model (tests/lock_model.py), and in rare orders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from coordination.backend.client import Profile, connect
from tests.examples import examples
from tests.lock_history import AnyHistory
from tests.lock_model import Request

SETTINGS = settings(
    max_examples=examples(40),
    stateful_step_count=40,
    phases=[Phase.reuse, Phase.generate],  # a history on a real server takes minutes to shrink
)


@pytest.fixture
def history(redis_url: str) -> Iterator[AnyHistory]:
    with connect(redis_url, Profile.COMMAND) as client:
        yield AnyHistory(client)


def test_locks_keep_their_promises_in_any_history(redis_url: str) -> None:
    with connect(redis_url, Profile.COMMAND) as client:
        run_state_machine_as_test(partial(AnyHistory, client), settings=SETTINGS)


def asked(history: AnyHistory, *wanted: dict[str, str]) -> list[Request]:
    """One after the other."""
    requests = [history.newcomer(wants, 0) for wants in wanted]
    for request in requests:
        history.ask(request)
    return requests


def test_a_granted_waiter_hands_on_what_it_leaves(history: AnyHistory) -> None:
    seats, lock, both, behind = asked(
        history,
        {"seat:repo": "2/2"},
        {"lock:a": "x"},
        {"seat:repo": "1/2", "lock:a": "x"},
        {"seat:repo": "1/2"},
    )
    history.let_go(seats)

    history.expire(lock)
    history.ask(both)

    assert [both.state, behind.state] == ["held", "held"]


def test_a_waiter_whose_place_expired_leaves_no_entry_in_the_queue_once_granted(history: AnyHistory) -> None:
    first, second = asked(history, {"lock:a": "x"}, {"lock:a": "x"})
    history.expire(first)
    history.expire(second)

    history.ask(second)

    assert second.state == "held"
    assert history.see().queues["lock:a"] == []


def test_a_waiter_behind_one_that_leaves_goes_on_at_once(history: AnyHistory) -> None:
    _, leaver, behind = asked(
        history, {"resource:gpu": "2/0"}, {"resource:gpu": "2/0"}, {"resource:gpu": "1/0"}
    )

    history.leave(leaver)

    assert behind.state == "held"


def test_one_that_shares_passes_one_that_shares_and_waits_for_something_else(history: AnyHistory) -> None:
    alone, _, both, behind = asked(
        history, {"lock:a": "x"}, {"lock:b": "x"}, {"lock:a": "s", "lock:b": "x"}, {"lock:a": "s"}
    )

    history.let_go(alone)

    assert [both.state, behind.state] == ["waiting", "held"]


def test_a_share_that_expired_unseen_counts_as_used_until_then(history: AnyHistory) -> None:
    dead, alive = asked(history, {"resource:gpu": "1/0"}, {"resource:gpu": "1/0"})
    stats, shares = history.keys.stats("resource:gpu"), history.keys.shares("resource:gpu")
    began_ms = history.table.now_ms() - 100_000
    history.redis.hset(stats, mapping={"from": began_ms, "since": began_ms})

    history.expire(dead)
    history.redis.zadd(shares, {f"1 {dead.id}": began_ms + 10_000})
    history.let_go(alive)

    assert 110_000 <= int(history.redis.hget(stats, "used_ms")) < 150_000
