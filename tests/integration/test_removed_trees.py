"""Folders that a todo has made hard to remove."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import FORKS

NOBODY = 65534
HARD = {
    "listed by nobody": "os.makedirs('x/y'); os.chmod('x', 0)",
    "written by nobody": "os.makedirs('x/y'); os.chmod('x', 0o500)",
    "one in another": "os.makedirs('x/y/z'); os.chmod('x/y', 0); os.chmod('x', 0)",
    "itself": "os.mkdir('x'); os.chmod('.', 0)",
    "deep": "deep(); os.makedirs('e/f'); os.chmod('e', 0o500)",
    "deep and listed by nobody": "deep(); os.makedirs('e/f'); os.chmod('e', 0)",
    "a link": "os.symlink(sys.argv[2], 'x'); os.mkdir('y'); os.chmod('y', 0)",
}
SCRIPT = """
import os, sys
from pathlib import Path
from workers.workspace.files import remove_tree
if os.geteuid() == 0:  # root may remove everything
    os.setgid({nobody})
    os.setuid({nobody})
def deep():
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
place = Path(sys.argv[1])
place.mkdir()
os.chdir(place)
{make}
os.chdir("/")
remove_tree(place)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nobody may enter; those of pytest are root's alone."""
    made = Path(tempfile.mkdtemp(prefix="coord-hard-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("name", HARD)
def test_a_folder_is_removed_whatever_a_todo_has_made_of_it(folder: Path, name: str):
    other = folder / "other"
    other.mkdir()
    (other / "file").touch()
    other.chmod(0o555)
    text = SCRIPT.format(nobody=NOBODY, make=HARD[name])

    command = [sys.executable, "-c", text, str(folder / "it"), str(other)]
    ended = FORKS.run(command, cwd=folder, env=os.environ, timeout=60)

    assert ended.returncode == 0, ended.stderr
    assert list(folder.iterdir()) == [other]
    assert other.stat().st_mode & 0o777 == 0o555
    assert (other / "file").exists()
