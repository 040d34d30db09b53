"""The log of a worker, and how often a line is repeated."""

from __future__ import annotations

import logging

import pytest

from workers.worker_process import REPEATED_AFTER_S, RateLimitedLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> RateLimitedLog:
    return RateLimitedLog(clock)


def record(words: str, *, by: str = "workers.leases", level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(by, level, "file", 1, words, None, None)


def test_a_warning_is_logged_once_a_minute_with_the_number_of_its_repetitions(
    log: RateLimitedLog, clock: Clock
):
    assert log.filter(record("Redis is away"))
    assert not log.filter(record("Redis is away"))

    assert not log.filter(record("Redis is away"))
    clock.now += REPEATED_AFTER_S
    later, latest = record("Redis is away"), record("Redis is away")

    assert log.filter(later)
    clock.now += REPEATED_AFTER_S
    assert log.filter(latest)
    assert (later.getMessage(), latest.getMessage()) == (
        "Redis is away (and 2 times before)", "Redis is away",
    )  # fmt: skip


def test_other_texts_and_other_loggers_are_logged(log: RateLimitedLog):
    assert log.filter(record("A lost its worker 1"))
    assert log.filter(record("A lost its worker 2"))
    assert log.filter(record("A lost its worker 1", by="coordination.runs.maintenance.leader"))


def test_lower_levels_are_always_logged(log: RateLimitedLog):
    assert [log.filter(record("A succeeded", level=logging.INFO)) for _ in range(2)] == [True, True]


def test_a_number_of_tries_that_celery_counts_is_no_new_text(log: RateLimitedLog):
    assert log.filter(record("Trying again in 3.00 seconds... (7/None)", by="celery.worker.consumer"))
    assert not log.filter(record("Trying again in 3.00 seconds... (8/None)", by="celery.worker.consumer"))
