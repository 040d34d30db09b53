"""The files that a todo's `inputs` name, as git sees them: tracked, untracked and ignored ones alike, each with a digest of what is in it.

A pattern is a pathspec of git with its `glob` rules: `*` stays within a folder, `**` does not, a folder means all that is in it. So it
follows no link out of the repository; a link counts by where it points.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from hashlib import file_digest, sha256
from pathlib import Path

from coordination.errors import CoordinationError
from workers.worktree import Worktree

Found = list[tuple[str, list[tuple[str, str]]]]
"""Pattern → file → digest."""


class NotKnown(CoordinationError):
    """What is in an input cannot be told."""


def found(patterns: Iterable[str], workspace: Worktree, say: Callable[[str], None]) -> Found:
    """What each pattern names in the worktree, in order; of one that names nothing the log is told, and it counts as such.

    Raises NotKnown or OSError.
    """
    return [(pattern, _files(pattern, workspace, say)) for pattern in patterns]


def _files(pattern: str, workspace: Worktree, say: Callable[[str], None]) -> list[tuple[str, str]]:
    options = ("-z", "--cached", "--others", "--deduplicate")
    listed = workspace.git("ls-files", *options, "--", f":(top,glob){pattern}")
    files = [(name, digest) for name in sorted(_names(listed)) if (digest := _digest(workspace.path, name))]
    if not files:
        say(f"cache: no file fits its input {pattern}; that counts as well")
    return files


def _names(listed: str) -> Iterator[str]:
    return (name for name in listed.split("\0") if name)


def _digest(root: Path, name: str) -> str:
    """Empty where there is none: git knows of a file that is gone."""
    path = root / name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(mode):
        return "link " + sha256(os.fsencode(path.readlink())).hexdigest()
    if stat.S_ISREG(mode):
        with path.open("rb") as file:
            kind = "program" if mode & stat.S_IXUSR else "file"
            return f"{kind} {file_digest(file, 'sha256').hexdigest()}"
    raise NotKnown(f"its input {name} is a repository of its own, or no file at all", "name files in the repository")
