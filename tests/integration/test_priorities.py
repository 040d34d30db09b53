"""Which message a worker takes next: by a real channel of ours, from queues that steps and others have
filled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
from celery import Celery
from kombu.transport.redis import Mutex, MutexHeld, QoS

from coordination.backend.keys import RestrictedKeys
from coordination.broker.celery_app import make_app
from coordination.models import Strategy
from coordination.runs.dispatch import Dispatcher
from coordination.runs.store import RunStore
from tests.engine import UNBROKEN, Engine
from tests.integration.conftest import submitted
from tests.plans import Todos
from tests.waiting import until

REPOS = ("r1", "r2", "r3", "r4")


class Taker:
    """A worker's channel with one free place, over the queues of some repositories."""

    def __init__(self, app: Celery, store: RunStore, repos: tuple[str, ...] = REPOS) -> None:
        self.connection = app.connection_for_read()
        self.channel = self.connection.default_channel
        self.channel.basic_qos(0, 1, False)
        self.got: list[object] = []
        for queue in [store.keys.control_queue, *(store.keys.queue(repo) for repo in repos)]:
            self.channel.queue_declare(queue)
            self.channel.basic_consume(queue, False, self.got.append, queue)

    def take(self) -> str:
        """`run todo` of the next message, which is done with at once."""
        until(self._drained)
        message = self.got.pop()
        message.ack()  # type: ignore[attr-defined]
        run, todo, *_ = message.decode()[0]  # type: ignore[attr-defined]
        return f"{run} {todo}"

    def todos(self, n: int) -> list[str]:
        return [self.take().split()[1] for _ in range(n)]

    def _drained(self) -> bool:
        try:
            self.connection.drain_events(timeout=0.1)
        except TimeoutError:
            return False
        return bool(self.got)


@pytest.fixture
def app(redis_url: str, store: RunStore) -> Celery:
    made = make_app(redis_url, store.keys, UNBROKEN)
    Dispatcher(made, store).leave_message_template()
    return made


@pytest.fixture
def taker(app: Celery, store: RunStore) -> Iterator[Taker]:
    made = Taker(app, store)
    yield made
    made.connection.close()


def queued(store: RunStore, todos: Todos, **hours: float) -> Engine:
    """A run, all of whose todos stand in queues; `hours`: the estimates."""
    run = submitted(store, todos, **{name: {"estimated_hours": h} for name, h in hours.items()})
    assert not run.mail
    return run


def test_the_longest_remaining_path_goes_first_whatever_queue_it_stands_in(store: RunStore, taker: Taker):
    queued(store, {"A": "r1", "B": "r2", "C": "r3", "D": ("r4", ["C"])}, A=2, B=3, C=1, D=5)

    assert taker.todos(3) == ["C", "B", "A"]


def test_a_long_wait_goes_before_a_longer_path(store: RunStore, taker: Taker):
    run = queued(store, {"A": "r1", "B": "r2"}, A=1, B=2)
    posted = store.keys.run(run.run_id).posted
    ahead = store.redis.zscore(posted, store.keys.queue("r1")) - store.redis.zscore(
        posted, store.keys.queue("r2")
    )
    assert round(ahead / 3_600_000, 3) == 10  # ten hours of waiting for an hour of the remaining path

    store.redis.zincrby(posted, -ahead - 1, store.keys.queue("r1"))

    assert taker.todos(2) == ["A", "B"]


def test_runs_take_turns(store: RunStore, taker: Taker):
    long = queued(store, {"A": "r1", "B": "r2"}, A=1000, B=1000)
    short = queued(store, {"C": "r3", "D": "r4"}, C=0.1, D=0.1)

    runs = [taker.take().split()[0] for _ in range(4)]

    assert sorted(runs[:2]) == sorted([long.run_id, short.run_id]) == sorted(runs[2:])


def test_a_todo_whose_queue_nobody_here_reads_holds_up_no_other(app: Celery, store: RunStore):
    queued(store, {"A": "r1", "B": "r2"}, A=9, B=1)
    taker = Taker(app, store, ("r2",))

    assert taker.todos(1) == ["B"]
    assert store.redis.llen(store.keys.queue("r1")) == 1
    taker.connection.close()


def test_a_message_is_kept_as_unacknowledged_until_the_next_question(store: RunStore, taker: Taker):
    run = queued(store, {"A": "r1"})
    until(taker._drained)

    (kept,) = store.redis.hvals(store.keys.unacked)
    message, exchange, queue = json.loads(kept)
    assert message["headers"]["id"] == f"{run.run_id}.A"
    assert (exchange, queue) == ("", store.keys.queue("r1"))
    assert store.redis.zcard(f"{store.keys.unacked}_index") == 1

    taker.got.pop().ack()  # type: ignore[attr-defined]
    taker._drained()
    assert until(lambda: not store.redis.hlen(store.keys.unacked))
    assert not store.redis.zcard(f"{store.keys.unacked}_index")


