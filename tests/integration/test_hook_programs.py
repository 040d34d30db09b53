"""Programs with which people set up git hooks: they work in the commits of todos and touch nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.attempts import SCRATCH, Bench
from tests.forge.tools import NODE, NODE_PROGRAMS, PRE_COMMIT
from tests.testbed import git
from workers.outcome import OutcomeKind

pytestmark = pytest.mark.long
HAS_HUSKY = NODE is not None and all((NODE_PROGRAMS / name).exists() for name in ("husky", "lint-staged"))
UPPER = "import sys; [open(f, 'r+').write(open(f).read().upper()) for f in sys.argv[1:]]"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    made = Bench(tmp_path)
    made.make_repository()
    (made.checkout / "upper.py").write_text(f"{UPPER}\n")
    (made.checkout / "scratch.sh").write_text(f"{SCRATCH}\n")
    return made


def is_formatted(bench: Bench) -> bool:
    """Return whether one todo's commit has its file as the hook formats it, and the checkout is as it was."""
    git(bench.checkout, "add", "--all")
    git(bench.checkout, "commit", "-q", "--no-verify", "-m", "hooks")
    before = (bench.checkout / ".git" / "config").read_text()
    done = bench.attempt("echo text > new.txt; echo two >> code", prepare=bench_prepare(bench))
    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert (bench.checkout / ".git" / "config").read_text() == before
    assert git(bench.checkout, "rev-list", "--count", f"main..{done.tip}") == "1"
    files = git(bench.checkout, "diff-tree", "-r", "--name-only", "main", done.tip).split()
    return (git(bench.checkout, "show", f"{done.tip}:new.txt"), files) == ("TEXT", ["code", "new.txt"])


def bench_prepare(bench: Bench) -> str | None:
    return "husky" if (bench.checkout / ".husky").exists() else None


@pytest.mark.skipif(PRE_COMMIT is None, reason="pre-commit is not installed: make forge-tools")
def test_pre_commit_formats_the_files_of_a_todo(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    assert PRE_COMMIT is not None
    monkeypatch.setenv("PATH", f"{Path(PRE_COMMIT).parent}{os.pathsep}{os.environ['PATH']}")
    hooks = [
        {"id": "upper", "entry": "python3 upper.py", "files": r"\.txt$"},
        {"id": "scratch", "entry": "sh scratch.sh", "pass_filenames": False, "always_run": True},
    ]
    hooks = [{**hook, "name": hook["id"], "language": "system"} for hook in hooks]
    config = {"repos": [{"repo": "local", "hooks": hooks}]}
    (bench.checkout / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    subprocess.run([PRE_COMMIT, "install"], cwd=bench.checkout, check=True, capture_output=True)

    assert is_formatted(bench)


@pytest.mark.skipif(not HAS_HUSKY, reason="husky and lint-staged are not installed: make forge-tools")
def test_husky_and_lint_staged_format_the_files_of_a_todo(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    assert NODE is not None
    folders = (str(NODE_PROGRAMS), str(NODE.parent), os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    package = {"name": "p", "lint-staged": {"*.txt": "python3 upper.py"}}
    (bench.checkout / "package.json").write_text(json.dumps(package))
    subprocess.run(["husky"], cwd=bench.checkout, check=True, capture_output=True)
    (bench.checkout / ".husky" / "pre-commit").write_text("lint-staged\nsh scratch.sh\n")

    assert is_formatted(bench)
