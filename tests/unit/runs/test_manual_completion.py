"""Which run goes on when a person says that a todo is done."""

from __future__ import annotations

import pytest

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.runs.control.approvals import run_with_manual_todo
from coordination.runs.records import TodoState
from coordination.runs.views.live import TodoOfRun

WAITS = TodoOfRun(run="R1", state=TodoState.PARKED, manual=True)
ENDED = TodoOfRun(run="R2", state=TodoState.SUCCEEDED, manual=True)


def test_the_one_that_waits_goes_on() -> None:
    assert run_with_manual_todo("look", [ENDED, WAITS]) == "R1"


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        ([], NotFound, "no run waits for look"),
        ([ENDED], Conflict, "look of run R2 is succeeded: nothing waits for it"),
        (
            [TodoOfRun(run="R3", state=TodoState.WAITING, manual=True)],
            Conflict,
            "is waiting: it cannot be decided yet",
        ),
        ([TodoOfRun(run="R3", state=TodoState.PARKED, manual=False)], UsageError, "is not a manual todo"),
        (
            [WAITS, TodoOfRun(run="R4", state=TodoState.PARKED, manual=True)],
            UsageError,
            "runs R1 and R4 wait for look",
        ),
    ],
)
def test_where_none_waits_or_more_than_one_it_says_so(
    found: list[TodoOfRun], error: type[CoordinationError], words: str
) -> None:
    with pytest.raises(error) as caught:
        run_with_manual_todo("look", found)

    assert words in caught.value.message
    assert caught.value.hint
