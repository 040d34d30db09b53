"""A document as a file: there whole, or not at all. By its name it is compressed. Nobody else may read it: logs and commands tell much."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.runs.export.received import LARGEST, Received, receive

COMPRESSED = ".gz"


def save(pieces: Iterable[str], path: Path) -> None:
    """Under another name until it is whole and on the disk. Raises CoordinationError where it cannot be written."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as raw:
                _write(pieces, raw, compressed=path.suffix == COMPRESSED)
                raw.flush()
                os.fsync(raw.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        _sync(path.parent)
    except OSError as error:
        hint = (
            "make room, or name another file"
            if path.parent.is_dir()
            else f"make the folder {path.parent}, or name another"
        )
        raise CoordinationError(f"{path} cannot be written: {error.strerror or error}", hint) from error


def remove_parts(path: Path) -> None:
    """What is left of those who were killed while they wrote it. Who still does finds nothing to rename, and fails."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with suppress(OSError):
            part.unlink()


def load(path: Path, largest: int = LARGEST) -> Received:
    """Raises UsageError and Conflict, as `receive` does."""
    try:
        with path.open("rb") as file:  # a device, a pipe or a growing file may have no end
            return receive(file.read(largest + 1), str(path), largest)
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be read: {error.strerror}", "name a file that coord export-run wrote"
        ) from error


def _write(pieces: Iterable[str], raw: io.BufferedWriter, *, compressed: bool) -> None:
    if not compressed:
        raw.writelines(piece.encode() for piece in pieces)
        return
    with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed, io.BufferedWriter(packed) as buffered:
        buffered.writelines(piece.encode() for piece in pieces)


def _sync(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
