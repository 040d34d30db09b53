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


def test_a_manual_todo_by_itself_waits_and_only_what_waits_can_be_done(stage: Stage) -> None:
    stage.write(
        [
            {"id": "look", "repo": "api", "action": {"type": "manual"}},
            {"id": "then", "repo": "api", "action": {"type": "manual"}, "blocked_by": ["look"]},
            {"id": "other", "repo": "api"},
        ]
    )
    stage.up()
    early = stage.coord("complete-todo", "look")
    alone = stage.begin("execute", "look")
    alone.says("look waits for a person")

    no_manual, unknown = stage.coord("complete-todo", "other"), stage.coord("complete-todo", "lock")
    run_id = stage.run()["run_id"]
    done = stage.ok("complete-todo", "look", "--run", run_id, "--json")

    assert alone.done(30).code == 0
    assert done.json == {"todo": "look", "run_id": run_id}
    assert (early.code, "no run waits for look" in early.err, "coord sweep PLAN-001" in early.err) == (2, True, True)
    assert (no_manual.code, "it is no manual todo" in no_manual.err) == (2, True)
    assert (unknown.code, "did you mean look" in unknown.err) == (2, True)
    again = stage.coord("complete-todo", "look")
    assert (again.code, "it is completed in" in again.err) == (2, True)
