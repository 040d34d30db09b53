"""The memory of an agent's work on a todo on this machine, from one attempt to the next.

    <state>/agents/<plan>/<repo>/<todo>.json    the session, kept work, what the session has used
    <state>/agents/<plan>/<repo>/home/          where programs keep their sessions, without logins

A file of another version, or one that cannot be read, counts as absent: the agent begins anew.

The time of <plan> is that of its last use. Attempts share a lock on it; who removes it needs it alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from coordination.files import below, is_removed, make_private, replace_file, try_lock
from coordination.frozen import FrozenModel
from coordination.runs.records import AgentUsage
from workers.process.trouble import describe_os_error
from workers.workspace.files import remove_tree

logger = logging.getLogger(__name__)


class Remembered(FrozenModel):
    """The last attempt of an agent on a todo."""

    run: str = ""
    agent: str = ""
    """Name of the preset; a session belongs to the program of one."""
    session: str = ""
    kept: str = ""
    """The commit with its work at a pause; empty without one."""
    failure: str = ""
    """The failure of the last attempt, for the prompt of the next one."""
    unfinished: bool = False
    """True from the start of its program until the attempt has succeeded or failed: a killed worker, a
    cancelled run and a pause leave it so.
    """
    pauses: int = 0
    """Pauses since the last round that came to its end."""
    session_used: AgentUsage = AgentUsage()
    """What the session has used."""

    def within(self, run: str) -> Remembered:
        """Return what counts in a run: of an earlier one only the session, and whether that had finished."""
        if self.run == run:
            return self
        return self.model_copy(update={"kept": "", "failure": "", "pauses": 0})


NOTHING = Remembered()


def _read(file: Path) -> Remembered:
    try:
        return Remembered.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return NOTHING


class AgentMemory:
    """Reads and writes what is remembered of one todo."""

    def __init__(self, state: Path, plan: str, repo: str, todo: str) -> None:
        self.folder = below(state, "agents", quote(plan, safe="") or "-", repo)
        self._file = self._file_of(todo)

    def _file_of(self, todo: str) -> Path:
        return self.folder / f"{quote(todo, safe='')}.json"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the folder of the plan from being removed as unused. Raises WorkspaceUnusable."""
        plan = self.folder.parent
        with describe_os_error(plan):
            held = _held(plan)
        try:
            yield
        finally:
            with suppress(OSError):
                os.utime(held)
            os.close(held)

    def read(self) -> Remembered:
        """Return what is remembered."""
        return _read(self._file)

    def after(self, todo: str) -> Remembered:
        """Return what is remembered, with a session that has finished and goes on: its own, else that of the
        other todo.
        """
        own = self.read()
        if own.session:
            return own.model_copy(update={"unfinished": True})
        session = _read(self._file_of(todo)).within("")
        return session.model_copy(update={"unfinished": True})

    def write(self, remembered: Remembered) -> None:
        """Raises WorkspaceUnusable."""
        with describe_os_error(self.folder):
            make_private(self.folder)
            replace_file(self._file, remembered.model_dump_json().encode(), durable=False)

    def home(self, name: str, *, is_file: bool = False) -> Path:
        """Return the folder, or the file, that stands for this one of the home folder; make it. Raises
        WorkspaceUnusable.

        A program writes below it: nothing on the way may be a link, which the sandbox would follow.
        """
        place = below(self.folder, "home", *Path(name).parts)
        inner = [place, *place.parents]
        folders = inner[: inner.index(self.folder)][::-1]
        with describe_os_error(self.folder):
            make_private(self.folder)
            for folder in folders[:-1] if is_file else folders:
                if folder.is_symlink() or not folder.is_dir():
                    remove_tree(folder)
                    folder.mkdir(mode=0o700)
            if is_file and (place.is_symlink() or not place.is_file()):
                remove_tree(place)
                place.touch(mode=0o600)
        return place


def remove_unused(state: Path, keep: timedelta) -> list[Path]:
    """Remove the folders of plans that no attempt has used for this long; return them. One that the
    interrupted attempt of a run which is still here goes on with stays.
    """
    until = time.time() - keep.total_seconds()
    try:
        folders = sorted((state / "agents").iterdir())
    except OSError:
        return []
    return [folder for folder in folders if _remove_unused(state, folder, until)]


def _remove_unused(state: Path, folder: Path, until: float) -> bool:
    try:
        if folder.is_symlink() or folder.stat().st_mtime >= until or _is_awaited(state, folder):
            return False
        held = _opened(folder)
        try:
            is_free = try_lock(held) and os.fstat(held).st_mtime < until and not is_removed(held, folder)
            if is_free:
                remove_tree(folder)
        finally:
            os.close(held)
    except OSError as error:
        logger.debug("the sessions in %s stay for now: %s", folder, error)
        return False
    return is_free


def _is_awaited(state: Path, folder: Path) -> bool:
    """Return whether a todo that was interrupted, or waits, may go on in one of these sessions."""
    remembered = map(_read, folder.glob("*/*.json"))
    return any(
        one.unfinished and one.run and below(state, "workspaces", one.run).is_dir() for one in remembered
    )


def _held(folder: Path) -> int:
    """Return a descriptor of the folder, which is there and not removed until that is closed."""
    while True:
        make_private(folder)
        with suppress(FileNotFoundError):
            held = _opened(folder)
            fcntl.flock(held, fcntl.LOCK_SH)
            if not is_removed(held, folder):
                os.utime(held)
                return held
            os.close(held)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
