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
def once(clock: Clock) -> RateLimitedLog:
    return RateLimitedLog(clock)


def said(words: str, *, by: str = "workers.leases", level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(by, level, "file", 1, words, None, None)


def test_a_warning_is_said_once_a_minute(once: RateLimitedLog, clock: Clock):
    assert once.filter(said("Redis is away"))
    assert not once.filter(said("Redis is away"))

    clock.now += REPEATED_AFTER_S

    assert once.filter(said("Redis is away"))


def test_other_words_and_other_speakers_are_heard(once: RateLimitedLog):
    assert once.filter(said("A lost its worker 1"))
    assert once.filter(said("A lost its worker 2"))
    assert once.filter(said("A lost its worker 1", by="coordination.runs.maintenance.leader"))


def test_what_is_no_warning_is_always_said(once: RateLimitedLog):
    assert [once.filter(said("A succeeded", level=logging.INFO)) for _ in range(2)] == [True, True]


def test_the_carriers_count_of_its_attempts_makes_no_news(once: RateLimitedLog):
    assert once.filter(said("Trying again in 3.00 seconds... (7/None)", by="celery.worker.consumer"))
    assert not once.filter(said("Trying again in 3.00 seconds... (8/None)", by="celery.worker.consumer"))
