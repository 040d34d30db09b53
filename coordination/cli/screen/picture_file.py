"""Where a picture goes that a command was asked to write."""

from __future__ import annotations

from pathlib import Path

from coordination.errors import Conflict, CoordinationError, UsageError
from coordination.planner.svg import MADE_BY

LOOKED_AT_BYTES = 200


def refuse_other(path: Path) -> None:
    """A picture of coord's is drawn anew; any other file stays. Raises UsageError, Conflict or CoordinationError."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"{path}: the picture is SVG", "name a file that ends in .svg")
    try:
        with path.open("rb") as file:
            head = file.read(LOOKED_AT_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if head and MADE_BY.encode() not in head:
        raise Conflict(f"{path} is there already, and no picture of coord's", "name another file, or remove that one")


def write_picture(path: Path, svg: str) -> None:
    """Whole or not at all. Raises as `refuse_other` does."""
    refuse_other(path)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(svg, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> CoordinationError:
    hint = (
        "make room, or name another file" if path.parent.is_dir() else f"make the folder {path.parent}, or name another"
    )
    return CoordinationError(f"{path} cannot be written: {error.strerror or error}", hint)
