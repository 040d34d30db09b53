"""The documents of the repository, their fenced blocks and links, and how a block is executed.

Blocks marked `console` and `python` are executed from top to bottom, each document in a folder of its own:
that of a fresh `coord demo`, or an empty one for a document with `<!-- start: empty folder -->`. In a console
block a line that begins with `$` is a command for sh, and the lines below it are its output (nothing is
compared where there are none). `…` stands for any text, alone on a line for any lines, `# exit N` for another
exit code than 0, and 2026-11-21 for today. The id of a run stands for the id that is printed in its place,
also in later commands. `$ cd DIR` moves all later blocks.

`<!-- file: NAME -->` above a block writes it to that file. `<!-- not-run: REASON -->` leaves a block out.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from coordination.demo.create import create
from tests.testbed import COORD, FORKS, Done, Testbed

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CHAPTERS = tuple(sorted((ROOT / "docs").glob("*.md")))
DOCUMENTS = (README, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")), *CHAPTERS)
TODAY = "2026-11-21"
EMPTY = "<!-- start: empty folder -->"
DIRECTIVE = re.compile(r"<!-- (not-run|file): (.+) -->")
RUN_ID = r"\d{8}-\d{6}-[a-z0-9]{4}"
SHELL_SYNTAX = re.compile(r"[|&;<>()$`*?\\\n]")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; `file` and `not_run` are what the directives above it name."""

    document: Path
    line: int
    language: str
    text: str
    file: str = ""
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command of a console block, and what it prints where the document shows that."""

    command: str
    shown: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        named = re.search(r"# exit (\d+)$", self.command)
        return int(named[1]) if named else 0


def blocks(document: Path) -> Iterator[Block]:
    lines = document.read_text().splitlines()
    begin, language, said = 0, "", {}
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            if not begin:
                found = DIRECTIVE.fullmatch(line)
                said = {found[1]: found[2]} if found else {}
        elif not begin:
            begin, language = number, line.removeprefix("```")
        else:
            text = "\n".join(lines[begin : number - 1]) + "\n"
            yield Block(
                document=document,
                line=begin,
                language=language,
                text=text,
                file=said.get("file", ""),
                not_run=said.get("not-run", ""),
            )
            begin, said = 0, {}


def prose(document: Path) -> str:
    """Return the text without fenced blocks, code spans and comments."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|<!--.*?-->", "`", text, flags=re.DOTALL)


def steps(block: Block) -> Iterator[Step]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        while command.endswith("\\"):
            command = f"{command[:-1].rstrip()} {shown.pop(0).lstrip('> ')}"
        yield Step(command=command, shown=tuple(line.rstrip() for line in shown if line.strip()))


@cache
def _demo() -> Path:
    """Return the folder of a fresh `coord demo`, to be copied."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return create(folder / "demo").parent


class Reader:
    """Does what a document says, in a folder of its own."""

    def __init__(self, testbed: Testbed, document: Path) -> None:
        self.testbed = testbed
        testbed.env = {**testbed.env, "XDG_CONFIG_HOME": str(testbed.folder / "config")}
        self.folder = testbed.folder / "work"
        self.run_ids: dict[str, str] = {}
        """The id that the document shows, and the one that was printed."""
        if EMPTY in document.read_text():
            self.folder.mkdir()
        else:
            shutil.copytree(_demo(), self.folder)
            if re.search(r"coord (sweep|exec|qa|land|up)\b|\.sweep\(|\.submit\(", document.read_text()):
                up = ("up", "--detach", "--no-flower", "--no-dashboard")
                self.testbed.coord(*up, cwd=self.folder, COORD_JOBS="3")  # as in docs/scheduling.md

    def follow(self, block: Block) -> None:
        """Write, execute or pass over a block; raises AssertionError where the program does
        something else.
        """
        if block.not_run:
            return
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            done = self.testbed.python(block.text, cwd=self.folder, COORD_JOBS="")
            assert done.code == 0, f"{block}\n{done.out}{done.err}"
        elif block.language == "console":
            for step in steps(block):
                self.take(block, step)

    def take(self, block: Block, step: Step) -> None:
        if step.command.startswith("cd "):
            self.folder = (self.folder / step.command.removeprefix("cd ")).resolve()
            assert self.folder.is_dir(), f"{block}: {step.command}"
            return
        done = self.done(step)
        assert done.code == step.exit_code, f"{block}: {step.command}\n{done.out}{done.err}"
        if step.shown:
            said = (done.out, done.err, done.out + done.err, done.err + done.out)
            fitting = next(
                (found for text in said if (found := fits(step.shown, text, self.run_ids)) is not None), None
            )
            assert fitting is not None, f"{block}: {step.command}\n{done.out}{done.err}"
            self.run_ids |= fitting

    def done(self, step: Step) -> Done:
        command = re.sub(r"\s+# exit \d+$", "", step.command)
        command = re.sub(RUN_ID, lambda shown: self.run_ids.get(shown[0], shown[0]), command)
        if command.startswith("coord ") and not SHELL_SYNTAX.search(re.sub(r"'[^']*'", "", command)):
            return self.coord(*shlex.split(command, comments=True)[1:])
        return self.execute("sh", "-c", command)

    def coord(self, *words: str) -> Done:
        return self.testbed.coord(*words, cwd=self.folder, COORD_JOBS="")

    def execute(self, *words: str) -> Done:
        return self.testbed.begin(command=words, cwd=self.folder, COORD_JOBS="").done()

    def close(self) -> None:
        for state in self.testbed.folder.rglob(".coord"):
            if (state.parent / "ecosystem.yaml").exists():
                self.testbed.coord("down", cwd=state.parent)


def search_path() -> str:
    """Where `coord`, as a fork, and its Python come first."""
    return f"{FORKS.programs}:{COORD.parent}:{os.environ['PATH']}"


def fits(shown: tuple[str, ...], printed: str, run_ids: Mapping[str, str]) -> dict[str, str] | None:
    """Compare lines of a document with an output; return the ids of runs that the output has, None if it
    differs.
    """
    names: dict[str, str] = {}

    def pattern(token: str) -> str:
        if token == "…":
            return ".*"
        if token == TODAY:
            return date.today().isoformat()
        if not re.fullmatch(RUN_ID, token):
            return re.escape(token)
        if token in run_ids:
            return run_ids[token]
        if token in names:
            return f"(?P={names[token]})"
        names[token] = f"run{len(names)}"
        return f"(?P<{names[token]}>{RUN_ID})"

    lines = ("".join(map(pattern, re.split(f"({RUN_ID}|{TODAY}|…)", line))) for line in shown)
    wanted = "".join("(?:.*\n)?" if line == ".*" else f"{line}\n" for line in lines)
    said = "".join(f"{line.rstrip()}\n" for line in printed.splitlines() if line.strip())
    found = re.fullmatch(wanted, said, re.DOTALL)
    return {token: found[name] for token, name in names.items()} if found else None


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings of a document, as forges make them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(next(name for n in range(1000) if (name := f"{slug}-{n}" if n else slug) not in found))
    return found


def links(document: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(document))
