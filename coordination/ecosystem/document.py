"""Finding and reading `ecosystem.yaml`: a valid file, or every problem with its line."""

from __future__ import annotations

import stat
from functools import lru_cache
from pathlib import Path

from coordination.ecosystem import cache
from coordination.ecosystem.parsing import Document, Snapshot, parse
from coordination.errors import CoordinationError, NotFound
from coordination.models import FILE_NAME
from coordination.text import quoted

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}

__all__ = ["Document", "find", "load", "parse", "read_bytes", "snapshot"]


def find(start: Path, explicit: Path | None = None) -> Path:
    """Return the path of the file: the explicit one, else the nearest in `start` or a folder above it. Raises
    NotFound.
    """
    if explicit is not None:
        path = explicit / FILE_NAME if explicit.is_dir() else explicit
        if path != explicit and explicit.name == FILE_NAME and not path.exists():
            path = explicit
        if kind := _other_kind(path):
            raise _no_file(path, kind)
        if not path.is_file():
            raise NotFound(
                f"there is no file {path}",
                f"correct the path, or write one: coord init {quoted(path.parent)}",
            )
        return path
    start = start.absolute()
    others = []
    for folder in (start, *start.parents):
        path = folder / FILE_NAME
        if kind := _other_kind(path):
            others.append((path, kind))
        elif path.is_file():
            return path
    if others:
        raise _no_file(*others[0])
    raise NotFound(
        f"there is no {FILE_NAME} in {start} or any folder above it",
        "write one from the repositories here: coord init; or name one: --ecosystem FILE",
    )


def _other_kind(path: Path) -> str:
    """Return what the path is, if it exists and is no regular file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a link to nothing" if path.is_symlink() else ""
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "a special file")


def _no_file(path: Path, kind: str) -> NotFound:
    return NotFound(f"{path} is {kind}, not a file", "move it away, or name another file: --ecosystem FILE")


def load(path: Path) -> Document:
    """Read and validate the file. Raises NotFound, InvalidFile, or CoordinationError if it cannot be read."""
    return snapshot(read_bytes(path), path).document


@lru_cache(maxsize=1)  # an edit starts with the same bytes that were read to plan it
def snapshot(raw: bytes, path: Path) -> Snapshot:
    """Return the content of the file at `path`, from the cache if it was parsed before.
    Raises InvalidFile.
    """
    known = cache.load(raw, path)
    if known is None:
        known = parse(raw, path).snapshot()
        cache.store(known)
    return known


def read_bytes(path: Path) -> bytes:
    """Read the file. Anything else in its place is refused: a pipe would hold the reader for ever."""
    if kind := _other_kind(path):
        raise _no_file(path, kind)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no file {path}", "write one from the repositories here: coord init"
        ) from error
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be read: {error.strerror}", "make it readable and try again"
        ) from error
