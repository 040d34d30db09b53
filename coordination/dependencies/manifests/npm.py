"""The version in package.json."""

from __future__ import annotations

import json
from pathlib import Path

from coordination.dependencies.manifests.reading import read_text, text_inside
from coordination.errors import CoordinationError


def version(folder: Path) -> str | None:
    path = folder / "package.json"
    text = read_text(path)
    try:
        return text_inside(json.loads(text), "version") if text is not None else None
    except (json.JSONDecodeError, RecursionError) as error:
        raise CoordinationError(f"{path} is damaged: {error}") from error
