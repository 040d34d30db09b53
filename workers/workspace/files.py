"""Remove folders of coord, whatever a todo left in them; make temporary ones; read files of todos."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from coordination.files import make_private
from coordination.processes import start_time
from workers.process.trouble import describe_os_error

TOO_HARD = (errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM)
"""Errors of folders that are deeper than the number of open files allows, or that their owner may not write
or even list, as in Go's module cache.
"""


WORKSPACE_FOLDERS = ("worktrees", "checks", "workspaces", "carried")
"""Folders of a state folder with a folder for each run."""


def has_workspaces(state: Path) -> bool:
    """Return whether runs have left something in these folders."""
    return any(folder.is_dir() and any(folder.iterdir()) for folder in map(state.joinpath, WORKSPACE_FOLDERS))


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder, whatever a todo has made of it; nothing if it is missing. Raises
    OSError.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except RecursionError:
        _remove_by_force(path)
    except OSError as error:
        if error.errno not in TOO_HARD:
            raise
        _remove_by_force(path)


def _remove_by_force(path: Path) -> None:
    """Remove a tree of any depth, and with any rights. Both programs follow no link within it."""
    for command in (("chmod", "-R", "u+rwx"), ("rm", "-rf")):
        subprocess.run(
            [*command, "--", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    if os.path.lexists(path):
        raise OSError(errno.ENOTEMPTY, "the folder cannot be removed", str(path))


def open_below(root: Path, names: Sequence[str]) -> int:
    """Open a folder below `root`, and follow no link on the way. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(root, flags)
    for name in names:
        try:
            inner = os.open(name, flags, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def remove_below(root: Path, name: str) -> None:
    """Remove a file or a link below a folder that a todo could write; nothing if it is missing, a folder, or
    behind a link.
    """
    *folders, last = name.split("/")
    with suppress(OSError):
        folder = open_below(root, folders)
        try:
            os.unlink(last, dir_fd=folder)
        finally:
            os.close(folder)


def read_regular(root: Path, name: str, limit: int) -> bytes | None:
    """Return the content of a regular file below a folder that a todo could write. None if there is none, if
    a link leads to it, or if it has more than `limit` bytes. Waits for no pipe and no device.
    """
    *folders, last = name.split("/")
    try:
        folder = open_below(root, folders)
    except OSError:
        return None
    try:
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        with os.fdopen(file, "rb", closefd=False) as opened:
            content = opened.read(found.st_size + 1)  # a read of `limit` would allocate that much
    finally:
        os.close(file)
    return content if len(content) <= found.st_size else None


@contextmanager
def scratch(state: Path) -> Iterator[Path]:
    """Make a temporary folder for the block. Raises WorkspaceUnusable."""
    parent = state / "tmp"
    with describe_os_error(parent):
        make_private(parent)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{os.getpid()}-"))
    try:
        yield folder
    finally:
        with suppress(OSError):
            remove_tree(folder)


def clear_scratch(state: Path) -> None:
    """Remove temporary folders of workers that were killed: a todo may have written secrets into them."""
    for folder in (state / "tmp").glob("*-*"):
        pid = folder.name.partition("-")[0]
        if pid.isdigit() and start_time(int(pid)) is None:
            with suppress(OSError):
                remove_tree(folder)
