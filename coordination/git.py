"""A question to git about a checkout, which changes nothing in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from coordination.environment import without_ours
from coordination.errors import GitRefused


def ask_git(checkout: Path, *arguments: str) -> str:
    """What git answers, or nothing when it refuses. Raises GitRefused when there is no git."""
    outside = {
        k: v for k, v in without_ours(os.environ).items() if not k.startswith("GIT_")
    }  # a hook's GIT_DIR would win over -C
    try:
        answer = subprocess.run(
            ["git", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env={**outside, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError as error:
        raise GitRefused("the git command was not found", "install git and try again") from error
    return answer.stdout.strip() if answer.returncode == 0 else ""
