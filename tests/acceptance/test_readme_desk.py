"""The desk's chapter of the README: every command in it is run in the sample, and prints what stands there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from coordination.cli.app import COMMANDS
from coordination.sample.create import create
from tests.stage import Stage

README = Path(__file__).parents[2] / "README.md"
SESSION = re.compile(r"<!-- a test runs this -->\n```console\n(.*?)```", re.DOTALL)
FAMILIES = ("Look at the file", "Change the file")
TODAY = "2026-11-21"
"""When the README's session was recorded."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A line that begins with `$`; `shown` are the lines after it, where `…` stands for what is left out."""

    command: str
    shown: tuple[str, ...]

    @property
    def code(self) -> int:
        """What `# exit N` behind the command says."""
        told = re.search(r"# exit (\d+)$", self.command)
        return int(told[1]) if told else 0


def steps() -> Iterator[Step]:
    for session in SESSION.findall(README.read_text()):
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            yield Step(command=command, shown=tuple(line.rstrip() for line in shown if line.strip()))


def test_every_command_prints_what_the_readme_shows(stage: Stage) -> None:
    folder = stage.folder / "meter"
    create(folder)

    for step in steps():
        (coord, *words) = shlex.split(step.command, comments=True)
        assert coord == "coord", step.command
        done = stage.coord(*words, cwd=folder)

        assert done.code == step.code, f"{step.command}\n{done.out}{done.err}"
        if step.shown:
            said = (done.out, done.err, done.out + done.err)
            assert any(_fits(step.shown, words) for words in said), f"{step.command}\n{done.out}{done.err}"


@pytest.mark.parametrize("command", [name for family in FAMILIES for name in COMMANDS[family]])
def test_each_command_of_the_desk_has_an_example(command: str) -> None:
    assert any(step.command.startswith(f"coord {command}") for step in steps())


def _fits(shown: tuple[str, ...], printed: str) -> bool:
    today = date.today().isoformat()
    lines = [".*" if line == "…" else re.escape(line).replace("…", ".*") for line in shown]
    pattern = r"\n".join(lines).replace(re.escape(TODAY), today)
    said = "\n".join(line.rstrip() for line in printed.splitlines() if line.strip())
    return re.fullmatch(pattern, said, re.DOTALL) is not None
