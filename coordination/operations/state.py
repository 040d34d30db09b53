"""The state folder of an ecosystem on this machine, and the users of its processes.

Each user has a file, locked while the user lives; an unlocked file belongs to a dead user. A need includes
all lower ones. The file `lasting` is the permanent user: detached processes stay until `coord down`.
All calls require the lock `fleet.lock`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from coordination.files import lock, open_lock, open_private, try_lock
from coordination.models import FILE_NAME

STATE_FOLDER = ".coord"


def state_folder(ecosystem: Path) -> Path:
    """Return the folder `.coord` next to the file, or its subfolder NAME for a file that is not named
    ecosystem.yaml: files in one folder do not share state.
    """
    folder = ecosystem.resolve().parent / STATE_FOLDER
    return folder if ecosystem.name == FILE_NAME else folder / ecosystem.name


class Need(IntEnum):
    NOTHING = 0
    SERVER = 1
    WORKER = 2
    FLOWER = 3


class Users:
    """The users recorded in a state folder; this process is at most one of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lasting = folder / "lasting"
        self._mine: tuple[Path, int] | None = None

    @property
    def mine(self) -> Need:
        """Need of this process."""
        return _need_of(self._mine[0]) if self._mine else Need.NOTHING

    def join(self, need: Need) -> None:
        """Register this process, or raise its need; the need is never lowered."""
        if self._mine is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            lock(file)
            self._mine = (path, file)
        path, file = self._mine
        os.pwrite(file, str(max(need, _need_of(path))).encode(), 0)

    def leave(self) -> Need:
        """Unregister this process; return its need."""
        need = self.mine
        if self._mine:
            path, file = self._mine
            path.unlink(missing_ok=True)
            os.close(file)
        self._mine = None
        return need

    def keep_over_exec(self) -> None:
        """Keep this process registered when it executes another program."""
        if self._mine:
            os.set_inheritable(self._mine[1], True)

    def stay(self, need: Need) -> None:
        """Record a permanent need, which stays until `forget`."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        needed = max(need, _need_of(self._lasting))
        with open_private(self._lasting) as file:
            file.write(str(needed))

    def forget(self) -> None:
        """Remove the permanent user."""
        self._lasting.unlink(missing_ok=True)

    @property
    def lasting(self) -> Need:
        """Need of the permanent user."""
        return _need_of(self._lasting)

    def needed(self) -> Need:
        """Return the highest need of all other users, living or permanent."""
        mine = self._mine[0] if self._mine else None
        others = (_need_of(path) for path in self._living() if path != mine)
        return max(others, default=Need.NOTHING)

    def _living(self) -> Iterator[Path]:
        for path in sorted(self._folder.glob("*")):
            if path == self._lasting or _locked(path):
                yield path
            else:
                path.unlink(missing_ok=True)


def _locked(path: Path) -> bool:
    file = open_lock(path, create=False)
    try:
        return not try_lock(file)
    finally:
        os.close(file)


def _need_of(path: Path) -> Need:
    try:
        return Need(int(path.read_text()))
    except (OSError, ValueError):
        return Need.NOTHING
