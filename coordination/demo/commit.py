"""Commits to the sample's repositories, the same on every machine: no identity, hook or signature of the user's."""

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
    """Commit all that is there."""
    git("add", "--all", cwd=repository)
    git("commit", "--quiet", "--message", message, cwd=repository)


def git(*words: str, cwd: Path) -> None:
    """Run git in a repository; raises GitRefused with git's own words."""
    flags = [flag for setting in SETTINGS for flag in ("-c", setting)]
    # From within a hook, GIT_DIR and its like would send these commits to the repository of the hook.
    environment = {n: value for n, value in os.environ.items() if not n.startswith("GIT_") or n == "GIT_EXEC_PATH"}
    try:
        done = subprocess.run(["git", *flags, *words], cwd=cwd, env=environment, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise GitRefused("git cannot be started", "install git ≥ 2.39 and see that it is in PATH") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"git ended with {done.returncode}"
        raise GitRefused(f"git {words[0]} in {cwd}: {said}", "see to what git says, then try an empty folder again")
