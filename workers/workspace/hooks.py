"""The repository's own hooks, started for our git without the variables by which git redirects git.

git gives a hook its GIT_DIR, in a worktree as an absolute path. A hook that makes a scratch repository
elsewhere would then commit on the run's branch, and write its settings into the configuration that the
checkout shares. So our git gets a folder of ours as `core.hooksPath`. It has a script for each hook of the
repository, which removes the variables and starts that hook: git in it finds the repository by its folder.

GIT_INDEX_FILE stays where it names another index than the folder's own (`git commit --only`), and the
variables of a quarantine stay, without which a hook of a push cannot read what arrives. So do coord's own
GIT_CONFIG_COUNT, which leaves out the files of `prepare`, and GIT_CEILING_DIRECTORIES.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordination.files import expanded, make_private, replacing
from coordination.git_programs import NO_HOOKS, OF_OBJECTS, REDIRECTING

CLEAN = f"""\
[ "${{GIT_INDEX_FILE-}}" != "${{GIT_DIR-.git}}/index" ] || unset GIT_INDEX_FILE
[ -n "${{GIT_QUARANTINE_PATH-}}" ] || unset {OF_OBJECTS}
unset {REDIRECTING}
"""
"""Shell commands that remove the variables."""
IN_WORK_TREE = "push-to-checkout"
"""The hook of a push that git starts in the git directory for the work tree which GIT_WORK_TREE names."""
ENTER_WORK_TREE = 'cd "${GIT_WORK_TREE-.}" || exit\n'


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """The hooks that a repository has for the git of one worktree."""

    folder: Path = Path()
    names: Sequence[str]
    """Names of files that git would execute."""
    named: str | None = None
    """The value of core.hooksPath; None if it is not set."""

    @classmethod
    def find(cls, place: Path, common_dir: Path, named: str | None) -> Hooks:
        """Return the hooks. `named`: the value of core.hooksPath, relative to the place where git starts
        them: the worktree, or for a push the git directory that receives it.
        """
        folder = common_dir / "hooks" if named is None else place / expanded(named or "/")
        try:
            files = sorted(folder.iterdir())
        except OSError:
            files = []
        names = [file.name for file in files if file.is_file() and os.access(file, os.X_OK)]
        return cls(folder=folder, named=named, names=[name for name in names if "." not in name])

    @property
    def missing(self) -> str:
        """Return why hooks that the configuration asks for do not run; empty if they do."""
        if not self.named or os.path.lexists(self.folder):
            return ""
        return f"no git hooks run: core.hooksPath names {self.named}, which is not in the worktree"

    def wrapped(self, into: Path) -> str:
        """Write the scripts into a folder; return the setting with which our git starts them. Raises OSError.

        The folder is one of ours, which no todo can write.
        """
        if not self.names:
            return NO_HOOKS[0]
        make_private(into)
        for former in into.iterdir():
            if former.name not in self.names:
                former.unlink()
        for name in self.names:  # replaced, because a git of a killed worker may still start them
            folder = ENTER_WORK_TREE if name == IN_WORK_TREE else ""
            script = f'#!/bin/sh\n{folder}{CLEAN}exec {shlex.quote(str(self.folder / name))} "$@"\n'
            with replacing(into / name, durable=False) as file:
                file.write(os.fsencode(script))
                os.fchmod(file.fileno(), 0o700)
        return f"core.hooksPath={into}"
