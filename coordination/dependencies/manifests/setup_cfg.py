"""The version in setup.cfg, as setuptools reads it."""

from __future__ import annotations

import configparser
from pathlib import Path

from coordination.dependencies.manifests import python_source
from coordination.dependencies.manifests.reading import read_text
from coordination.errors import CoordinationError


def version(folder: Path) -> str | None:
    path = folder / "setup.cfg"
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(read_text(path) or "", str(path))
    except configparser.Error as error:
        raise CoordinationError(f"{path} is damaged: {' '.join(error.message.split())}") from error
    written = parser.get("metadata", "version", fallback="").strip()
    if written.startswith("attr:"):
        return python_source.of_attribute(folder, written.removeprefix("attr:"))
    if written.startswith("file:"):
        return python_source.of_file(folder, written.removeprefix("file:").split(",")[0].strip())
    return written or None
