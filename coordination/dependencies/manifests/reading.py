"""Manifests are read without trust: bytes that are no TOML, numbers where a table should be."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from coordination.errors import CoordinationError


def read_text(path: Path) -> str | None:
    """None where there is no such file; raises CoordinationError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise CoordinationError(f"{path} is no text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise CoordinationError(f"{path} cannot be read: {error.strerror}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Empty where there is no such file; raises CoordinationError with the line of what is wrong in it."""
    text = read_text(path)
    try:
        return tomllib.loads(text or "")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CoordinationError(f"{path} is damaged: {error}") from error


def inside(data: Any, *names: str) -> Any:
    """What stands there, None where there is no such place."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def text_inside(data: Any, *names: str) -> str | None:
    found = inside(data, *names)
    return found.strip() or None if isinstance(found, str) else None
