"""The short form of the sweep of failpoints: `python -m tests.chaos.failpoints --short`, with a seed of its
own each time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed import plain

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_a_handful_of_processes_fail_at_some_point_and_nothing_is_lost_done_twice_or_too_early():
    done = subprocess.run(  # a process of its own: it forks, and may have no threads
        [sys.executable, "-m", "tests.chaos.failpoints", "--short"],
        cwd=ROOT, env=plain(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "6 of 6 faults struck" in done.stdout
    print(done.stdout.splitlines()[-1])  # noqa: T201 (the seed)
