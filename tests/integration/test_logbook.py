"""What todos wrote, read from Redis: in the order in which it was written, whole, and from the run that really did it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from coordination.runs.logbook import Logbook
from coordination.wire.connection import Profile, connect
from coordination.wire.keys import Keys
from tests.waiting import until

KEYS = Keys("coord")
RUN = KEYS.run("R")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, Profile.READER) as client:
        yield client


def write(client: redis.Redis, todo: str, text: str, *, run: str = "R", at: str = "*") -> None:
    client.xadd(KEYS.run(run).log(todo), {"attempt": 1, "text": text}, id=at)


def test_pieces_of_several_todos_come_in_the_order_in_which_they_were_written(client: redis.Redis) -> None:
    for n in range(500):
        write(client, "A" if n % 3 else "B", f"{n} ", at=f"{1000 + n // 2}-{n}")

    book = Logbook(client, KEYS, "R", ["A", "B"])

    assert "".join(piece.text for piece in book.written()).split() == [str(n) for n in range(500)]
    assert list(book.written()) == []


def test_what_was_carried_over_is_read_where_it_was_written(client: redis.Redis) -> None:
    client.hset(RUN.facts, "A run", "earlier")
    write(client, "A", "done before", run="earlier")

    assert [piece.text for piece in Logbook(client, KEYS, "R", ["A"]).written()] == ["done before"]


def test_of_what_was_carried_over_the_run_at_hand_has_what_undoes_it(client: redis.Redis) -> None:
    client.hset(RUN.facts, "A run", "earlier")
    write(client, "A", "done before, ", run="earlier")
    written = client.time()
    until(
        lambda: client.time() >= (written[0], written[1] + 2000) or client.time()[0] > written[0]
    )  # the log counts in ms
    write(client, "A", "undone")

    assert [piece.text for piece in Logbook(client, KEYS, "R", ["A"]).written()] == ["done before, ", "undone"]


def test_while_a_run_is_undone_what_has_ended_may_still_write(client: redis.Redis) -> None:
    client.hset(RUN.meta, "status", "rolling_back")
    client.hset(RUN.state, mapping={"A": "succeeded"})
    write(client, "A", "done, ")
    book = Logbook(client, KEYS, "R", ["A"]).followed()
    assert next(book).text == "done, "

    write(client, "A", "undone")
    client.hset(RUN.state, "A", "compensated")

    assert [piece.text for piece in book] == ["undone"]


def test_a_follower_gets_all_and_ends_with_the_last_todo(client: redis.Redis) -> None:
    client.hset(RUN.state, mapping={"A": "succeeded", "B": "running"})
    write(client, "A", "first ")
    read: list[str] = []
    follower = threading.Thread(
        target=lambda: read.extend(piece.text for piece in Logbook(client, KEYS, "R", ["A", "B"]).followed())
    )
    follower.start()

    write(client, "B", "second ")
    write(client, "B", "last")
    client.hset(RUN.state, "B", "failed")
    client.xadd(RUN.events, {"what": "todo.failed", "todo": "B"})
    follower.join(timeout=20)

    assert not follower.is_alive()
    assert "".join(read) == "first second last"


def test_a_run_without_todos_has_an_empty_log(client: redis.Redis) -> None:
    assert list(Logbook(client, KEYS, "R", []).written()) == []
