"""Tests stand at seams: the command line, `coordination.api` and pure rules. A test of internals has to
change when behaviour does not, so the imports of internals that exist are listed, and the list may only
become shorter.

`make golden` removes what is gone from tests/internal_imports.txt; nothing adds to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTED = ROOT / "tests" / "internal_imports.txt"
PUBLIC: Mapping[str, str] = {
    "coordination": "api cli client errors models settings",
    "coordination.cli": "app command_table",
}
"""The command line, the library, and what they take and raise."""
RECORDS: Mapping[str, str] = {
    "coordination.credentials": "records",
    "coordination.dependencies": "records",
    "coordination.events": "kinds records",
    "coordination.runs": "records views.records",
    "coordination.tracker": "records",
    "workers": "outcome task_result",
    "workers.landing": "records",
}
"""Records that the library returns, or that the steps of a todo take."""
PURE: Mapping[str, str] = {
    "coordination": (
        "branches charts declared durations ecosystem operation_index planner retry sandbox_limits "
        "setting_types states terminal text trailers"
    ),
    "coordination.cache": "names",
    "coordination.cli": "times",
    "coordination.credentials": "detection masking",
    "coordination.dependencies": "constraints",
    "coordination.forges": "errors locate models",
    "coordination.health": "timetable",
    "coordination.landing": "graph order plan_waves readiness records revert rules ways",
    "coordination.locks": "deadlock",
    "coordination.runs": "not_committed retry_policy submission.order views.levels_and_waves views.timeline",
    "coordination.tracker": "kinds relations",
    "coordination.trust": "envelope orders results rights trust_file",
}
"""Rules that decide from facts; some read files. They use no Redis, process or thread."""
EFFECTS = {"celery", "httpx2", "redis", "socket", "sqlite3", "subprocess", "threading"}


def _names(modules: Mapping[str, str]) -> list[str]:
    return [f"{package}.{name}" for package, names in modules.items() for name in names.split()]


SEAMS = {"coordination", *_names(PUBLIC), *_names(RECORDS)}
WITH_PARTS = tuple(f"{name}." for name in (*_names(PURE), "coordination.api", "coordination.models"))
Row = tuple[str, str]
"""A test module and a package whose internals it imports."""


def test_only_listed_imports_of_internals_are_left(request: pytest.FixtureRequest) -> None:
    listed, found = _listed(), _found()
    if request.config.getoption("--renew-golden"):
        listed = {row: min(count, found[row]) for row, count in listed.items() if row in found}
        LISTED.write_text("".join(f"{module} {package} {n}\n" for (module, package), n in listed.items()))

    new = {row: count for row, count in found.items() if count > listed.get(row, 0)}
    assert not new, "new imports of internals: use the command line, coordination.api or a pure rule"
    assert listed == found, "imports of internals are gone: make golden"


@pytest.mark.parametrize("module", _names(PURE))
def test_a_pure_rule_has_no_effects(module: str) -> None:
    files = [path for path in _files(module) if path.name != "__init__.py"]

    assert files
    assert not {name.partition(".")[0] for path in files for name in _imports(path)} & EFFECTS


def _listed() -> Mapping[Row, int]:
    rows = (line.split() for line in LISTED.read_text().splitlines())
    return {(module, package): int(count) for module, package, count in rows}


def _found() -> Mapping[Row, int]:
    """Return how many modules of a package, other than seams, each test module imports."""
    found: dict[Row, int] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for module in sorted({_module(name) for name in _imports(path)} - {""}):
            row = (path.relative_to(ROOT).as_posix(), ".".join(module.split(".")[:2]))
            found[row] = found.get(row, 0) + (not _is_seam(module))
    return {row: count for row, count in found.items() if count}


def _is_seam(module: str) -> bool:
    return module in SEAMS or f"{module}.".startswith(WITH_PARTS)


def _module(name: str) -> str:
    """Return the module of the product that has this name, or of which it is a part; "" for another's."""
    if name.partition(".")[0] not in ("coordination", "workers"):
        return ""
    return name if _files(name) else name.rpartition(".")[0]


def _files(module: str) -> list[Path]:
    base = ROOT / module.replace(".", "/")
    return [base.with_suffix(".py")] if base.with_suffix(".py").is_file() else sorted(base.rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
