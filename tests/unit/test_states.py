"""The meaning of states for people, which no front end decides for itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from coordination.api import (
    Breaker,
    CheckVerdict,
    Expiry,
    RequestState,
    RunStatus,
    Severity,
    TodoState,
    WaitReason,
    WaveState,
)
from coordination.api.health import HealthState, Overall
from coordination.charts.gantt import COLOURS as COLOURS_OF_WAITS
from coordination.charts.svg import FILLS
from coordination.models import DependencyStatus, IssueStatus, Level, PlanStatus, TodoStatus
from coordination.states import MARKS, TONES, WAITED_FOR, Tone, mark_of, tone_of, words_of

CODE = Path(__file__).parents[2] / "coordination"
LOOKS = {*["red", "green", "yellow", "cyan", "dim", "quiet"], *MARKS.values(), *Tone}
"""Colours, marks and tones."""


@pytest.mark.parametrize(
    ("states", "noun"),
    [
        *((one, "") for one in (IssueStatus, PlanStatus, TodoStatus, DependencyStatus, Level)),
        *((one, "") for one in (RunStatus, TodoState, WaveState, CheckVerdict, Expiry)),
        *((one, "") for one in (HealthState, Overall, Severity)),
        (Breaker.model_fields["state"].annotation, "breaker "),
        (RequestState, "pull request "),
    ],
)
def test_each_state_has_a_tone(states: type[StrEnum], noun: str):
    assert [one for one in states if f"{noun}{one}" not in TONES] == []


def test_the_states_of_services_and_old_results_have_tones():
    assert {"starting", "shutting_down", "stopped", "stale"} <= TONES.keys()


def test_each_wait_says_for_what():
    assert set(WAITED_FOR) == set(WaitReason) == set(COLOURS_OF_WAITS)
    assert words_of("order") == "ready to land"
    assert words_of(WaitReason.PERSON) == "needs a person"
    assert words_of(RunStatus.ROLLING_BACK) == "rolling back"


def test_an_unknown_state_is_neutral():
    assert tone_of(None) is tone_of("of another version") is Tone.NEUTRAL
    assert mark_of("of another version") == "·"


def test_front_ends_know_all_tones():
    style = (CODE / "dashboard/static/dashboard.css").read_text()
    quiet = {Tone.NEUTRAL, Tone.GIVEN, Tone.LEFT}  # as every state without a colour of its own
    assert set(FILLS) == set(MARKS) == set(Tone)
    assert [
        tone for tone in set(Tone) - quiet if f"\n.{tone} " not in style and f"}} .{tone} " not in style
    ] == []
    assert [tone for tone in Tone if f".chart .{tone} " not in style] == []


def test_no_other_module_says_how_a_state_looks():
    files = [path for path in CODE.rglob("*.py") if path.name != "states.py"]
    assert [path for path in files if any(map(_says_looks, _tables(path)))] == []
    assert [path for path in files if re.search(r"replace\(.\_., . .\)", path.read_text())] == []
    assert [path for path in CODE.rglob("*.html") if set(TONES) & _keys(path.read_text())] == []


def _tables(path: Path) -> Iterator[ast.Dict]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Dict))


def _says_looks(table: ast.Dict) -> bool:
    return any(
        LOOKS & set(_texts(value)) and key is not None and _is_state(ast.unparse(key))
        for key, value in zip(table.keys, table.values, strict=True)
    )


def _is_state(key: str) -> bool:
    """Return whether the key of a table is the value of a state, or the member of an enumeration."""
    return key.strip("'") in TONES or ("." in key and not key.startswith("Tone."))


def _texts(value: ast.expr) -> Iterable[object]:
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _keys(template: str) -> set[str]:
    """Return the keys of tables in a template: `{'person': 'needs a person'}`."""
    return set(re.findall(r"[{,]\s*'(\w+)':", template))
