"""Private files and folders: the state folder holds logs, records and sockets that only this user may read.

Folders have mode 0700 and files 0600, whatever the umask is. Worktrees and git repositories below it keep the
modes that git gave them; they are protected by their closed parent folders.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

FOLDER, FILE = 0o700, 0o600
OTHERS = 0o077


def make_private(folder: Path) -> None:
    """Create the folder and its missing parents with mode 0700. Raises OSError."""
    if not folder.is_dir():
        make_private(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=FOLDER)


def open_private(file: Path, mode: str = "w", **how: Any) -> IO[Any]:
    """Open a file as `open` does; a new file gets mode 0600. Raises OSError."""
    return open(file, mode, opener=lambda path, flags: os.open(path, flags, FILE), **how)


def loose(state: Path) -> Iterator[Path]:
    """Yield the paths at and below `state` that other users may enter, read or write, without git's."""
    with suppress(OSError):  # it was removed meanwhile, or belongs to another user
        found = state.lstat()
        if found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
            return
        if stat.S_ISDIR(found.st_mode) and _is_of_git(state):
            return
        if found.st_mode & OTHERS:
            yield state
        if stat.S_ISDIR(found.st_mode):
            for path in sorted(state.iterdir()):
                yield from loose(path)


def close_to_others(state: Path) -> list[Path]:
    """Remove the access of other users; return the changed paths. `coord doctor` reports those that cannot be
    changed.
    """
    mended = []
    for path in loose(state):
        with suppress(OSError):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
            mended.append(path)
    return mended


def _is_of_git(folder: Path) -> bool:
    return (folder / ".git").exists() or (folder / "HEAD").exists()
