"""Many writers of one file, some of them killed, beside an editor that knows no lock: what was done is in the
file.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination.ecosystem.changes import Edit
from coordination.ecosystem.document import load
from coordination.ecosystem.editing import edit
from tests.testbed import FORKS

WRITER = """
import sys
from pathlib import Path
from coordination.ecosystem.editing import edit
from coordination.errors import EditConflict

path, writer, edits, patient = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "patient"

def set_or_add(number):
    def decide(edit):
        if number % 2:
            count = len(edit.document.ecosystem.coordination.todos)
            edit.add(("todos",), {"id": f"N-{count}", "task": f"{writer}/{number}", "repo": "r"})
        else:
            edit.set(("todos", f"W-{writer}"), "labels", [f"{i}" for i in range(0, number + 1, 2)])
    return decide

for number in range(edits):
    while True:
        try:
            edit(path, set_or_add(number))
            break
        except EditConflict:
            if not patient:
                raise
    print(number, flush=True)
"""


class Writer:
    """A process that adds a todo and sets a field of its own todo in turns, and says each edit when it is
    done.
    """

    def __init__(self, path: Path, name: str, edits: int, patience: str = "none") -> None:
        self.name = name
        command = [sys.executable, "-c", WRITER, str(path), name, str(edits), patience]
        self.process = FORKS.piped(command, stderr=subprocess.PIPE)

    def said(self, lines: int) -> list[int]:
        """Waits for so many edits."""
        return [int(self.process.stdout.readline()) for _ in range(lines)]

    def ended(self) -> tuple[list[int], str]:
        out, err = self.process.communicate(timeout=100)
        return [int(line) for line in out.split()], err

    def killed(self) -> list[int]:
        self.process.kill()
        return self.ended()[0]


def check(path: Path, done: dict[str, list[int]]) -> None:
    """Todos reported as done are in the file, once."""
    todos = load(path).ecosystem.coordination.todos
    assert len({todo.id for todo in todos}) == len(todos)
    tasks = Counter(todo.task for todo in todos)
    labels = {todo.id: todo.labels for todo in todos}
    for writer, numbers in done.items():
        added = [number for number in numbers if number % 2]
        assert [tasks[f"{writer}/{number}"] for number in added] == [1] * len(added)
        last = max((number for number in numbers if number % 2 == 0), default=-1)
        assert {str(i) for i in range(0, last + 1, 2)} <= set(labels[f"W-{writer}"])


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ecosystem.yaml"
    own = "".join(f"    - {{id: W-{i}, task: t, repo: r, labels: [x]}} # of {i}\n" for i in range(20))
    path.write_text(f"# by hand\nrepos: [{{name: r}}]\ncoordination:\n  todos:\n{own}")
    yield path
    assert path.read_text().count("# of ") == 20


@pytest.mark.long
def test_every_edit_of_eight_writers_is_in_the_file_and_none_waits_in_vain(path: Path) -> None:
    writers = [Writer(path, str(i), 100) for i in range(8)]

    ended = {writer.name: writer.ended() for writer in writers}

    assert [error for _, error in ended.values()] == [""] * 8
    assert all(done == list(range(100)) for done, _ in ended.values())
    assert len(load(path).ecosystem.coordination.todos) == 20 + 8 * 50
    check(path, {name: done for name, (done, _) in ended.items()})
    assert {place.name for place in path.parent.iterdir()} == {"ecosystem.yaml", ".coord"}


def test_killed_writers_and_an_editor_without_the_lock_break_nothing(path: Path) -> None:
    chance = random.Random(4)  # the machine decides where in an edit the signal arrives
    done: dict[str, list[int]] = {}
    running = [Writer(path, str(i), 1000, "patient") for i in range(4)]

    for round_ in range(4, 16):
        victim = running.pop(0)
        said = victim.said(chance.randint(1, 4))
        with path.open("a") as editor:
            editor.write(f"# an editor was here {round_}\n")
        done[victim.name] = said + victim.killed()
        check(path, done)
        running.append(Writer(path, str(round_), 1000, "patient"))
    done |= {writer.name: writer.killed() for writer in running}

    check(path, done)
    edit(path, lambda edit: edit.set(("todos", "W-19"), "status", "completed"))
    assert {place.name for place in path.parent.iterdir()} == {"ecosystem.yaml", ".coord"}


def test_what_a_killed_writer_left_is_taken_away_by_the_next_edit(path: Path) -> None:
    left = path.with_name(".ecosystem.yaml.coord-abcdefgh.tmp")
    others = path.with_name(".ecosystem.yaml.swp")
    left.write_text("half")
    others.touch()

    def task(edit: Edit) -> None:
        edit.set(("todos", "W-0"), "task", "new")

    edit(path, task)

    assert not left.exists()
    assert others.exists()
