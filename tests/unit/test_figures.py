"""The benchmarks of speed run and report. What they measure is no matter of tests: times are of one machine
at one hour.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import Report
from tests.testbed import FORKS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rows(tmp_path: Path):
    with (tmp_path / "table").open("w") as table:
        yield Report("nothing", table)


def test_a_figure_has_reached_its_goal_by_its_value_and_without_one_never(rows: Report):
    rows.add("fast", 0.7, at_least=0.7)
    rows.add("slow", 0.69, at_least=0.7)
    rows.add("short", 5, "ms", at_most=4)
    rows.add("not installed", None, at_least=0.7, beside="the reason")
    rows.add("beside them", 3, "tasks/s")

    assert [figure.reached for figure in rows.figures] == [True, False, False, False, None]
    assert "NOT REACHED" in rows.figures[3].row
    assert "the reason" in rows.figures[3].row


def test_a_benchmark_prints_a_table_and_writes_its_figures_with_machine_and_command():
    words = [sys.executable, "-m", "benchmarks.makespan", "--short", "--no-runs", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)

    assert told["machine"]["cpus"]
    assert told["machine"]["versions"]["celery"]
    assert told["command"][1:] == ["-m", "benchmarks.makespan", "--short", "--no-runs", "--json"]
    goals = {figure["name"]: figure["reached"] for figure in told["figures"] if figure["goal"]}
    assert len(goals) == 3
    assert all(name in done.stderr for name in goals)


def test_every_benchmark_can_be_imported():
    names = [f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("[a-z]*.py")]
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    done = FORKS.run([sys.executable, "-c", code, *names], cwd=ROOT, env=os.environ, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
