"""Trouble that passes or lasts: of git by its exit code and output, of the system by its error number."""

from __future__ import annotations

import errno
import os

import pytest

from workers.process.trouble import Trouble, trouble_of_error, trouble_of_git

LOCK = (
    "fatal: Unable to create '/r/.git/refs/heads/coord/R.lock': "
    "File exists.\n\nAnother git process seems to be running"
)
MOVED = (
    "fatal: update_ref failed for ref 'refs/heads/x': cannot lock ref 'refs/heads/x': "
    "is at 12ab but expected 34cd"
)
OUTPUTS: list[tuple[int, str, Trouble | None]] = [
    (0, "warning: unable to write: No space left on device", None),
    (-9, "", Trouble.KILLED),
    (-15, "error: anything", Trouble.KILLED),
    (137, "", Trouble.KILLED),
    (128, "error: git died of signal 9\nfatal: worktree add", Trouble.KILLED),
    (129, "usage: git worktree add", None),
    (128, "fatal: cannot create directory at 'a': No space left on device", Trouble.DISK),
    (128, "fatal: sha1 file '/r/.git/worktrees/up/index.lock' write error. Out of diskspace", Trouble.DISK),
    (128, "error: unable to write file a b\nfatal: Could not reset index file to revision '12ab'.",
        Trouble.DISK),
    (128, "error: unable to write file .git/objects/12/ab: Permission denied", None),
    (128, f"error: invalid object 100644 {'12' * 20} for 'x'\nfatal: git-write-tree: error", Trouble.DAMAGED),
    (1, f"error: invalid object 100644 {'12' * 20} for 'x'\nerror: Error building trees", Trouble.DAMAGED),
    (128, f"fatal: unexpected missing blob object '{'12' * 20}'", Trouble.DAMAGED),
    (128, f"fatal: bad tree object {'12' * 20}", Trouble.DAMAGED),
    (128, "error: file write error: No space left on device\nfatal: unable to write loose object",
        Trouble.DISK),
    (128, "fatal: write error: Input/output error", Trouble.DISK),
    (128, "error: could not write config file: Disk quota exceeded", Trouble.DISK),
    (128, "fatal: Unable to create '/r/.git/index.lock': No space left on device", Trouble.DISK),
    (128, "fatal: cannot create async thread: Resource temporarily unavailable", Trouble.MACHINE),
    (128, "fatal: Out of memory, malloc failed (tried to allocate 1 bytes)", Trouble.MACHINE),
    (128, LOCK, Trouble.LOCKED),
    (255, "error: could not lock config file .git/config: File exists", Trouble.LOCKED),
    (128, "fatal: not a git repository: /r/.git/worktrees/up", Trouble.DAMAGED),
    (128, "fatal: index file corrupt", Trouble.DAMAGED),
    (128, "fatal: Unable to read current working directory: No such file or directory", Trouble.MISSING),
    (128, MOVED, None),
    (128, "fatal: bad config line 1 in file /r/.git/config", None),
    (128, "fatal: not a valid object name: No space left on device.txt", None),
    (128, "fatal: Unable to create '/r/.git/index.lock': Permission denied", None),
    (1, "error: object file .git/objects/ab/cd is empty", None),
]  # fmt: skip


@pytest.mark.parametrize(("exit_code", "output", "trouble"), OUTPUTS)
def test_trouble_of_git_passes_or_lasts(exit_code: int, output: str, trouble: Trouble | None):
    assert trouble_of_git(exit_code, output) is trouble


@pytest.mark.parametrize(
    ("number", "trouble"),
    [
        (errno.ENOSPC, Trouble.DISK),
        (errno.EDQUOT, Trouble.DISK),
        (errno.EIO, Trouble.DISK),
        (errno.EMFILE, Trouble.MACHINE),
        (errno.ENOENT, Trouble.MISSING),
        (errno.EACCES, None),
        (errno.ENOTDIR, None),
    ],
)
def test_trouble_of_the_system_passes_or_lasts(number: int, trouble: Trouble | None):
    assert trouble_of_error(OSError(number, os.strerror(number))) is trouble
