"""`ecosystem.yaml`, found and read: valid as a whole, or refused with every problem at its line."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from coordination.ecosystem import cache
from coordination.ecosystem.parsing import Document, Snapshot, parse
from coordination.errors import CoordinationError, NotFound
from coordination.models import FILE_NAME

__all__ = ["Document", "find", "load", "parse", "read_bytes", "snapshot"]


def find(start: Path, explicit: Path | None = None) -> Path:
    """The ecosystem file: the explicit one, else the nearest upward from `start`; raises NotFound."""
    if explicit is not None:
        path = explicit / FILE_NAME if explicit.is_dir() else explicit
        if not path.is_file():
            raise NotFound(f"there is no file {path}", f"correct the path, or write one: coord init {path.parent}")
        return path
    start = start.absolute()
    for folder in (start, *start.parents):
        if (path := folder / FILE_NAME).is_file():
            return path
    raise NotFound(
        f"there is no {FILE_NAME} in {start} or any folder above it",
        "write one from the repositories here: coord init; or name one: --ecosystem FILE",
    )


def load(path: Path) -> Document:
    """Read and judge the file; raises NotFound, InvalidFile, or CoordinationError when it cannot be read."""
    return snapshot(read_bytes(path), path).document


@lru_cache(maxsize=1)  # an edit begins with what was read to see what to change
def snapshot(raw: bytes, path: Path) -> Snapshot:
    """What the bytes of the file at `path` say: looked up where they were read before. Raises InvalidFile."""
    known = cache.recall(raw, path)
    if known is None:
        known = parse(raw, path).snapshot()
        cache.keep(known)
    return known


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", "write one from the repositories here: coord init") from error
    except OSError as error:
        raise CoordinationError(f"{path} cannot be read: {error.strerror}", "make it readable and try again") from error
