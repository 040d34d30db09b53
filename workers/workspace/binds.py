"""The parts of a repository that a todo in a sandbox may write.

A todo that could write git's configuration, hooks or attributes, or name other ones, would execute commands
outside of its sandbox: with the next git of the worker, or of the checkout's owner. So the repository's
`.git` is read-only but for the objects, the run's branch and the entry of the worktree, and of the entry
those files stay as they are that say where git looks:

    <worktree>/.git                          pinned: names the entry
    .git/worktrees/<name>/                   writable: index, HEAD, a merge in progress
    .git/worktrees/<name>/commondir, gitdir, config.worktree, modules     pinned
    .git/objects                             writable; its info (alternates) pinned
    .git/refs/heads/coord, .git/logs/refs/heads/coord                     writable

So a todo can make commits on the run's branch, and no other branches, tags, stashes or remotes. Its damage is
bounded by its own repository: it could delete objects, and move branches of runs, whose tips workers know
from Redis and compare.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from coordination.sandbox import Binds

PINNED = ("commondir", "gitdir", "config.worktree", "modules")
DEEPEST = 5
"""The most alternates of alternates that git follows."""


def worktree_binds(path: Path, git_dir: Path, branch: str) -> Binds:
    """Return the binds of a worktree: `git_dir` is its entry, `branch` that of the run.

    Makes the folders of the branch and of its log, which git would make.
    """
    common = git_dir.parent.parent
    branches = Path("refs", "heads", branch).parent
    places = (common / branches, common / "logs" / branches)
    for place in (*places, git_dir / "modules"):
        place.mkdir(parents=True, exist_ok=True)
    pinned = (path / ".git", *(git_dir / name for name in PINNED), common / "objects" / "info")
    return Binds(
        readable=(common, *_alternates(common / "objects", DEEPEST)),
        writable=(path, git_dir, common / "objects", *places),
        pinned=tuple(part for part in pinned if part.exists()),
    )


def _alternates(objects: Path, depth: int) -> Iterator[Path]:
    """Yield the folders of objects that these lean on: a clone with --reference or --shared has them."""
    file = objects / "info" / "alternates"
    if not depth or not file.is_file():
        return
    for line in os.fsdecode(file.read_bytes()).splitlines():
        place = Path(os.path.normpath(objects / line))
        if line and not line.startswith("#") and place.is_dir():
            yield place
            yield from _alternates(place, depth - 1)
