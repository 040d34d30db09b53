"""Where what belongs to an ecosystem on this machine is kept."""

from __future__ import annotations

from pathlib import Path

from coordination.models import FILE_NAME

STATE_FOLDER = ".coord"


def state_folder(ecosystem: Path) -> Path:
    """`.coord` beside the file; a file of another name has its own in there, so that two files of one folder do not meet."""
    folder = ecosystem.resolve().parent / STATE_FOLDER
    return folder if ecosystem.name == FILE_NAME else folder / ecosystem.name
