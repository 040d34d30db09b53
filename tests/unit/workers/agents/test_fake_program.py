"""The fake program works through its script, and its output counts as that of the real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from coordination.models import AgentKind
from tests.agents import fake_program
from tests.agents.rounds import Round, preset, read
from tests.testbed import git
from workers.agents.judge import RoundEnd
from workers.agents.program import Start
from workers.agents.programs import PROGRAMS


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def started(kind: AgentKind, checkout: Path, session: str = "") -> Round:
    told = PROGRAMS[kind].invocation(preset(kind), Start(prompt="Do it", session=session))
    path = f"{checkout.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    question = str(checkout.parent / "question")
    ended = subprocess.run(
        told.argv,
        input=told.stdin,
        cwd=checkout,
        env={**os.environ, "PATH": path, "COORD_QUESTION": question},
        stdout=subprocess.PIPE,
        check=False,
    )
    return read(kind, [ended.stdout], exit_code=ended.returncode)


def test_each_start_has_its_steps(checkout: Path):
    script = checkout.parent / "script.json"
    edit = [["write", "a/b.txt", "one"], ["commit", "Add b"], ["play", "codex-edit"]]
    refused = [["ask", "which?"], ["play", "codex-rate"], ["exit", 1]]
    fake_program.install(checkout.parent / "bin", "codex", script, edit, refused)

    kinds = [started(AgentKind.CODEX, checkout).judgement.kind for _ in range(3)]

    assert kinds == [RoundEnd.DONE, RoundEnd.LIMITED, RoundEnd.LIMITED]
    assert git(checkout, "show", "HEAD:a/b.txt") == "one"
    assert (checkout.parent / "question").read_text() == "which?"
    assert [one["stdin"] for one in fake_program.starts(script)] == ["Do it"] * 3


def test_a_flood_is_dropped_and_what_follows_counts(checkout: Path):
    steps = [["flood", 20_000_000], ["print", ""], ["play", "claude-edit"]]
    fake_program.install(checkout.parent / "bin", "claude", checkout.parent / "script.json", steps)

    done = started(AgentKind.CLAUDE, checkout)

    assert done.judgement.kind is RoundEnd.DONE
    assert done.transcript[0] == "a line of more than 8 MiB was dropped"
