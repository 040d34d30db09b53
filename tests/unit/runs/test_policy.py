"""A todo's retry policy: each field of its own, else of its plan, else of the settings."""

from __future__ import annotations

from datetime import timedelta

from coordination.models import Backoff, Jitter, Plan, Repo, Retry, Todo
from coordination.runs.records import TodoSpec
from coordination.runs.submission.submit import spec_of
from coordination.settings import Settings

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
