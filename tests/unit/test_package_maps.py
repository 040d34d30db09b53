"""The docstring of a package names each of its modules, and none that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(
    init.parent
    for root in ("coordination", "workers")
    for init in (ROOT / root).rglob("__init__.py")
    if "packages" not in init.parts and len([*init.parent.glob("*.py")]) > 2
)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_a_package_names_its_modules(package: Path):
    words = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {file.stem for file in package.glob("*.py") if file.stem[:2] != "__"}
    folders = {init.parent.name for init in package.glob("*/__init__.py")}
    named = set(re.findall(r"`(\w+)(?:\.py|/)?`", words))
    files = set(re.findall(r"`(\w+)\.py`", words))
    subfolders = {name for name in re.findall(r"`(\w+)/`", words) if name != "lua"}

    assert (modules | folders) - named == set()
    assert files - modules == set()
    assert subfolders - {file.name for file in package.iterdir()} == set()
