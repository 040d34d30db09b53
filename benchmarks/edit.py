"""How long a command takes that edits or asks a file with 10,000 todos, each as a process of its own.

    python -m benchmarks.edit [TODOS] [--rounds N] [--no-ruamel]
    python -m benchmarks.edit --fidelity

The best of N rounds counts, interpreter and imports included. `first` is a query while nothing is known of
the file, `again` while its cache is there. Beside them what a script does that reads and writes the whole
file: PyYAML's `safe_load` and `safe_dump`, which lose comments and layout, and ruamel.yaml's round trip,
which keeps most of them (one run each). `ratio` is to our edit. `results` are those of a run, written back
into a file of a thousand todos in several layouts.

With `--fidelity` no time is measured: the status of one todo is changed in every file that the tests and the
documentation contain, and in files that hypothesis draws. It counts the lines that change besides the edited
one, comments that are lost and other values that change, by coord and by the round trip of ruamel.yaml, which
keeps quotes and gets the indentation of the file's first list.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from textwrap import dedent

import yaml

from benchmarks.clock import best, seconds
from benchmarks.load import ecosystem
from tests.unit.ecosystem.drawn_edits import drawn

PYYAML = """
import sys, yaml
text = open(sys.argv[1]).read()
data = yaml.safe_load(text)
data["coordination"]["todos"][0]["priority"] = "low"
open(sys.argv[2], "w").write(yaml.safe_dump(data))
"""
RUAMEL = """
import sys
from ruamel.yaml import YAML
yaml = YAML()
data = yaml.load(open(sys.argv[1]))
data["coordination"]["todos"][0]["priority"] = "low"
yaml.dump(data, open(sys.argv[2], "w"))
"""


WRITE_BACK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from coordination.ecosystem.changes import RunOutcome
from coordination.ecosystem.writeback import write_back
outcome = RunOutcome(plan="", succeeded={f"T{i}": 0.5 for i in range(int(sys.argv[2]))}, undone={})
write_back(Path(sys.argv[1]), lambda: outcome, datetime.now(UTC))
"""
RESULTS = 1000
LAYOUTS: dict[str, Callable[[object], str]] = {
    "one line": json.dumps,
    "indented": lambda data: json.dumps(data, indent=2),
    "block": lambda data: yaml.safe_dump(data, sort_keys=False),
}


class EditFolder:
    """A folder with a file of many todos, and a cache folder that nobody else uses."""

    def __init__(self, folder: Path, todos: int) -> None:
        self.file = folder / "ecosystem.yaml"
        self.cache = folder / "cache"
        self.file.write_text(ecosystem(todos))
        self._count = 0

    def run(self, *command: str | Path) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
        environ["XDG_CACHE_HOME"] = str(self.cache)
        subprocess.run(
            [sys.executable, *command], cwd=self.file.parent, env=environ, check=True, capture_output=True
        )

    def coord(self, *words: str) -> None:
        self.run("-c", "from coordination.cli import main; main()", *words)

    def ask(self) -> None:
        self.coord("list-todos", "--repo", "repo-3")

    def ask_first(self) -> None:
        for place in self.cache.glob("coord/*"):
            place.unlink()
        self.ask()

    def update(self) -> None:
        self._count += 1
        self.coord("todo", "update", "TODO-05000", "--assignee", f"somebody {self._count}")

    def write_back(self, layout: Callable[[object], str]) -> None:
        """The results of a run into a file that other programs write."""
        todos = [{"id": f"T{i}", "task": f"do {i}", "repo": "r"} for i in range(RESULTS)]
        path = self.file.with_name("written.yaml")
        path.write_text(layout({"coordination": {"todos": todos}}))
        self.run("-c", WRITE_BACK, path, str(RESULTS))

    def create(self) -> None:
        self.coord("create-todo", "--repo", "repo-3", "--task", "One more")


@contextmanager
def edit_folder(todos: int) -> Iterator[EditFolder]:
    with tempfile.TemporaryDirectory() as folder:
        yield EditFolder(Path(folder), todos)


