"""A manual todo waits for a person, holds no worker, and goes on when somebody says that it is done."""

from __future__ import annotations

import pytest

from tests.stage import PLAN, Stage


@pytest.mark.parametrize("strategy", ["levels", "dataflow"])
def test_a_manual_todo_waits_until_somebody_says_that_it_is_done(stage: Stage, strategy: str) -> None:
    stage.write(
        [
            {"id": "look", "repo": "api", "action": {"type": "manual"}},
            {"id": "other", "repo": "api", "action": "true"},
            {"id": "after", "repo": "web", "action": "true", "blocked_by": ["look", "other"]},
        ]
    )
    sweep = stage.begin("sweep", PLAN, "--strategy", strategy)

    said = sweep.says("waits for")
    waiting = stage.shown()
    done = stage.coord("complete-todo", "look")
    ended = sweep.done(30)

    assert "look waits for a person: coord complete-todo look" in said
    assert waiting.states == {"look": "parked", "other": "succeeded", "after": "waiting"}
    assert waiting.todo("look")["waits_for"] == "a person: coord complete-todo look"
    assert done.code == 0
    assert ended.code == 0, ended.err
    assert "3 succeeded" in ended.out
    assert stage.coord("complete-todo", "look").code == 2
