"""Creation of the sample's git repositories from templates, with one commit each."""

from __future__ import annotations

from pathlib import Path

from coordination.demo.commit import commit, git
from coordination.errors import CoordinationError, UsageError
from coordination.models import FILE_NAME

SAMPLE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Return the names of the sample's packages, each of which becomes a repository."""
    return tuple(sorted(folder.name for folder in (SAMPLE / "packages").iterdir() if folder.is_dir()))


def create(folder: Path) -> Path:
    """Fill a new or empty folder with the sample; return the path of its ecosystem.yaml.

    Raises UsageError if the folder is not empty, GitRefused, and CoordinationError if it cannot be written.
    """
    try:
        _check_empty(folder)
        for name in names():
            _copy(SAMPLE / "packages" / name, folder / name)
            git("init", "--quiet", "--initial-branch=main", cwd=folder / name)
            commit(folder / name, "The package as it was")
        path = folder / FILE_NAME
        path.write_bytes((SAMPLE / FILE_NAME).read_bytes())  # last: marks a complete sample
    except OSError as error:
        hint = "name another folder, or make room there: coord demo DIR"
        raise CoordinationError(f"the sample cannot be written to {folder}: {error.strerror}", hint) from error
    return path


def _check_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a new or an empty folder: coord demo DIR")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", "name a new or an empty folder: coord demo DIR")


def _copy(template: Path, target: Path) -> None:
    """Copy contents only: an installed template may be read-only, and pip adds compiled files to it."""
    for source in template.rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            copy = target / source.relative_to(template)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
