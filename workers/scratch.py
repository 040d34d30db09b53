"""A folder for the length of one deed, in the state folder: what is made there is moved or read, and never copied over disks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.occupancy import words_for


@contextmanager
def scratch(state: Path) -> Iterator[Path]:
    """Raises WorkspaceUnusable."""
    parent = state / "tmp"
    with words_for(parent):
        parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True)
    with made as folder:
        yield Path(folder)
