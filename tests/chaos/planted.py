"""Planted bugs: a copy of the project with one of bugs.py at a time, whose tests must not pass any more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.bugs import BUGS, Bug
from tests.chaos.figures import Figures

FAULT = "planted bugs"
DOES = f"{len(BUGS)} small changes for the worse in a copy of the code, one at a time"

ROOT = Path(__file__).parents[2]
PARTS = (
    "coordination", "workers", "tests", "benchmarks", "docs", "pyproject.toml", "LICENSE", "README.md",
    "ecosystem.yaml",
)  # fmt: skip
AT_ONCE = 2
TESTS_FAILED = 1
"""pytest's exit code; others say that it could not test at all."""


def main(_minutes: float) -> Figures:
    wrong = survivors(BUGS)
    return Figures(measured=f"{len(BUGS) - len(wrong)} of {len(BUGS)} caught by a test", wrong=wrong)


def survivors(bugs: Iterable[Bug]) -> list[str]:
    """Those that no test notices, in words."""
    with ThreadPoolExecutor(AT_ONCE) as hands:
        return [words for words in hands.map(_verdict, bugs) if words]


def _verdict(bug: Bug) -> str:
    if out_of_step := misplaced(bug):
        return out_of_step
    with tempfile.TemporaryDirectory(prefix="coord-bug-") as folder:
        done = _tested(bug, _planted(bug, Path(folder)))
    if done.returncode == TESTS_FAILED:
        return ""
    last = done.stdout.strip().splitlines()[-3:]
    return f"{bug.name}: not noticed (pytest ended with {done.returncode}: {' / '.join(last)})"


def misplaced(bug: Bug) -> str:
    """Why the bug cannot be planted, for the code or its tests have changed; empty if it can."""
    if gone := [test for test in bug.tests if not (ROOT / test.partition("::")[0]).exists()]:
        return f"{bug.name}: there is no {gone[0]}"
    found = (ROOT / bug.file).read_text().count(bug.right)
    return "" if found == 1 else f"{bug.name}: what it changes stands {found} times in {bug.file}"


def _planted(bug: Bug, folder: Path) -> Path:
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    file = folder / bug.file
    file.write_text(file.read_text().replace(bug.right, bug.wrong))
    return folder


def _tested(bug: Bug, folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout=120"]
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *words, *bug.tests], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