def main(todos: int, rounds: int, with_ruamel: bool) -> None:
    with edit_folder(todos) as place:
        print(f"{todos} todos, {place.file.stat().st_size / 1e6:.1f} MB; best of {rounds}")
        bare = best(lambda: place.run("-c", "pass"), rounds)
        row("python -c pass", bare)
        row("query, first", best(place.ask_first, min(rounds, 3)))
        row("query, again", best(place.ask, rounds))
        edit = best(place.update, rounds)
        row("edit: todo update", edit)
        row("edit: create-todo", best(place.create, rounds))
        for name, layout in LAYOUTS.items():
            row(
                f"{RESULTS} results, {name}",
                best(partial(place.write_back, layout), min(rounds, 3)),
            )
        result = place.file.with_name("result.yaml")
        others: dict[str, Callable[[], None]] = {
            "PyYAML, load and dump": lambda: place.run("-c", PYYAML, place.file, result)
        }
        if with_ruamel:
            others["ruamel.yaml, load and dump"] = lambda: place.run("-c", RUAMEL, place.file, result)
        for name, deed in others.items():
            took = seconds(deed)
            row(name, took, took / edit)


ROOT = Path(__file__).parents[1]
HERE = Path("ecosystem.yaml")
DRAWN = 300
_FIRST_LIST = re.compile(r"^( *)\w+:[^\n]*\n(?:\s*(?:#[^\n]*)?\n)*( *)-( +)", re.MULTILINE)


def fidelity() -> None:
    for name, texts in (("tests and documentation", _written()), ("drawn files", drawn(DRAWN))):
        files = {text: after for text in texts if (after := _edited(text))}
        print(f"{name}: {len(files)} files with {sum(text.count(chr(10)) for text in files)} lines")
        for by, change in (("coord", _by_coord), ("ruamel.yaml", _round_trip)):
            found = Counter[str]()
            for text, after in files.items():
                found.update(_differences(text, after, change(text, after)))
            print(
                f"  {by:<12} exact: {found['exact']}, other lines: {found['lines']}, "
                f"comments lost in {found['comments']}, other values in {found['values']}, "
                f"not readable: {found['unreadable']}"
            )


def _written() -> Iterator[str]:
    """Yield the texts with todos in string constants of tests and in YAML blocks of the documentation."""
    for path in sorted(ROOT.glob("tests/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            value = node.value if isinstance(node, ast.Constant) else ""
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            if isinstance(text, str) and "todos:" in text:
                yield dedent(text).lstrip("\n")
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        yield from re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)


def _edited(text: str) -> str:
    """Return the file after an edit by coord; "" if it is invalid, has no todo, or shares values."""
    from coordination.ecosystem.changes import Edit, revise
    from coordination.ecosystem.parsing import parse
    from coordination.errors import CoordinationError

    with suppress(CoordinationError):
        draft = parse(text.encode(), HERE)
        if todos := draft.document.ecosystem.coordination.todos:
            edit = Edit(draft.document)
            edit.set(("todos", todos[0].id), "status", "cancelled")
            return revise(draft, edit.changes).document.text.decode()
    return ""


def _by_coord(_: str, after: str) -> str:
    return after


def _round_trip(text: str, _: str) -> str:
    from ruamel.yaml import YAML

    writer = YAML()
    writer.preserve_quotes, writer.width = True, 10**9
    if found := _FIRST_LIST.search(text):
        offset = len(found[2]) - len(found[1])
        writer.indent(mapping=2, sequence=offset + 1 + len(found[3]), offset=offset)
    data = writer.load(text)
    data["coordination"]["todos"][0]["status"] = "cancelled"
    out = io.StringIO(newline="")
    writer.dump(data, out)
    return out.getvalue()


def _differences(before: str, wanted: str, after: str) -> Iterator[str]:
    from coordination.ecosystem.parsing import parse
    from coordination.errors import CoordinationError

    def changed(text: str) -> int:
        old, new = before.splitlines(keepends=True), text.splitlines(keepends=True)
        steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        return sum(max(b - a, d - c) for kind, a, b, c, d in steps if kind != "equal")

    others = max(0, changed(after) - changed(wanted))
    yield from ["lines"] * others or ["exact"]
    if after.count("#") < before.count("#"):
        yield "comments"
    try:
        if parse(wanted.encode(), HERE).document.ecosystem != parse(after.encode(), HERE).document.ecosystem:
            yield "values"
    except CoordinationError:
        yield "unreadable"


def row(name: str, took: float, ratio: float | None = None) -> None:
    print(f"{name:<28} {took:6.2f} s" + (f" {ratio:6.0f} times" if ratio else ""), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edit", description=__doc__.partition("\n")[0])
    parser.add_argument("todos", nargs="?", type=int, default=10_000, metavar="TODOS")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--no-ruamel", action="store_true")
    parser.add_argument("--fidelity", action="store_true")
    options = parser.parse_args()
    if options.fidelity:
        fidelity()
        sys.exit()
    main(options.todos, options.rounds, not options.no_ruamel)