def test_what_is_done_with_is_told_when_the_channel_closes(store: RunStore, app: Celery):
    queued(store, {"A": "r1"})
    taker = Taker(app, store)
    taker.take()
    taker.connection.close()

    assert not store.redis.hlen(store.keys.unacked)


def test_a_server_that_forgot_the_step_is_told_it_again(store: RunStore, taker: Taker):
    queued(store, {"A": "r1", "B": "r2"}, A=2, B=1)
    store.redis.execute_command("FUNCTION", "FLUSH")

    assert taker.todos(2) == ["A", "B"]


def test_a_foreign_queue_entry_comes_as_well_and_a_stale_turn_goes(
    app: Celery, store: RunStore, taker: Taker
):
    run = queued(store, {"A": "r1"})
    keys = store.keys.run(run.run_id)
    raw = store.redis.rpop(store.keys.queue("r1"))  # BRPOP of a worker that knows no turns
    store.redis.lpush(store.keys.queue("r2"), raw)

    assert taker.todos(1) == ["A"]
    assert not store.redis.exists(keys.posted)
    assert not store.redis.exists(store.keys.served)


def test_a_message_given_back_by_a_stopping_worker_is_found(app: Celery, store: RunStore, taker: Taker):
    queued(store, {"A": "r1"})
    until(taker._drained)
    taker.got.pop().requeue()  # type: ignore[attr-defined]
    queued(store, {"B": "r2", "C": "r3"})

    assert "A" in taker.todos(2)


def test_a_level_comes_in_the_order_in_which_it_was_sent(app: Celery, store: RunStore, taker: Taker):
    run = submitted(store, {"A": "r1", "B": "r2", "C": "r3"}, Strategy.LEVELS)
    assert len(run.mail) == 3
    Dispatcher(app, store).send(run.mail)

    assert taker.todos(3) == ["A", "B", "C"]


def test_a_queue_that_is_something_else_by_now_loses_no_todo(store: RunStore, app: Celery):
    store.redis.set(store.keys.queue("r1"), "somebody's")
    run = queued(store, {"A": "r1"})
    assert run.states() == {"A": "dispatched"}
    store.redis.delete(store.keys.queue("r1"))

    assert [d.todo_id for d in store.resend(run.run_id, timedelta(0), 10).sends] == ["A"]


def test_a_restricted_worker_asks_by_brpop_alone(redis_url: str, store: RunStore, app: Celery):
    queued(store, {"A": "r1"})
    own = RestrictedKeys("test:restricted:r1")
    taker = Taker(make_app(redis_url, store.keys, UNBROKEN, own), store, ("r1",))
    before = store.redis.info("commandstats").get("cmdstat_fcall", {"calls": 0})["calls"]

    assert taker.todos(1) == ["A"]
    assert store.redis.info("commandstats").get("cmdstat_fcall", {"calls": 0})["calls"] == before
    taker.connection.close()


def test_a_failed_acknowledgement_gives_its_place_free(app: Celery, monkeypatch: pytest.MonkeyPatch):
    """Else its worker would consume no more."""

    def unanswered(_qos: QoS, _tag: str) -> None:
        raise redis.TimeoutError("no answer")

    with app.connection_for_read() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        queue = connection.SimpleQueue("test.control", no_ack=False)
        queue.put({"hint": 1})
        queue.close()
        channel.queue_declare("test.control")
        message = channel.basic_get("test.control")
        channel.qos.append(message, message.delivery_tag)
        assert not channel.qos.can_consume()

        monkeypatch.setattr(QoS, "_remove_from_indices", unanswered)
        with pytest.raises(redis.TimeoutError):
            channel.basic_ack(message.delivery_tag)

        assert channel.qos.can_consume()


def test_consumers_restore_messages_one_at_a_time_and_free_only_their_own_lock(app: Celery):
    with app.connection_for_read() as connection, connection.channel().conn_or_acquire() as ours:
        with Mutex(ours, "mutex", 60), pytest.raises(MutexHeld), Mutex(ours, "mutex", 60):
            pytest.fail("two consumers restore at once")
        assert not ours.exists("mutex")
        with Mutex(ours, "mutex", 60):
            ours.set("mutex", "another consumer, after this one was silent")
        assert ours.exists("mutex")
