"""One writer at a time: an advisory lock on a small file beside the one that is edited.

The lock is the kernel's (`flock`), so it is gone with the process that held it. The lock files themselves stay:
removing one would let two writers hold locks on two files of one name. They stand in `.coord/`, which git does not see.

`flock` has no timeout of its own, so who waits asks again and again, and a writer that comes back at once would nearly
always be faster than those. So there is a turnstile: one waits for the lock at its head, all others for the turnstile,
and so does who comes back.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from coordination.errors import CoordinationError, EditConflict
from coordination.wire.private import open_private

WAIT = timedelta(seconds=30)
"""An edit of a file with 10,000 todos takes up to 4 s; several may queue."""
_LOOK_AGAIN_S = 0.01
_HEAD_LOOKS_AGAIN_S = 0.001


@contextmanager
def exclusive(path: Path, wait: timedelta = WAIT) -> Iterator[None]:
    """Hold the lock of the file at `path`; raises EditConflict when others keep it for longer than `wait`."""
    deadline = time.monotonic() + wait.total_seconds()
    with _opened(path, "turn") as turn, _opened(path, "lock") as lock:
        _lock(turn, path, deadline, _LOOK_AGAIN_S)
        _lock(lock, path, deadline, _HEAD_LOOKS_AGAIN_S)
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[int]:
    descriptor = _open(path, kind)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path, kind: str) -> int:
    folder = path.parent / ".coord"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            with open_private(ignore) as file:
                file.write("*\n")
        return os.open(folder / f"{path.name}.{kind}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be edited: {folder}: {error.strerror}", "make its folder writable and try again"
        ) from error


def _lock(descriptor: int, path: Path, deadline: float, look_again_s: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise EditConflict(f"somebody else is editing {path}", "try again when they have finished") from error
            time.sleep(look_again_s)
        else:
            return
