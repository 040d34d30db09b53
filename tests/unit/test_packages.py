"""Rules of packages: exports, imports without the extras, and modules that docstrings name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import coordination
from coordination import api

ROOT = Path(__file__).parents[2]
NAMES = """
Blocked Conflict Coord CoordinationError CoordinationExecutor CoordinationManager
CoordinationManagerWithMemory CoordinationMemory Dependency Event GitRefused InvalidFile Issue
LockError LockLost LockTimeout NotAllowed NotFound NotSupported OnFailure Plan PlanRefused Repo Run RunStatus
RunView Selectors Settings Strategy Todo TodoState
TodoView Unreachable UsageError
"""
EXPORTS = NAMES.split()


def test_these_names_are_exported_and_no_others() -> None:
    assert coordination.__all__ == EXPORTS
    assert len(EXPORTS) <= 34
    assert [getattr(coordination, name).__name__ for name in EXPORTS] == EXPORTS


def test_every_name_of_the_facade_is_where_it_is_said_to_be() -> None:
    assert [name for name in api.__all__ if getattr(api, name, None) is None] == []


def test_a_name_that_is_not_exported_is_not_there() -> None:
    assert not hasattr(coordination, "Nothing")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    asked = (
        "import sys, coordination; print([m for m in sys.modules if m.startswith(('coordination.', 'redis', "
        "'pydantic'))])"
    )

    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_records_are_listed_without_the_graph_library() -> None:
    asked = "import sys, coordination.tracker.manager; print('networkx' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


EXTRAS = ("fastmcp", "jinja2", "keyring", "markupsafe", "starlette", "uvicorn", "websockets")
NEED_EXTRAS = (
    "coordination.client", "coordination.dashboard", "coordination.gateway", "coordination.mcp",
    "coordination.operations.http_limits",
)  # fmt: skip
IMPORT_ALL = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for module in sys.stdin.read().split():
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(module, error.name)
"""


def test_modules_import_without_the_extras() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("coordination", "workers")
        for path in (ROOT / package).rglob("*.py")
        if "demo/packages" not in str(path) and path.name != "__main__.py"
    ]
    command = [sys.executable, "-c", f"EXTRAS = {EXTRAS!r}\n{IMPORT_ALL}"]
    refused = subprocess.run(
        command, input="\n".join(modules), capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()

    assert [line for line in refused if not line.startswith(NEED_EXTRAS)] == []


NEEDS_NO_MAP = 5
"""A package of so many modules, folders included, is seen at a glance."""


def parts_of(package: Path) -> tuple[set[str], set[str]]:
    """Return the modules and the folders of a package."""
    modules = {file.stem for file in package.glob("*.py") if file.stem[:2] != "__"}
    return modules, {init.parent.name for init in package.glob("*/__init__.py")}


PACKAGES = sorted(
    init.parent
    for root in ("coordination", "workers")
    for init in (ROOT / root).rglob("__init__.py")
    if "packages" not in init.parts and sum(map(len, parts_of(init.parent))) > NEEDS_NO_MAP
)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_a_large_package_names_its_modules(package: Path):
    words = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules, folders = parts_of(package)
    named = set(re.findall(r"`(\w+)(?:\.py|/)?`", words))
    files = set(re.findall(r"`(\w+)\.py`", words))
    subfolders = {name for name in re.findall(r"`(\w+)/`", words) if name != "lua"}

    assert (modules | folders) - named == set()
    assert files - modules == set()
    assert subfolders - {file.name for file in package.iterdir()} == set()
