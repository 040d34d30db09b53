"""Remove a folder and all that is in it, whatever a todo did to its rights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def remove_tree(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except PermissionError:  # folders without write permission, as in Go's module cache
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o700)
        shutil.rmtree(path)
