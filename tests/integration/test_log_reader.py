"""Output of todos, read from Redis: in order, whole, and from the run that really executed them."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.runs.logs import PIECE_BYTES, LogReader, Piece
from coordination.runs.store import RunStore
from coordination.runs.views.run_view import RunReader
from tests.waiting import until
from workers.attempt.output import Log

KEYS = Keys("coord")
RUN = KEYS.run("R")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, Profile.READER) as client:
        yield client


def write(client: redis.Redis, todo: str, text: str, *, run: str = "R", at: str = "*") -> None:
    client.xadd(KEYS.run(run).log(todo), {"attempt": 1, "text": text}, id=at)


def test_pieces_of_several_todos_come_in_the_order_in_which_they_were_written(client: redis.Redis):
    for n in range(500):
        write(client, "A" if n % 3 else "B", f"{n} ", at=f"{1000 + n // 2}-{n}")

    book = LogReader(client, KEYS, "R", ["A", "B"])

    assert "".join(piece.text for piece in book.written()).split() == [str(n) for n in range(500)]
    assert list(book.written()) == []


def test_what_was_carried_over_is_read_where_it_was_written(client: redis.Redis):
    client.hset(RUN.facts, "A run", "earlier")
    write(client, "A", "done before", run="earlier")

    assert [piece.text for piece in LogReader(client, KEYS, "R", ["A"]).written()] == ["done before"]


def test_a_carried_over_todo_shows_its_earlier_log_and_then_its_compensation(client: redis.Redis):
    client.hset(RUN.facts, "A run", "earlier")
    write(client, "A", "done before, ", run="earlier")
    written = client.time()
    # The log counts in ms.
    until(lambda: client.time() >= (written[0], written[1] + 2000) or client.time()[0] > written[0])
    write(client, "A", "undone")

    assert [piece.text for piece in LogReader(client, KEYS, "R", ["A"]).written()] == [
        "done before, ",
        "undone",
    ]


def test_while_a_run_is_undone_what_has_ended_may_still_write(client: redis.Redis):
    client.hset(RUN.meta, "status", "rolling_back")
    client.hset(RUN.state, mapping={"A": "succeeded"})
    write(client, "A", "done, ")
    book = LogReader(client, KEYS, "R", ["A"]).followed()
    assert next(book).text == "done, "

    write(client, "A", "undone")
    client.hset(RUN.state, "A", "compensated")

    assert [piece.text for piece in book] == ["undone"]


def test_a_follower_gets_all_and_ends_with_the_last_todo(client: redis.Redis):
    client.hset(RUN.state, mapping={"A": "succeeded", "B": "running"})
    write(client, "A", "first ")
    read: list[str] = []
    follower = threading.Thread(
        target=lambda: read.extend(
            piece.text for piece in LogReader(client, KEYS, "R", ["A", "B"]).followed()
        )
    )
    follower.start()

    write(client, "B", "second ")
    write(client, "B", "last")
    client.hset(RUN.state, "B", "failed")
    client.xadd(RUN.events, {"what": "todo.failed", "todo": "B"})
    follower.join(timeout=60)

    assert not follower.is_alive()
    assert "".join(read) == "first second last"


def test_a_run_without_todos_has_an_empty_log(client: redis.Redis):
    assert list(LogReader(client, KEYS, "R", []).written()) == []


LIMIT = 16 * 1024
GAP = re.compile(r"\n?\[coord\] ([\d,]+) bytes left out here(?:; see the log file (\S+))?\n")


def whole(pieces: Iterable[Piece]) -> str:
    """The text with a dot for each byte that is said to be missing."""
    return "".join(
        GAP.sub(_dots, piece.text, count=1) if GAP.match(piece.text) else piece.text for piece in pieces
    )


def _dots(said: re.Match[str]) -> str:
    return "." * int(said[1].replace(",", ""))


def agrees(read: str, written: str) -> bool:
    return len(read) == len(written) and all(r in (w, ".") for r, w in zip(read, written, strict=True))


def in_redis(client: redis.Redis) -> list[int]:
    return [len(fields["text"].encode()) for _, fields in client.xrange(RUN.log("A"))]


def test_above_the_limit_head_and_tail_are_kept_and_the_gap_is_sized(client: redis.Redis, tmp_path: Path):
    store, file = RunStore(client, "coord"), tmp_path / "A.log"
    log = Log(
        lambda text, skipped: store.log("R", "A", 1, text, skipped, str(file), LIMIT), file, limit_bytes=LIMIT
    )
    for n in range(20_000):
        log.write(f"line {n}\n".encode())
    log.line("the cause")
    log.close()

    pieces = list(LogReader(client, KEYS, "R", ["A"]).written())
    text = "".join(piece.text for piece in pieces)
    said = GAP.search(text)
    assert said
    assert said[2] == str(file)
    assert agrees(whole(pieces), file.read_text())
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 19999\n[coord] the cause\n")
    assert len(text) - said.end() > LIMIT * 0.4
    assert sum(in_redis(client)) <= LIMIT
    assert RunReader(client, KEYS).log_tail("R", "A").endswith("line 19999\n[coord] the cause\n")


def test_a_follower_sees_each_byte_once_or_its_gap_while_the_tail_moves(client: redis.Redis):
    chance, store, written = random.Random(14), RunStore(client, "coord"), ""
    book, read = LogReader(client, KEYS, "R", ["A"]), list[Piece]()
    for _ in range(300):
        left_out, text = (
            chance.choice([0, 0, 0, 5000]),
            "".join(chance.choices("ab\n", k=chance.randrange(1, 3000))),
        )
        store.log("R", "A", 1, text, left_out, limit_bytes=LIMIT)
        written += "?" * left_out + text
        if chance.random() < 0.2:
            read += book.written()
    read += book.written()

    assert agrees(whole(read), written)
    assert agrees(whole(LogReader(client, KEYS, "R", ["A"]).written()), written)
    assert sum(in_redis(client)) <= LIMIT


def test_one_entry_of_30_mb_is_kept_in_small_pieces_up_to_the_limit(client: redis.Redis):
    RunStore(client, "coord").log("R", "A", 1, "begin" + "ö" * 15_000_000 + "end")

    assert sum(in_redis(client)) <= 1024 * 1024
    assert max(in_redis(client)) <= PIECE_BYTES + 6
    text = "".join(piece.text for piece in LogReader(client, KEYS, "R", ["A"]).written())
    assert text.startswith("begin")
    assert text.endswith("end")
    assert GAP.search(text)


def test_what_others_wrote_into_a_log_is_read_and_cut(client: redis.Redis):
    client.xadd(RUN.log("A"), {"attempt": "x", "at": "1e99", "end": "-1", "text": "y" * 3_000_000})
    client.xadd(RUN.log("A"), {"other": "z"})

    text = "".join(piece.text for piece in LogReader(client, KEYS, "R", ["A"]).written())

    assert PIECE_BYTES < len(text) < 3 * PIECE_BYTES
    assert len(RunReader(client, KEYS).log_tail("R", "A")) < 3 * PIECE_BYTES


def test_each_attempt_has_its_own_head_and_tail_and_a_late_one_gets_none_anew(client: redis.Redis):
    store = RunStore(client, "coord")
    for attempt in (1, 2, 1, 2, 1):
        store.log("R", "A", attempt, f"{attempt}" * 3 * LIMIT, limit_bytes=LIMIT)

    assert sum(in_redis(client)) <= 2 * LIMIT
    pieces = list(LogReader(client, KEYS, "R", ["A"]).written())
    assert [pieces[0].attempt, pieces[-1].attempt] == [1, 1]
    assert {piece.attempt for piece in pieces} == {1, 2}


def test_output_is_kept_where_the_system_has_no_thread_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(_: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    told: list[str] = []
    log = Log(lambda text, _: told.append(text), tmp_path / "A.log", limit_bytes=1000)
    monkeypatch.setattr(threading.Timer, "start", refuse)
    log.write(b"one\n")
    monkeypatch.undo()
    log.write(b"two\n")
    log.close()
    assert told == ["one\n", "two\n"]
