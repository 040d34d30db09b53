"""Location of an ecosystem's state folder on this machine."""

from __future__ import annotations

from pathlib import Path

from coordination.models import FILE_NAME

STATE_FOLDER = ".coord"


def state_folder(ecosystem: Path) -> Path:
    """Return `.coord` beside the file; a file of another name has a subfolder, so that files of one folder do
    not conflict.
    """
    folder = ecosystem.resolve().parent / STATE_FOLDER
    return folder if ecosystem.name == FILE_NAME else folder / ecosystem.name
