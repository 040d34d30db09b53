"""Story: `coord doctor` tells whether the agents of the settings can work on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import Testbed

NO_KEYS = dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"), "")


class Machine:
    """A machine with a home folder and a folder of programs."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.home, self.bin = testbed.folder / "home", testbed.folder / "programs" / "bin"
        self.home.mkdir()
        self.bin.mkdir(parents=True)
        testbed.settings = {"agents": [{"name": "smart", "kind": "claude"}], "sandbox": "off"}

    def program(self, text: str, name: str = "claude") -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def doctor(self, *words: str, **env: str) -> Any:
        self.testbed.write()
        search = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return self.testbed.coord(
            "doctor", *words, **{**NO_KEYS, "HOME": str(self.home), "PATH": search, **env}
        )

    def found(self, **env: str) -> tuple[dict[str, Any], list[str]]:
        """The agent, and what is said of it."""
        answer = self.doctor("--json", **env).json
        said = [one["what"] for one in answer["findings"] if one["what"].startswith("agent ")]
        (agent,) = answer["machine"]["agents"]
        return agent, said


@pytest.fixture
def machine(testbed: Testbed) -> Machine:
    return Machine(testbed)


def test_a_tested_program_with_a_key_of_its_own_is_fine(machine: Machine):
    machine.program("echo '2.1.197 (Claude Code)'")

    agent, said = machine.found(ANTHROPIC_API_KEY="x")

    assert said == []
    assert (agent["version"], agent["login"]) == ("2.1.197", "ANTHROPIC_API_KEY")
    table = machine.doctor(ANTHROPIC_API_KEY="x").out
    assert [word for word in ("AGENT", "smart", "2.1.197", "ANTHROPIC_API_KEY") if word not in table] == []


def test_what_is_missing_is_said_with_the_next_step(machine: Machine):
    absent, said = machine.found()
    assert absent["path"] == ""
    assert said == ["agent smart: its program 'claude' is not in PATH on this machine"]

    machine.program("echo 1.0.3")
    _, (untested, login) = machine.found()
    assert "1.0.3 is outside of the versions that were tested" in untested
    assert "no login of claude" in login
    assert "set ANTHROPIC_API_KEY" in machine.doctor().out


def test_a_login_of_a_person_is_a_warning_also_beside_a_key(machine: Machine):
    machine.program("echo 2.1.197")
    (machine.home / ".claude").mkdir()
    (machine.home / ".claude" / ".credentials.json").write_text("{}")

    for key in ("", "x"):
        agent, said = machine.found(ANTHROPIC_API_KEY=key)
        assert agent["login"] == ("ANTHROPIC_API_KEY" if key else "~/.claude/.credentials.json")
        assert [one for one in said if "a person's own login" in one]
    assert "use a key of its own" in machine.doctor().out


@pytest.mark.parametrize(
    ("text", "version", "why"),
    [
        ("yes 2.1.197", "2.1.197", ""),
        ("sleep 600 & sleep 600", "", "no answer within 5 s"),
        ("echo unknown", "", "it tells none"),
        ("exit 3", "", "it tells none"),
        ("echo 9.9.9.9.9; sleep 600", "9.9.9.9.9", ""),
        ("printf '\\377\\376 2.1.0'", "2.1.0", ""),
    ],
)
def test_a_program_that_answers_oddly_ends_and_is_not_waited_for(
    machine: Machine, text: str, version: str, why: str
):
    machine.program(text)

    agent, _ = machine.found(ANTHROPIC_API_KEY="x")

    assert (agent["version"], agent["why_no_version"]) == (version, why)


def test_no_program_of_the_files_choice_is_executed(machine: Machine):
    ran = machine.testbed.folder / "ran"
    path = machine.program(f"touch {ran}; echo 2.1.0", "evil")
    for command in ([str(path)], ["evil"], "X=1 evil --print"):
        machine.testbed.settings = {"agents": [{"name": "smart", "kind": "claude", "command": command}]}
        agent, _ = machine.found(ANTHROPIC_API_KEY="x")
        assert agent["why_no_version"] == "not asked: it has another name"
    assert not ran.exists()


def test_a_program_that_no_sandbox_shows_is_named(machine: Machine):
    package = machine.program("echo 2.1.197").rename(machine.home / "claude")
    (machine.bin / "claude").symlink_to(package)

    agent, said = machine.found(ANTHROPIC_API_KEY="x")

    assert agent["hidden"] == str(machine.home)
    assert said == [f"agent smart: a sandbox does not show {machine.home}, where its program lies"]
