"""Who uses what runs here: one file per user, locked for as long as the user lives; a file nobody locks is a dead user's.

What a user needs includes all that is below it. `lasting` is the user that never dies: what was detached stays until
`coord down`. Call everything here under the fleet's lock.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from coordination.files import lock, open_lock, open_private, try_lock


class Need(IntEnum):
    NOTHING = 0
    SERVER = 1
    WORKER = 2
    FLOWER = 3


class Users:
    """The users of one state folder, with this process as at most one of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lasting = folder / "lasting"
        self._mine: tuple[Path, int] | None = None

    @property
    def mine(self) -> Need:
        """What this process needs."""
        return _need_of(self._mine[0]) if self._mine else Need.NOTHING

    def join(self, need: Need) -> None:
        """Count this process; a second call raises what it needs, and never lowers it."""
        if self._mine is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            lock(file)
            self._mine = (path, file)
        path, file = self._mine
        os.pwrite(file, str(max(need, _need_of(path))).encode(), 0)

    def leave(self) -> Need:
        """Count this process no more; returns what it needed."""
        need = self.mine
        if self._mine:
            path, file = self._mine
            path.unlink(missing_ok=True)
            os.close(file)
        self._mine = None
        return need

    def keep_over_exec(self) -> None:
        if self._mine:
            os.set_inheritable(self._mine[1], True)

    def stay(self, need: Need) -> None:
        """Leave a mark that outlives us: what is needed stays until `forget`."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        needed = max(need, _need_of(self._lasting))
        with open_private(self._lasting) as file:
            file.write(str(needed))

    def forget(self) -> None:
        self._lasting.unlink(missing_ok=True)

    @property
    def lasting(self) -> Need:
        """What the user that never dies needs."""
        return _need_of(self._lasting)

    def needed(self) -> Need:
        """The most that anybody else, alive or lasting, needs."""
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
