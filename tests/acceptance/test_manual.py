"""A manual todo waits for a person, holds no worker, and goes on when somebody says that it is done."""

from __future__ import annotations

import pytest

from tests.acceptance.workplace import PLAN, Workplace
from tests.waiting import until


@pytest.mark.parametrize("strategy", ["levels", "dataflow"])
def test_a_manual_todo_waits_until_somebody_says_that_it_is_done(place: Workplace, strategy: str) -> None:
    place.declare(
        {
            "look": {"repo": "api", "action": {"type": "manual"}},
            "other": {"repo": "api", "action": "true"},
            "after": {"repo": "web", "action": "true", "blocked_by": ["look", "other"]},
        }
    )
    sweep = place.begin("sweep", PLAN, "--strategy", strategy)
    assert sweep.stderr
    said: list[str] = []

    until(lambda: said.append(sweep.stderr.readline()) or "waits for" in said[-1], 20)
    waiting = place.coord("show-run", "last", "--json")
    done = place.coord("complete-todo", "look")
    out, err = sweep.communicate(timeout=30)

    assert "look waits for a person: coord complete-todo look" in said[-1]
    assert waiting.states == {"look": "parked", "other": "succeeded", "after": "waiting"}
    assert waiting.todo("look")["waits_for"] == "a person: coord complete-todo look"
    assert done.code == 0
    assert sweep.returncode == 0, err
    assert "3 succeeded" in out
    assert place.coord("complete-todo", "look").code == 2
