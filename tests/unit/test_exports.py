"""The exports of `coordination`: these names, and none of the modules behind them before one is used."""

from __future__ import annotations

import subprocess
import sys

import coordination
from coordination import api

NAMES = """
Blocked Conflict Coord CoordinationError CoordinationManager Dependency Event GitRefused InvalidFile Issue
LockError LockLost LockTimeout NotAllowed NotFound OnFailure Plan PlanRefused Repo Run RunStatus RunView
Selectors Settings Strategy Todo TodoState
TodoView Unreachable UsageError
"""
EXPORTS = NAMES.split()


def test_these_names_are_exported_and_no_others() -> None:
    assert coordination.__all__ == EXPORTS
    assert len(EXPORTS) <= 30
    assert [getattr(coordination, name).__name__ for name in EXPORTS] == EXPORTS


def test_every_name_of_the_facade_is_where_it_is_said_to_be() -> None:
    assert [name for name in api.__all__ if getattr(api, name, None) is None] == []


def test_a_name_that_is_not_exported_is_not_there() -> None:
    assert not hasattr(coordination, "Nothing")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    asked = (
        "import sys, coordination; print([m for m in sys.modules if m.startswith(('coordination.', 'redis', "
        "'pydantic'))])"
    )

    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_records_are_listed_without_the_graph_library() -> None:
    asked = "import sys, coordination.tracker.manager; print('networkx' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
