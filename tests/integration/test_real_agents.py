"""The real programs of agents from `make agent-tools` are those that the adapters were tested with."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from coordination.agent_programs import LOGIN_VARIABLES, PROGRAM_FACTS
from coordination.models import AgentKind
from tests.agents.rounds import preset, read
from tests.agents.tools import INSTALLED
from workers.agents.judge import RoundEnd
from workers.agents.program import Start
from workers.agents.programs import PROGRAMS

pytestmark = pytest.mark.long
LOST = "0b64f2a5-6f0e-4b8e-9c53-5d1f2a6f1a11"


def program_of(kind: AgentKind) -> str:
    found = INSTALLED[kind]
    if found is None:
        pytest.skip(f"{kind} is not installed: make agent-tools")
    return found


def variables(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in LOGIN_VARIABLES}
    return {**kept, "HOME": str(home)}


@pytest.mark.parametrize("kind", INSTALLED)
def test_the_installed_version_is_in_the_range_that_was_tested(kind: AgentKind, tmp_path: Path):
    command = [program_of(kind), "--version"]
    printed = subprocess.run(command, env=variables(tmp_path), capture_output=True, text=True, check=True)

    found = re.search(r"\d+\.\d+\.\d+", printed.stdout)

    assert found is not None
    assert found[0] in SpecifierSet(PROGRAM_FACTS[kind].tested)


# the others look for a login first, or wait without end
@pytest.mark.parametrize("kind", [AgentKind.CLAUDE, AgentKind.CODEX])
def test_a_session_that_does_not_exist_is_lost(kind: AgentKind, tmp_path: Path):
    agent, program = preset(kind, command=[program_of(kind)]), PROGRAMS[kind]
    told = program.invocation(agent, Start(prompt="Do it", session=LOST))
    env = {
        **variables(tmp_path),
        **program.environment(agent, confined=True),
        PROGRAM_FACTS[kind].login[0]: "no-key",
    }
    subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)

    ended = subprocess.run(
        told.argv,
        input=told.stdin,
        cwd=tmp_path / "repo",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=120,
    )

    assert read(kind, [ended.stdout], exit_code=ended.returncode).judgement.kind is RoundEnd.LOST
