"""The raw records of agents, which a worker keeps on its own host: JSON lines, for each attempt of a todo.

<state>/logs/<run>/<todo>.<attempt>.jsonl     secrets are masked
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from coordination.files import below, open_own


def file_of(state: Path, run: str, todo: str, attempt: int) -> Path:
    """Return the file with the records of an attempt."""
    return below(state, "logs", run, f"{todo}.{attempt}.jsonl")


def files_of(state: Path, run: str, todo: str) -> list[Path]:
    """Return the files of a todo that are on this host, in the order of its attempts."""
    folder, name = below(state, "logs", run), re.compile(re.escape(todo) + r"\.(\d{1,9})\.jsonl", re.ASCII)
    attempts = [int(found[1]) for path in _entries(folder) if (found := name.fullmatch(path.name))]
    return [file_of(state, run, todo, attempt) for attempt in sorted(attempts)]


def lines_of(file: Path) -> Iterator[str]:
    """Yield the records of a file, each with the end of its line. Raises OSError."""
    with os.fdopen(open_own(file, os.O_RDONLY), encoding="utf-8", errors="replace", newline="\n") as lines:
        yield from lines


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
