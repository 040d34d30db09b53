"""Private files and folders, atomic replacement of files, and file locks.

**Private.** The state folder holds logs, records and sockets that only this user may read. Folders have mode
0700 and files 0600, whatever the umask is. Worktrees and git repositories below it keep the modes that git
gave them; they are protected by their closed parent folders.

**Replacement.** A file is written under another name in the same folder and renamed, so that a reader finds
the old file or the new one. With `durable`, its bytes are on disk before the rename; without, a power loss
can leave an empty file. `sync_folder` writes the name itself to disk. A killed writer leaves a file
`.NAME.coord-….tmp`, which `remove_unfinished` removes.

**Locks** are the kernel's (`flock`), which releases them when the process ends. Lock files are not removed,
because two processes could then hold locks on two files of one name.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from coordination.errors import Unsafe

FOLDER, FILE = 0o700, 0o600
OTHERS = 0o077
UNFINISHED = ".tmp"
POLL_S = 0.02
LONGEST_NAME = 255
"""Bytes of the name of a file."""
"""Seconds between two tries for a lock with a time limit."""


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False also where the system refuses to look.

    `Path.is_dir` raises there before Python 3.14: in the folder of another user, for a name that is too long.
    """
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Return whether something is at the path; False also where the system refuses to look."""
    return os.path.exists(path)  # noqa: PTH110


def why_closed(path: Path) -> str:
    """Return why this user cannot look at what the path names; empty if that can be seen, or is missing."""
    try:
        is_closed = stat.S_ISDIR(path.stat().st_mode) and not os.access(path, os.R_OK | os.X_OK)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        return f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}"
    return f"{path} cannot be opened: {os.strerror(errno.EACCES)}" if is_closed else ""


def why_no_folder(path: Path) -> str:
    """Return why the path cannot be used as a folder; empty if it can."""
    return why_closed(path) or ("" if is_folder(path) else f"there is no folder {path}")


def real_path(path: Path) -> Path:
    """Return the path without symbolic links; `Path.resolve` raises for a loop of links."""
    return Path(os.path.realpath(path))


def below(folder: Path, *names: str) -> Path:
    """Return the path of names that come from outside, below a folder. Raises Unsafe where a name would lead
    elsewhere.
    """
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > LONGEST_NAME:
            raise Unsafe(f"{name!r:.120} cannot be the name of a file or folder", "name it otherwise")
    return folder.joinpath(*names)


def expanded(path: str) -> Path:
    """Return the path with `~` as the home folder; unchanged where that is unknown, where
    `Path.expanduser` raises.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


def make_private(folder: Path) -> None:
    """Create the folder and its missing parents with mode 0700. Raises OSError."""
    if not folder.is_dir():
        make_private(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=FOLDER)


def open_private(file: Path, mode: str = "w", **how: Any) -> IO[Any]:
    """Open a file as `open` does; a new file gets mode 0600. Raises OSError."""
    return open(file, mode, opener=lambda path, flags: os.open(path, flags, FILE), **how)


def open_own(file: Path, flags: int) -> int:
    """Open a regular file of this user, created with mode 0600 if `flags` allow that.

    Raises OSError for anything else: a folder that another user created may contain links and pipes.
    """
    handle = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(handle)
        raise OSError(errno.EPERM, "it is not a regular file of this user", str(file))
    return handle


def loose(state: Path) -> Iterator[Path]:
    """Yield `state` and paths below it that other users may enter, read or write; skip git repositories."""
    with suppress(OSError):  # it was removed meanwhile, or belongs to another user
        status = state.lstat()
        if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode):
            return
        if stat.S_ISDIR(status.st_mode) and _is_of_git(state):
            return
        if status.st_mode & OTHERS:
            yield state
        if stat.S_ISDIR(status.st_mode):
            for path in sorted(state.iterdir()):
                yield from loose(path)


def close_to_others(state: Path) -> list[Path]:
    """Remove the access of other users; return the changed paths. `coord doctor` reports those that cannot be
    changed.
    """
    changed = []
    for path in loose(state):
        with suppress(OSError):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
            changed.append(path)
    return changed


def _is_of_git(folder: Path) -> bool:
    return (folder / ".git").exists() or (folder / "HEAD").exists()


@contextmanager
def replacing(
    file: Path, *, durable: bool, meanwhile: Callable[[], object] | None = None
) -> Iterator[IO[bytes]]:
    """Write a private file next to `file` and replace `file` at the end; after an error `file` is unchanged.
    `meanwhile` is called before the rename, while the disk writes. Raises OSError.
    """
    if not file.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    unfinished = file.with_name(f"{_unfinished(file)}{os.urandom(4).hex()}{UNFINISHED}")
    opened = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE)
    try:
        with os.fdopen(opened, "wb") as new:
            yield new
            new.flush()
            with _synced(new) if durable else nullcontext():
                if meanwhile is not None:
                    meanwhile()
        unfinished.replace(file)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


@contextmanager
def _synced(file: IO[bytes]) -> Iterator[None]:
    """Write an open file to disk, in a thread while the body is executed. Raises OSError."""
    errors: list[OSError] = []

    def sync() -> None:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


def replace_file(file: Path, content: bytes, *, durable: bool) -> None:
    """Replace a file by these bytes, as `replacing` does."""
    with replacing(file, durable=durable) as new:
        new.write(content)


def remove_unfinished(file: Path) -> None:
    """Remove files left by killed writers of `file`. An active writer's rename then fails."""
    for unfinished in file.parent.glob(f"{glob.escape(_unfinished(file))}*{UNFINISHED}"):
        with suppress(OSError):
            unfinished.unlink()


def _unfinished(file: Path) -> str:
    return f".{file.name}.coord-"


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to disk. Raises OSError, also if the file system does not support this."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_lock(file: Path, *, create: bool = True) -> int:
    """Open a lock file, created with mode 0600 if missing; closing the descriptor releases its lock. Raises
    OSError.
    """
    return os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), FILE)


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file; return False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(descriptor: int, wait_s: float | None = None, poll_s: float = POLL_S) -> bool:
    """Take the lock of an open file; return False if another process holds it for `wait_s` (None: wait for
    ever).

    With a limit it polls, because flock has no timeout, and only the main thread receives signals.
    """
    if wait_s is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    until = time.monotonic() + wait_s
    while not try_lock(descriptor):
        if time.monotonic() >= until:
            return False
        time.sleep(poll_s)
    return True


def unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_removed(descriptor: int, file: Path) -> bool:
    """Return whether the file was removed or replaced since it was opened, so that its lock
    protects nothing.
    """
    try:
        return os.fstat(descriptor).st_ino != file.stat().st_ino
    except FileNotFoundError:
        return True


def is_locked(file: Path) -> bool:
    """Return whether a process holds the lock of a file. Raises OSError."""
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextmanager
def locked(file: Path) -> Iterator[int]:
    """Hold the lock of a file, waiting for it without limit; yield its descriptor. Raises OSError."""
    descriptor = open_lock(file)
    try:
        lock(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)
