"""The documentation is true: every block marked in README.md and docs/*.md is run, and prints what stands there.

A marked block stands behind the line `<!-- a test runs this -->`. Each document has a sample of its own (what `coord demo DIR`
makes) and its blocks run there from top to bottom. In a console block a line that begins with `$` is a command for sh, the lines
below it are what it prints (nothing is compared where there are none), `…` stands for what is left out, `# exit N` for another
exit code than 0, and 2026-11-21 for today. A python block must end without an error.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from coordination.cli.app import COMMANDS
from coordination.demo.create import create
from tests.stage import COORD, Stage

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"<!-- a test runs this -->\n```(\w+)\n(.*?)```", re.DOTALL)
FAMILIES = ("Read the file", "Change the file")
TODAY = "2026-11-21"
"""When the README's session was recorded."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command, or a python block; `shown` is what it prints, where that is told."""

    command: str
    shown: tuple[str, ...] = ()
    python: bool = False

    @property
    def words(self) -> tuple[str | Path, ...]:
        return (sys.executable, "-c", self.command) if self.python else ("sh", "-c", self.command)

    @property
    def code(self) -> int:
        """What `# exit N` behind the command says."""
        told = None if self.python else re.search(r"# exit (\d+)$", self.command)
        return int(told[1]) if told else 0


def steps(document: Path) -> Iterator[Step]:
    """Of the README the python blocks are left out: test_library.py runs those."""
    for language, block in BLOCK.findall(document.read_text()):
        assert language in ("console", "python"), f"{document.name}: a test runs no {language}"
        if language == "python":
            if document != README:
                yield Step(command=block, python=True)
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            yield Step(command=command, shown=tuple(line.rstrip() for line in shown if line.strip()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_prints_what_the_document_shows(stage: Stage, document: Path) -> None:
    folder = stage.folder / "meter"
    create(folder)
    path = f"{COORD.parent}:{os.environ['PATH']}"

    for step in steps(document):
        done = stage.begin(command=step.words, cwd=folder, PATH=path).done()

        assert done.code == step.code, f"{step.command}\n{done.out}{done.err}"
        if step.shown:
            said = (done.out, done.err, done.out + done.err)
            assert any(_fits(step.shown, words) for words in said), f"{step.command}\n{done.out}{done.err}"


@pytest.mark.parametrize("command", [name for family in FAMILIES for name in COMMANDS[family]])
def test_each_command_of_the_desk_has_an_example(command: str) -> None:
    assert any(step.command.startswith(f"coord {command}") for document in DOCUMENTS for step in steps(document))


def _fits(shown: tuple[str, ...], printed: str) -> bool:
    today = date.today().isoformat()
    lines = [".*" if line == "…" else re.escape(line).replace("…", ".*") for line in shown]
    pattern = r"\n".join(lines).replace(re.escape(TODAY), today)
    said = "\n".join(line.rstrip() for line in printed.splitlines() if line.strip())
    return re.fullmatch(pattern, said, re.DOTALL) is not None
