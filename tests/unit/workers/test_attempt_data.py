"""The data that an attempt reads and writes: the brief of its run, and its checkpoint."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordination.runs.records import RunBrief
from workers.attempt.context import BRIEFS_KEPT, Briefs, ParsedBrief
from workers.attempt.output import Checkpoint

BEFORE = {"a": (), "b": ("a",), "c": (), "d": ("c", "b"), "e": ("d",)}


class Redis:
    """Counts the briefs that are read."""

    def __init__(self) -> None:
        self.read_runs: list[str] = []
        self.away = False

    def read(self, run_id: str) -> RunBrief:
        self.read_runs.append(run_id)
        if self.away:
            raise ConnectionError
        return RunBrief(run_id=run_id, plan_id="P", predecessors=BEFORE)


def test_threads_that_begin_at_once_read_a_run_once():
    redis, together = Redis(), threading.Barrier(16)
    briefs = Briefs(redis.read)

    def begin(_: int) -> ParsedBrief:
        together.wait()
        return briefs.of("run")

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(begin, range(16)))

    assert redis.read_runs == ["run"]
    assert all(one is found[0] for one in found)


def test_a_brief_that_could_not_be_read_is_read_again():
    redis = Redis()
    redis.away = True
    briefs = Briefs(redis.read)
    with pytest.raises(ConnectionError):
        briefs.of("run")

    redis.away = False

    assert briefs.of("run").brief.run_id == "run"


def test_only_the_briefs_that_were_used_last_are_kept():
    redis = Redis()
    briefs = Briefs(redis.read)
    for number in range(BRIEFS_KEPT):
        briefs.of(str(number))
    briefs.of("0")

    briefs.of("one more")
    briefs.of("0")
    briefs.of("1")

    assert redis.read_runs == [*map(str, range(BRIEFS_KEPT)), "one more", "1"]


def test_ancestors_are_in_the_order_of_the_run():
    facts = ParsedBrief(RunBrief(run_id="run", plan_id="P", predecessors=BEFORE))

    assert facts.ancestors("d") == ["a", "b", "c"]
    assert facts.ancestors("e") == ["a", "b", "c", "d"]
    assert facts.ancestors("a") == []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "output.json"


@pytest.mark.parametrize(
    "half", ["", "[1, 2", '{"a": 1', '"te', "tru", "12", "-1.5", "[1] [2]", "[NaN]", "[" * 300 + "]" * 300]
)
def test_a_value_that_is_half_written_is_never_sent(file: Path, half: str):
    checkpoint = Checkpoint(1000)
    with checkpoint.watching(file):
        file.write_text(half)
        assert checkpoint.unsent() == ""


def test_a_whole_value_is_sent_once_and_again_when_it_has_changed(file: Path):
    checkpoint = Checkpoint(1000)
    with checkpoint.watching(file):
        assert checkpoint.unsent() == ""
        file.write_text('{"a": [1, 2]}\n')
        assert checkpoint.unsent() == '{"a":[1,2]}'
        assert checkpoint.unsent() == '{"a":[1,2]}', "nobody said that Redis has it"
        checkpoint.sent('{"a":[1,2]}')
        assert checkpoint.unsent() == ""
        file.write_text('{"a": [1, 2, 3]}')
        assert checkpoint.unsent() == '{"a":[1,2,3]}'
    assert checkpoint.unsent() == ""


def test_the_value_that_redis_does_not_have_is_left_at_the_end(file: Path):
    known, unknown, number = Checkpoint(1000), Checkpoint(1000), Checkpoint(1000)
    for checkpoint, text in ((known, "[1]"), (unknown, "[2]"), (number, "12")):
        with checkpoint.watching(file):
            file.write_text("[1]")
            checkpoint.sent(checkpoint.unsent())
            file.write_text(text)
    assert [one.left for one in (known, unknown, number)] == ["", "[2]", "12"]


def test_a_value_beyond_the_limit_and_a_pipe_are_not_sent(file: Path):
    checkpoint = Checkpoint(10)
    with checkpoint.watching(file):
        file.write_text('"0123456789"')
        assert checkpoint.unsent() == ""
        file.unlink()
        os.mkfifo(file)
        assert checkpoint.unsent() == ""
    assert checkpoint.left == ""
