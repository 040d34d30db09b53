"""A fault for the sample, to demonstrate a failing plan: valid code that the plan's change breaks."""

from __future__ import annotations

import re
from pathlib import Path

from coordination.demo.create import commit
from coordination.errors import NotFound, UsageError

SPELLINGS = (
    # Valid Python that the plan's sed does not expect: it changes the uses, but not the import.
    (r"^from (enum|datetime) import (\w.*)$", r"from \1 import (\2)"),
    (r"^except ModuleNotFoundError:", "except ImportError:"),
)


def break_package(folder: Path, name: str) -> None:
    """Commit code to a package of the sample that passes its tests until the plan changes it.

    Then the package's test todo fails, and its dependents cannot run. Raises NotFound, UsageError and
    GitRefused.
    """
    source = folder / name / "src"
    if not source.is_dir():
        raise NotFound(f"{folder} has no sample package {name!r}", "create the sample first: coord demo DIR")
    sources = {path: path.read_text(encoding="utf-8") for path in source.rglob("*.py")}
    faulty = {path: fault for path, text in sources.items() if (fault := _respelled(text)) != text}
    if not faulty:
        raise UsageError(f"{name} is already broken or upgraded", "create a new sample: coord demo DIR")
    for path, text in faulty.items():
        path.write_text(text, encoding="utf-8")
    commit(folder / name, "Spell imports another way")


def _respelled(text: str) -> str:
    for pattern, replacement in SPELLINGS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text
