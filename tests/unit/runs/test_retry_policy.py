"""The retry policy of a todo: merged from the todo, its plan and the settings; whether and when it is tried
again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import pytest

from coordination.models import Backoff, Jitter, Plan, Repo, Retry, Todo
from coordination.runs.records import TodoSpec
from coordination.runs.retry_policy import Again, Failure, GiveUp, decide
from coordination.runs.submission.specs import spec_of
from coordination.settings import Settings

S = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
USUAL = Retry(attempts=4, delay=S, factor=2, max_delay=3 * S)


@pytest.mark.parametrize(
    ("policy", "failures", "draw", "decision"),
    [
        pytest.param(Retry(attempts=1), 1, 0.5, GiveUp(), id="one attempt is no retry"),
        pytest.param(USUAL, 1, 0.5, Again(0.5 * S), id="the first delay is drawn below the base"),
        pytest.param(USUAL, 2, 0.5, Again(S), id="the cap doubles"),
        pytest.param(USUAL, 3, 1.0, Again(3 * S), id="up to the longest delay"),
        pytest.param(USUAL, 4, 0.5, GiveUp(), id="attempts include the first"),
        pytest.param(USUAL, 9, 0.5, GiveUp(), id="more failures than attempts"),
        pytest.param(USUAL, 1, 0.0, Again(MS), id="never no delay at all: a timer must be set"),
        pytest.param(
            Retry(attempts=100, factor=1e300), 99, 1.0, Again(30 * S), id="a huge factor does not overflow"
        ),
        pytest.param(
            Retry(delay=5 * S, max_delay=2 * S, jitter=Jitter.NONE),
            1,
            0,
            Again(2 * S),
            id="max_delay below the delay",
        ),
    ],
)
def test_the_decision_follows_from_policy_failures_and_the_draw(policy, failures, draw, decision):
    assert decide(policy, failures, draw) == decision


GROWTH = {
    Backoff.IMMEDIATE: [0.001] * 7,
    Backoff.FIXED: [2] * 7,
    Backoff.LINEAR: [2, 4, 6, 8, 10, 12, 14],
    Backoff.EXPONENTIAL: [2, 6, 18, 20, 20, 20, 20],
    Backoff.FIBONACCI: [2, 2, 4, 6, 10, 16, 20],
}


@pytest.mark.parametrize("strategy", Backoff)
def test_each_strategy_grows_in_its_own_way_up_to_the_longest_delay(strategy: Backoff):
    plain = Retry(
        attempts=100, strategy=strategy, delay=2 * S, factor=3, max_delay=20 * S, jitter=Jitter.NONE
    )
    drawn = plain.model_copy(update={"jitter": Jitter.FULL})

    assert [decide(plain, n, 0.25) for n in range(1, 8)] == [
        Again(seconds * S) for seconds in GROWTH[strategy]
    ]
    assert decide(plain, 99, 0.25) == Again(
        GROWTH[strategy][-1] * S if strategy is not Backoff.LINEAR else 20 * S
    )
    assert [decide(drawn, n, 0.5) for n in range(1, 8)] == [
        Again(max(MS, seconds * S / 2)) for seconds in GROWTH[strategy]
    ]


def failed(
    exit_code: int | None = None, *, timeout: bool = False, output_tail: Collection[str] = ()
) -> Failure:
    return Failure(exit_code=exit_code, timeout=timeout, shows=lambda pattern: pattern in output_tail)


LOCKED, DENIED = {"output": "locked"}, {"output": "denied"}


@pytest.mark.parametrize(
    ("retry_on", "stop_on", "failure", "again"),
    [
        pytest.param([], [], failed(1), True, id="without signs all failures are"),
        pytest.param([75], [], failed(75), True, id="an exit code that is named"),
        pytest.param([75], [], failed(1), False, id="another exit code"),
        pytest.param(["timeout"], [], failed(timeout=True), True, id="the end of its time"),
        pytest.param(["timeout"], [], failed(124), False, id="an exit code is no end of its time"),
        pytest.param(
            [75, "timeout", LOCKED], [], failed(1, output_tail=["locked"]), True, id="any of several signs"
        ),
        pytest.param([LOCKED], [], failed(1, output_tail=["denied"]), False, id="another output"),
        pytest.param([], [2], failed(2), False, id="an exit code to stop on"),
        pytest.param([], [2], failed(1), True, id="another than that to stop on"),
        pytest.param([], ["timeout"], failed(timeout=True), False, id="stop at the end of its time"),
        pytest.param(
            [1], [DENIED], failed(1, output_tail=["denied"]), False, id="stop_on wins over retry_on"
        ),
        pytest.param([1], [], None, True, id="of a failure that is not the command's no sign is asked"),
    ],
)
def test_signs_say_which_failures_are_worth_another_try(retry_on, stop_on, failure, again):
    policy = Retry.model_validate({"retry_on": retry_on, "stop_on": stop_on})

    assert isinstance(decide(policy, 1, 0.5, failure), Again) is again


def test_who_gives_up_for_a_sign_says_for_which():
    stop = Retry.model_validate({"stop_on": [3, LOCKED]})
    only = Retry.model_validate({"retry_on": [75]})

    assert decide(stop, 1, 0, failed(3)) == GiveUp("not tried again: exit code 3 is in its stop_on")
    assert decide(stop, 1, 0, failed(1, output_tail=["locked"])) == GiveUp(
        "not tried again: output 'locked' is in its stop_on"
    )
    assert decide(only, 1, 0, failed(1)) == GiveUp(
        "not tried again: it shows nothing that is in its retry_on"
    )


def test_the_output_is_looked_at_only_where_nothing_else_decides():
    asked: list[str] = []
    policy = Retry.model_validate({"attempts": 2, "stop_on": [LOCKED, 3]})

    decide(policy, 1, 0, Failure(exit_code=3, shows=lambda pattern: bool(asked.append(pattern))))
    decide(policy, 2, 0, Failure(exit_code=1, shows=lambda pattern: bool(asked.append(pattern))))

    assert asked == []


SETTINGS = Settings.model_validate(
    {"retry_attempts": 7, "retry_strategy": "linear", "retry_delay": "9s", "retry_jitter": "none"}
)


def policy(todo: dict[str, object] | None, plan: dict[str, object] | None) -> Retry:
    """As a worker reads it."""
    spec = spec_of(
        Todo.model_validate({"id": "T", "task": "t", "repo": "r", "retry": todo}),
        Repo(name="r"),
        SETTINGS,
        Plan.model_validate({"id": "P", "title": "p", "retry": plan}),
    )
    return TodoSpec.model_validate_json(spec.model_dump_json(exclude_defaults=True)).retry


def test_a_todo_and_a_plan_that_say_nothing_follow_the_settings():
    assert policy(None, None) == Retry(
        attempts=7, strategy=Backoff.LINEAR, delay=timedelta(seconds=9), jitter=Jitter.NONE
    )


def test_each_field_is_taken_from_whoever_is_nearest_to_the_todo_and_has_written_it():
    found = policy(
        {"attempts": 3, "stop_on": [2, {"output": "denied"}]},
        {"attempts": 5, "strategy": "exponential", "retry_on": ["timeout"], "stop_on": [9]},
    )

    assert found.attempts == 3  # also the default of a todo that says nothing, and written all the same
    assert found.strategy is Backoff.EXPONENTIAL
    assert found.delay == timedelta(seconds=9)
    assert found.retry_on == ("timeout",)
    assert [str(sign) for sign in found.stop_on] == ["2", "output='denied'"]


def test_a_todos_own_failure_is_repeated_only_where_a_retry_is_asked_for():
    def attempts(**retry: object) -> int:
        todo = Todo.model_validate({"id": "T", "task": "t", "repo": "r", **retry})
        return spec_of(todo, Repo(name="r"), Settings(), None).retry.attempts

    assert attempts() == 1
    assert attempts(retry={"retry_on": [75]}) == 3
    assert attempts(retry={"attempts": 2}) == 2
