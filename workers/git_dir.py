"""Tell which git directory the folder of a worktree names, without git: discovery would find any repository above it.

A todo can delete or rewrite the `.git` of its worktree, or put a link in the worktree's place. git would then work on the
checkout above it, or on the repository that is named. So every git command in a worktree or a submodule is told its git
directory (`git.py`), and only where the folder still names just that one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from workers.trouble import GitInterrupted, Trouble

LONGEST = 8192
"""Bytes of a `.git` file; a path has 4096 at most."""


def git_dir_of(folder: Path) -> Path | None:
    """Return the git directory that the folder's own `.git` names; None where folder or `.git` is a link, missing or damaged.

    An entry of a worktree must name this folder in turn, and be in the repository that it says it is of.
    """
    try:
        if folder.is_symlink() or folder.parent.is_symlink():
            return None
        file = folder / ".git"
        mode = file.lstat().st_mode
        if stat.S_ISDIR(mode):
            return None if (file / "commondir").exists() else _real(file)
        named = _named(file, "gitdir: ") if stat.S_ISREG(mode) else ""
        if not named:
            return None
        git_dir = _real(folder / named)
        if not (git_dir / "HEAD").is_file():
            return None
        is_entry = (git_dir / "commondir").exists()
        return None if is_entry and not _is_entry_of(git_dir, _real(folder) / ".git") else git_dir
    except (OSError, ValueError):  # ValueError: a NUL in a path
        return None


def refuse_damaged(folder: Path, git_dir: Path) -> None:
    """Raise GitInterrupted (DAMAGED) unless the folder names this git directory."""
    if git_dir_of(folder) != _real(git_dir):
        words = f"{folder} is no longer the worktree that coord made: its .git names no git directory, or another"
        raise GitInterrupted(Trouble.DAMAGED, words)


def _is_entry_of(git_dir: Path, file: Path) -> bool:
    entries = git_dir.parent
    common = _real(git_dir / _named(git_dir / "commondir"))
    return (
        entries.name == "worktrees" and common == entries.parent and _real(git_dir / _named(git_dir / "gitdir")) == file
    )


def _named(file: Path, prefix: str = "") -> str:
    with file.open("rb") as text:
        line = os.fsdecode(text.read(LONGEST)).rstrip("\n")
    return line.removeprefix(prefix) if line.startswith(prefix) else ""


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
