"""Save and load a document as a file: written whole or not at all, compressed by its suffix, readable by its
owner only, because logs and commands may hold secrets.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from coordination.errors import CoordinationError
from coordination.files import replacing, sync_folder
from coordination.runs.export.import_document import LARGEST, Received, receive

COMPRESSED = ".gz"


def save(pieces: Iterable[str], path: Path) -> None:
    """Write under a temporary name until the file is whole and on disk. Raise CoordinationError where it
    cannot be written.
    """
    try:
        with replacing(path, durable=True) as raw:
            _write(pieces, raw, compressed=path.suffix == COMPRESSED)
        sync_folder(path.parent)
    except OSError as error:
        hint = (
            "make room, or name another file"
            if path.parent.is_dir()
            else f"make the folder {path.parent}, or name another"
        )
        raise CoordinationError(f"{path} cannot be written: {error.strerror or error}", hint) from error


def load(path: Path, largest: int = LARGEST) -> Received:
    """Load a document. Raise UsageError and Conflict as `receive` does."""
    try:
        with path.open("rb") as file:  # a device, a pipe or a growing file may have no end
            return receive(file.read(largest + 1), str(path), largest)
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be read: {error.strerror}", "name a file that coord export-run wrote"
        ) from error


def _write(pieces: Iterable[str], raw: IO[bytes], *, compressed: bool) -> None:
    if not compressed:
        raw.writelines(piece.encode() for piece in pieces)
        return
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        io.BufferedWriter(packed) as buffered,
    ):
        buffered.writelines(piece.encode() for piece in pieces)
