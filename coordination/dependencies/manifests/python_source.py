"""A version that a Python file assigns, or a text file holds, read without running anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from coordination.dependencies.manifests.reading import read_text
from coordination.errors import CoordinationError

FOLDERS = ("", "src", "lib")
"""Where packages stand in a checkout."""


def of_attribute(folder: Path, attribute: str) -> str:
    """`package.module.__version__` as setuptools has it; raises CoordinationError where it is not assigned a text."""
    module, _, name = attribute.strip().rpartition(".")
    parts = Path(*module.split("."))
    places = [
        place for top in FOLDERS for place in (folder / top / f"{parts}.py", folder / top / parts / "__init__.py")
    ]
    return next((found for place in places if (found := assigned(place, name))), None) or _unread(folder, attribute)


def of_file(folder: Path, name: str) -> str:
    """What the text file holds; raises CoordinationError where it is not there, or empty."""
    return (read_text(folder / name) or "").strip() or _unread(folder, name)


def assigned(path: Path, *names: str) -> str | None:
    """The text that is assigned to one of the names; None where the file is not there, or computes it."""
    text = read_text(path)
    try:
        tree = ast.parse(text or "")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise CoordinationError(f"{path} is damaged: {error}") from error
    return next((value for name, value in _assignments(tree) if name in names), None)


def _assignments(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for step in tree.body:
        targets = (
            step.targets if isinstance(step, ast.Assign) else [step.target] if isinstance(step, ast.AnnAssign) else []
        )
        value = getattr(step, "value", None)
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield from ((target.id, value.value) for target in targets if isinstance(target, ast.Name))


def _unread(folder: Path, where: str) -> str:
    raise CoordinationError(
        f"the version of {folder} stands in {where}, where no text is found", "give it as a plain text there"
    )
