"""The state folder is this user's alone: logs, records and sockets tell what todos do, and with which values.

Folders have mode 0700 and files 0600, whatever the umask is. Left alone is what git makes, worktrees and the repositories of carried
commits: their modes are their repository's, and they lie in closed folders.
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
    """Make the folder, and those above it that are missing. Raises OSError."""
    if not folder.is_dir():
        make_private(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=FOLDER)


def open_private(file: Path, mode: str = "w", **how: Any) -> IO[Any]:
    """As `open`; a file that is made for it is private. Raises OSError."""
    return open(file, mode, opener=lambda path, flags: os.open(path, flags, FILE), **how)


def loose(state: Path) -> Iterator[Path]:
    """What other users may enter, read or write: the folder itself, and what is ours in it."""
    with suppress(OSError):  # it went meanwhile, or is not ours to look into
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
    """Mend what is loose; returns what was. What cannot be changed is left for `coord doctor` to tell of."""
    mended = []
    for path in loose(state):
        with suppress(OSError):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
            mended.append(path)
    return mended


def _is_of_git(folder: Path) -> bool:
    return (folder / ".git").exists() or (folder / "HEAD").exists()
