"""Creates the demo's git repositories from templates, with one commit each that is identical on every
machine; adds a fault to one, to demonstrate a failing plan.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from coordination.errors import CoordinationError, GitRefused, NotFound, UsageError
from coordination.git_programs import NO_HOOKS, program_settings
from coordination.models import FILE_NAME

SETTINGS = (
    "user.name=coord demo",
    "user.email=demo@coord.invalid",
    "commit.gpgSign=false",
    "core.autocrlf=false",
    "core.excludesFile=/dev/null",
    "gc.auto=0",
    "init.templateDir=",
    "maintenance.auto=false",
    *NO_HOOKS,
)
SPELLINGS = (
    # Valid Python that the plan's sed does not expect: it changes the uses, but not the import.
    (r"^from (enum|datetime) import (\w.*)$", r"from \1 import (\2)"),
    (r"^except ModuleNotFoundError:", "except ImportError:"),
)


def commit(repository: Path, message: str) -> None:
    """Commit all changes."""
    git("add", "--all", cwd=repository)
    git("commit", "--quiet", "--message", message, cwd=repository)


def git(*words: str, cwd: Path) -> None:
    """Run git in a repository. Raises GitRefused with git's output."""
    # Inside a git hook, variables like GIT_DIR would direct these commits to the hook's repository.
    environment = {
        n: value for n, value in os.environ.items() if not n.startswith("GIT_") or n == "GIT_EXEC_PATH"
    }
    try:
        settings = (*SETTINGS, *program_settings(cwd, words, environment))
        flags = [flag for setting in settings for flag in ("-c", setting)]
        done = subprocess.run(
            ["git", *flags, *words], cwd=cwd, env=environment, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise GitRefused(
            "git cannot be started", "install git ≥ 2.39 and check that it is in PATH"
        ) from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip() or f"git ended with {done.returncode}"
        raise GitRefused(
            f"git {words[0]} in {cwd}: {reason}", "fix the problem, then try again in an empty folder"
        )


SAMPLE = Path(__file__).parent


AGENTS = SAMPLE / "agents"
"""The file of the sample whose work agents do, and the agent, which plays a script."""
OF_AGENTS = ("report", "text", "units")
"""The packages of that sample."""


def names() -> tuple[str, ...]:
    """Return the names of the sample's packages, each of which becomes a repository."""
    return tuple(sorted(folder.name for folder in (SAMPLE / "packages").iterdir() if folder.is_dir()))


def create(folder: Path) -> Path:
    """Fill a new or empty folder with the sample; return the path of its ecosystem.yaml.

    Raises UsageError if the folder is not empty, GitRefused, and CoordinationError if it cannot be written.
    """
    return _create(folder, names(), (SAMPLE / FILE_NAME).read_text(encoding="utf-8"))


def create_for_agents(folder: Path) -> Path:
    """Fill a new or empty folder with the sample whose work agents do. Raises as `create` does."""
    agent = folder.absolute() / "agent.py"
    text = (AGENTS / FILE_NAME).read_text(encoding="utf-8").replace("AGENT]", f"{json.dumps(str(agent))}]")
    path = _create(folder, OF_AGENTS, text)
    agent.write_bytes((AGENTS / agent.name).read_bytes())
    agent.chmod(0o755)
    return path


def _create(folder: Path, packages: Sequence[str], file: str) -> Path:
    try:
        _check_empty(folder)
        for name in packages:
            _copy(SAMPLE / "packages" / name, folder / name)
            git("init", "--quiet", "--initial-branch=main", cwd=folder / name)
            commit(folder / name, "The package as it was")
        path = folder / FILE_NAME
        path.write_text(file, encoding="utf-8")  # last: marks a complete sample
    except OSError as error:
        hint = "name another folder, or make room there: coord demo DIR"
        raise CoordinationError(
            f"the sample cannot be written to {folder}: {error.strerror}", hint
        ) from error
    return path


def _check_empty(folder: Path) -> None:
    if "\n" in str(folder.absolute()):
        raise UsageError("the folder's name has an end of line", "name another one: coord demo DIR")
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
