"""Several processes that complete todos in one file at once, one of them killed: every edit is in, and
nothing else.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coordination.ecosystem.document import load
from coordination.models import TodoStatus

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from coordination.ecosystem.writeback import complete_todos
writer, count = sys.argv[2], int(sys.argv[3])
for i in range(count):
    todo = f"T-{writer}-{i}"
    assert complete_todos(Path(sys.argv[1]), {todo: 0.5}, datetime.now(UTC)) == (todo,)
    print(i, flush=True)
"""

TODO = (
    "    - id: T-{w}-{i} # of writer {w}\n      task: 'Größe'\n      repo: r\n      status: pending # {i}\n"
)


def file_for(folder: Path, writers: int, todos: int) -> Path:
    path = folder / "ecosystem.yaml"
    items = "".join(TODO.format(w=w, i=i) for w in range(writers) for i in range(todos))
    path.write_text(f"# by hand\nrepos: [{{name: r}}]\ncoordination:\n  todos:\n{items}")
    return path


def writer(path: Path, number: int, todos: int, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(number), str(todos)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, **piped)  # type: ignore[call-overload,no-any-return]


def test_every_edit_of_four_writers_is_in_the_file(tmp_path: Path) -> None:
    path = file_for(tmp_path, writers=4, todos=15)

    processes = [writer(path, number, 15) for number in range(4)]
    errors = [process.communicate(timeout=100)[1] for process in processes]

    assert errors == [""] * 4
    assert all(t.status == TodoStatus.COMPLETED for t in load(path).ecosystem.coordination.todos)
    assert path.read_text().count("# of writer") == 60
    assert {p.name for p in tmp_path.iterdir()} == {"ecosystem.yaml", ".coord"}


def test_a_killed_writer_breaks_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    path = file_for(tmp_path, writers=2, todos=200)
    killed = writer(path, 0, 200)
    assert killed.stdout is not None
    said = [killed.stdout.readline() for _ in range(5)]

    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    other = writer(path, 1, 5)

    assert other.communicate(timeout=60)[1] == ""
    done = [t.id for t in load(path).ecosystem.coordination.todos if t.status == TodoStatus.COMPLETED]
    assert {f"T-0-{line.strip()}" for line in said} | {f"T-1-{i}" for i in range(5)} <= set(done)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system knows no limit on file size")
def test_a_write_that_ends_in_the_middle_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = file_for(tmp_path, writers=1, todos=100)
    before = path.read_bytes()

    def half() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

    errors = writer(path, 0, 1, preexec_fn=half).communicate(timeout=60)[1]

    assert "was not changed: File too large" in errors
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"ecosystem.yaml", ".coord"}
