"""Tests stand at seams: the command line, `coordination.api`, the ports under tests/ and pure rules. A test
of internals has to change when behaviour does not, so the imports of internals that exist are listed, and the
list may only become shorter.

A port is a helper module directly under tests/ whose docstring begins with "The port of": it offers the steps
of one subject and alone knows the internals behind them.

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
        "agent_programs branches charts declared durations ecosystem operation_index planner retry "
        "sandbox_limits setting_types states terminal text trailers"
    ),
    "coordination.cache": "names",
    "coordination.cli": "times",
    "coordination.credentials": "detection masking",
    "coordination.dashboard": "logs",
    "coordination.dependencies": "constraints",
    "coordination.forges": "errors locate models",
    "coordination.health": "timetable",
    "coordination.landing": "graph order plan_waves readiness records revert rules ways",
    "coordination.locks": "deadlock",
    "coordination.runs": "not_committed retry_policy submission.order views.levels_and_waves views.timeline",
    "coordination.tracker": "kinds relations",
    "coordination.trust": "envelope orders results rights trust_file",
    "workers.agents": (
        "claude codex command copilot fields gemini judge opencode program programs scope stream"
    ),
    "workers.attempt": "prompt",
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
    assert not new, "new imports of internals: use the command line, coordination.api, a port or a pure rule"
    assert listed == found, "imports of internals are gone: make golden"


@pytest.mark.parametrize("module", _names(PURE))
def test_a_pure_rule_has_no_effects(module: str) -> None:
    files = [path for path in _files(module) if path.name != "__init__.py"]

    assert files
    assert not {name.partition(".")[0] for path in files for name in _imports(path)} & EFFECTS


def test_a_port_offers_steps_of_its_own() -> None:
    ports = {f"tests.{path.stem}": _defined(path) for path in (ROOT / "tests").glob("*.py") if _is_port(path)}
    taken = {name for path in (ROOT / "tests").rglob("*.py") for name in _imports(path)}

    assert ports
    passed_on = [name for name in taken if name not in ports.get(name.rpartition(".")[0], {name})]
    assert not passed_on, "a port passes on names of the product, which hides an import of internals"


def _listed() -> Mapping[Row, int]:
    rows = (line.split() for line in LISTED.read_text().splitlines())
    return {(module, package): int(count) for module, package, count in rows}


def _found() -> Mapping[Row, int]:
    """Return how many modules of a package, other than seams, each test module imports."""
    found: dict[Row, int] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if _is_port(path):
            continue
        for module in sorted({_module(name) for name in _imports(path)} - {""}):
            row = (path.relative_to(ROOT).as_posix(), ".".join(module.split(".")[:2]))
            found[row] = found.get(row, 0) + (not _is_seam(module))
    return {row: count for row, count in found.items() if count}


def _is_seam(module: str) -> bool:
    return module in SEAMS or f"{module}.".startswith(WITH_PARTS)


def _is_port(path: Path) -> bool:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return path.parent == ROOT / "tests" and docstring.startswith("The port of ")


def _defined(port: Path) -> set[str]:
    """Return the full names of the port that its own statements define."""
    names = set[str]()
    for node in ast.parse(port.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return {f"tests.{port.stem}.{name}" for name in names}


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
