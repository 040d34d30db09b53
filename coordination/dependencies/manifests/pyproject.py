"""The version in pyproject.toml: PEP 621's, Poetry's, or where a build backend is told to find it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coordination.dependencies.manifests import python_source
from coordination.dependencies.manifests.reading import inside, read_toml, text_inside

NAMES = ("__version__", "VERSION")


def version(folder: Path) -> str | None:
    """None where there is none, and where it is left to git's tags; raises CoordinationError."""
    data = read_toml(folder / "pyproject.toml")
    if written := text_inside(data, "project", "version"):
        return written
    if isinstance(dynamic := inside(data, "project", "dynamic"), list) and "version" in dynamic:
        return _dynamic(folder, data)
    of_tags = inside(data, "tool", "poetry-dynamic-versioning", "enable") is True
    return None if of_tags else text_inside(data, "tool", "poetry", "version")


def _dynamic(folder: Path, data: dict[str, Any]) -> str | None:
    tool = data.get("tool")
    if attribute := text_inside(tool, "setuptools", "dynamic", "version", "attr"):
        return python_source.of_attribute(folder, attribute)
    file = inside(tool, "setuptools", "dynamic", "version", "file")
    if isinstance(file, list) and file:
        file = file[0]
    if isinstance(file, str):
        return python_source.of_file(folder, file)
    for backend in ("hatch", "pdm"):
        if path := text_inside(tool, backend, "version", "path"):
            return python_source.assigned(folder / path, *NAMES)
    return (
        _of_module(folder, data) if text_inside(data, "build-system", "build-backend") == "flit_core.buildapi" else None
    )


def _of_module(folder: Path, data: dict[str, Any]) -> str | None:
    """Flit takes it from the package itself."""
    name = text_inside(data, "tool", "flit", "module", "name") or text_inside(data, "project", "name") or ""
    return python_source.of_attribute(folder, f"{name.replace('-', '_')}.__version__")
