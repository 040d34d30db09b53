"""Steps of a server's clock and their effect on timers. Our times are in s, the server's in ms."""

from __future__ import annotations

import pytest

from coordination.runs.maintenance.clock import ClockReading, ClockStep, ServerClock

HOUR_MS = 3_600_000
NOON = 12 * HOUR_MS


def at(server_ms: int, asked_s: float, took_s: float = 0.001) -> ClockReading:
    return ClockReading(server_ms=server_ms, asked_s=asked_s, answered_s=asked_s + took_s)


@pytest.mark.parametrize(
    ("first", "second", "by_ms"),
    [
        pytest.param(at(NOON, 0), at(NOON + 500, 0.5), 0, id="both go on"),
        pytest.param(at(NOON, 0), at(NOON + 1400, 0.5), 0, id="less than a second ahead"),
        pytest.param(at(NOON, 0), at(NOON - 400, 0.5), 0, id="less than a second back"),
        pytest.param(at(NOON, 0), at(NOON + 500 + HOUR_MS, 0.5), HOUR_MS, id="an hour ahead"),
        pytest.param(at(NOON, 0), at(NOON + 500 - HOUR_MS, 0.5), -HOUR_MS, id="an hour back"),
        pytest.param(at(NOON, 0), at(NOON + 2500, 0.5), 2000, id="two seconds ahead"),
        pytest.param(at(NOON, 0), at(NOON + HOUR_MS, 3600), 0, id="nobody looked for an hour"),
        pytest.param(
            at(NOON, 0), at(NOON + HOUR_MS + 3000, 3600), 0, id="nobody looked for an hour, and it was slewed"
        ),
        pytest.param(at(NOON, 0), at(NOON + 20_000, 0.5, 30), 0, id="an answer that took half a minute"),
        pytest.param(
            at(NOON, 0, 30), at(NOON + 500, 30.5), 0, id="an answer that was on its way for half a minute"
        ),
    ],
)
def test_a_step_is_what_no_drift_and_no_slow_answer_explains(
    first: ClockReading, second: ClockReading, by_ms: int
):
    clock = ServerClock()
    assert clock.look(first) is None

    step = clock.look(second)

    assert (step.by_ms if step else 0) == pytest.approx(by_ms, abs=5)


def test_each_step_is_seen_once_and_the_next_from_there():
    clock = ServerClock()
    found = [
        clock.look(at(server_ms, i / 2)) for i, server_ms in enumerate([NOON, HOUR_MS, HOUR_MS + 500, NOON])
    ]

    assert [step and step.is_back for step in found] == [None, True, None, False]


BACK = ClockStep(by_ms=-HOUR_MS, seen_ms=NOON, earliest_ms=NOON - 1500)
AHEAD = ClockStep(by_ms=HOUR_MS, seen_ms=NOON, earliest_ms=NOON - 1500)


@pytest.mark.parametrize(
    ("step", "due_ms", "since_ms", "moved_ms"),
    [
        pytest.param(
            BACK, NOON + HOUR_MS + 5000, NOON + HOUR_MS - 9000, NOON + 5000, id="set before: in the future"
        ),
        pytest.param(
            BACK, NOON + 25 * HOUR_MS, NOON - HOUR_MS, NOON + 24 * HOUR_MS, id="set before: long ago"
        ),
        pytest.param(
            BACK, NOON + HOUR_MS - 5000, NOON + HOUR_MS - 9000, NOON - 5000, id="due by now, but for the step"
        ),
        pytest.param(BACK, NOON + 5000, NOON - 200, None, id="set since"),
        pytest.param(BACK, NOON - 10, NOON - 9000, None, id="due"),
        pytest.param(BACK, NOON + HOUR_MS, None, NOON, id="nobody knows when it was set"),
        pytest.param(AHEAD, NOON + 5000, NOON - HOUR_MS, None, id="ahead: time that passed has passed"),
    ],
)
def test_a_timer_waits_as_long_as_it_was_meant_to(
    step: ClockStep, due_ms: int, since_ms: int | None, moved_ms: int | None
):
    assert step.moved(due_ms, since_ms, NOON) == moved_ms
