"""Read-only git queries about a checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from coordination.environment import without_ours
from coordination.errors import GitRefused

MEASURED_WITHIN_S = 5.0
"""Time limit for measuring a history; one that takes longer is larger than any bundle."""


def history_exceeds(checkout: Path, branch: str, limit_bytes: int) -> bool:
    """Return whether the whole history of a branch has more than `limit_bytes`; False if git cannot tell."""
    options = ("--objects", "--disk-usage", "--use-bitmap-index")
    try:
        told = ask_git(checkout, "rev-list", *options, f"refs/heads/{branch}", timeout_s=MEASURED_WITHIN_S)
    except subprocess.TimeoutExpired:
        return True
    return told.isdecimal() and int(told) > limit_bytes


def ask_git(checkout: Path, *arguments: str, timeout_s: float | None = None) -> str:
    """Return git's output, or "" if the command fails. Raises GitRefused if git is not installed,
    TimeoutExpired.
    """
    # A hook's GIT_DIR would override -C.
    outside = {k: v for k, v in without_ours(os.environ).items() if not k.startswith("GIT_")}
    try:
        answer = subprocess.run(
            ["git", "-C", str(checkout), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**outside, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            check=False,
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise GitRefused("the git command was not found", "install git and try again") from error
    return answer.stdout.strip() if answer.returncode == 0 else ""
