"""Commits in the sample's repositories, identical on every machine: without the user's identity, hooks or
signature.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from coordination.errors import GitRefused

SETTINGS = (
    "user.name=coord demo",
    "user.email=demo@coord.invalid",
    "commit.gpgSign=false",
    "core.autocrlf=false",
    "core.excludesFile=/dev/null",
    "core.hooksPath=/dev/null",
    "gc.auto=0",
    "init.templateDir=",
    "maintenance.auto=false",
)


def commit(repository: Path, message: str) -> None:
    """Commit all changes."""
    git("add", "--all", cwd=repository)
    git("commit", "--quiet", "--message", message, cwd=repository)


def git(*words: str, cwd: Path) -> None:
    """Run git in a repository. Raises GitRefused with git's output."""
    flags = [flag for setting in SETTINGS for flag in ("-c", setting)]
    # Inside a git hook, variables like GIT_DIR would direct these commits to the hook's repository.
    environment = {n: value for n, value in os.environ.items() if not n.startswith("GIT_") or n == "GIT_EXEC_PATH"}
    try:
        done = subprocess.run(["git", *flags, *words], cwd=cwd, env=environment, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise GitRefused("git cannot be started", "install git ≥ 2.39 and check that it is in PATH") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"git ended with {done.returncode}"
        raise GitRefused(f"git {words[0]} in {cwd}: {said}", "fix the problem, then try again in an empty folder")
