"""Which run goes on when a person says that a todo is done."""

from __future__ import annotations

import pytest

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.runs.control.approvals import run_with_manual_todo
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.views.todos_in_runs import DecidableTodo


def a_todo(run_id: str, state: TodoState, *, manual: bool = True) -> DecidableTodo:
    return DecidableTodo(run_id=run_id, run_status=RunStatus.RUNNING, state=state, manual=manual)


WAITS = a_todo("R1", TodoState.PARKED)
ENDED = a_todo("R2", TodoState.SUCCEEDED)


def test_the_one_that_waits_goes_on() -> None:
    assert run_with_manual_todo("look", [ENDED, WAITS]) == "R1"


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        ([], NotFound, "no run waits for look"),
        ([ENDED], Conflict, "look of run R2 is succeeded: nothing waits for it"),
        (
            [a_todo("R3", TodoState.WAITING)],
            Conflict,
            "is waiting: it cannot be decided yet",
        ),
        ([a_todo("R3", TodoState.PARKED, manual=False)], UsageError, "is not a manual todo"),
        (
            [WAITS, a_todo("R4", TodoState.PARKED)],
            UsageError,
            "runs R1 and R4 wait for look",
        ),
    ],
)
def test_where_none_waits_or_more_than_one_it_says_so(
    found: list[DecidableTodo], error: type[CoordinationError], words: str
) -> None:
    with pytest.raises(error) as caught:
        run_with_manual_todo("look", found)

    assert words in caught.value.message
    assert caught.value.hint
