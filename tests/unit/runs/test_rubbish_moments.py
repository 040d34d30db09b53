"""A moment in the records of a run that no calendar has."""

from __future__ import annotations

import pytest

from coordination.errors import Unreadable
from coordination.runs.views.run_view import readable
from coordination.runs.views.todo_view import iso


@pytest.mark.parametrize("moment", ["9" * 20, "9" * 400, "-" + "9" * 20, "9" * 15, "soon"])
def test_a_moment_that_cannot_be_told_is_damage_of_that_run(moment: str):
    with pytest.raises(Unreadable), readable("r"):
        iso(moment)
