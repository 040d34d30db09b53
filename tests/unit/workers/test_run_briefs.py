"""A worker's data of a run: read once, however many of its threads ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordination.runs.records import RunBrief
from workers.attempt.context import BRIEFS_KEPT, BriefFacts, Briefs

BEFORE = {"a": (), "b": ("a",), "c": (), "d": ("c", "b"), "e": ("d",)}


class Redis:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    def read(self, run_id: str) -> RunBrief:
        self.asked.append(run_id)
        if self.away:
            raise ConnectionError
        return RunBrief(run_id=run_id, plan_id="P", predecessors=BEFORE)


def test_threads_that_begin_at_once_read_a_run_once():
    redis, together = Redis(), threading.Barrier(16)
    briefs = Briefs(redis.read)

    def begin(_: int) -> BriefFacts:
        together.wait()
        return briefs.of("run")

    with ThreadPoolExecutor(16) as threads:
        known = list(threads.map(begin, range(16)))

    assert redis.asked == ["run"]
    assert all(one is known[0] for one in known)


def test_what_could_not_be_read_is_read_by_the_next_one_who_asks():
    redis = Redis()
    redis.away = True
    briefs = Briefs(redis.read)
    with pytest.raises(ConnectionError):
        briefs.of("run")

    redis.away = False

    assert briefs.of("run").brief.run_id == "run"


def test_no_more_runs_are_kept_than_those_asked_for_last():
    redis = Redis()
    briefs = Briefs(redis.read)
    for number in range(BRIEFS_KEPT):
        briefs.of(str(number))
    briefs.of("0")

    briefs.of("one more")
    briefs.of("0")
    briefs.of("1")

    assert redis.asked == [*map(str, range(BRIEFS_KEPT)), "one more", "1"]


def test_predecessors_of_predecessors_are_told_in_the_order_of_the_run():
    known = BriefFacts(RunBrief(run_id="run", plan_id="P", predecessors=BEFORE))

    assert known.ancestors("d") == ["a", "b", "c"]
    assert known.ancestors("e") == ["a", "b", "c", "d"]
    assert known.ancestors("a") == []
