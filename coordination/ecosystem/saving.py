"""A file replaced as a whole or not at all, whatever happens in between."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import tempfile
from pathlib import Path

from coordination.errors import CoordinationError

_SUFFIX = ".tmp"


def save(path: Path, new: bytes) -> None:
    """Replace the file's bytes. Mode and owner stay, a symlink goes on pointing to the same file.

    The bytes are on disk before the name points to them. On any failure the old file is as it was, and
    CoordinationError says why.
    """
    target = path.resolve()
    try:
        before = target.stat()
        if not before.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(target, os.W_OK):
            raise PermissionError(13, "the file is read-only")  # a rename would not ask
        temporary = _write_beside(target, new, before)
        try:
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        with contextlib.suppress(OSError):  # the file is whole, and not every file system can do this
            _sync_folder(target.parent)
    except OSError as error:
        raise CoordinationError(
            f"{path} was not changed: {error.strerror or error}", "make room or give the right to write, then try again"
        ) from error


def sweep_leftovers(path: Path) -> None:
    """Take away what killed writers left half written. Only for who holds the file's lock: no other is writing then."""
    target = path.resolve()
    with contextlib.suppress(OSError):
        for place in target.parent.glob(f"{glob.escape(_prefix(target))}*{_SUFFIX}"):
            place.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.coord-"


def _write_beside(target: Path, new: bytes, before: os.stat_result) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=_prefix(target), suffix=_SUFFIX, dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(new)
            file.flush()
            with contextlib.suppress(PermissionError):  # only root may give a file to others
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
