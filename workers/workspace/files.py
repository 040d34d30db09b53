"""Remove folders of coord, whatever permissions a todo left on them; make temporary ones in the state."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordination.files import make_private
from coordination.processes import start_time
from workers.process.trouble import describe_os_error


def remove_tree(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except PermissionError:  # folders without write permission, as in Go's module cache
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o700)
        shutil.rmtree(path)


@contextmanager
def scratch(state: Path) -> Iterator[Path]:
    """Make a temporary folder for the block. Raises WorkspaceUnusable."""
    parent = state / "tmp"
    with describe_os_error(parent):
        make_private(parent)
        made = tempfile.TemporaryDirectory(dir=parent, prefix=f"{os.getpid()}-", ignore_cleanup_errors=True)
    with made as folder:
        yield Path(folder)


def clear_scratch(state: Path) -> None:
    """Remove temporary folders of workers that were killed: a todo may have written secrets into them."""
    for folder in (state / "tmp").glob("*-*"):
        pid = folder.name.partition("-")[0]
        if pid.isdigit() and start_time(int(pid)) is None:
            shutil.rmtree(folder, ignore_errors=True)
