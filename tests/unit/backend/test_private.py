"""Files and folders that this user alone may read."""

from __future__ import annotations

import stat
from pathlib import Path

from coordination.backend.embedded import EmbeddedServer
from coordination.files import close_to_others, loose, make_private, open_private
from coordination.settings import Settings


def test_what_is_made_is_private_and_what_was_loose_is_closed_without_following_links(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.touch(0o644)
    state = tmp_path / "state"
    make_private(state / "a" / "b")
    with open_private(state / "a" / "file") as file:
        file.write("x")
    assert list(loose(state)) == []

    (state / "a" / "link").symlink_to(outside)
    (state / "a" / "script").touch(0o755)
    (state / "a" / "b").chmod(0o755)
    assert close_to_others(state) == [state / "a" / "b", state / "a" / "script"]
    assert list(loose(state)) == []
    assert stat.S_IMODE((state / "a" / "script").stat().st_mode) == 0o700
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_the_modes_of_a_worktree_are_its_repositorys(tmp_path: Path):
    worktree = tmp_path / "state" / "worktrees" / "R" / "api"
    worktree.mkdir(parents=True)
    (worktree / ".git").touch()
    (worktree / "README").touch(0o644)

    close_to_others(tmp_path / "state")

    assert stat.S_IMODE((worktree / "README").stat().st_mode) == 0o644
    assert stat.S_IMODE(worktree.parent.stat().st_mode) == 0o700


def test_all_that_the_embedded_server_writes_is_private(tmp_path: Path):
    server = EmbeddedServer(tmp_path / ".coord", Settings())
    server.start()
    try:
        assert (tmp_path / ".coord" / "appendonlydir").is_dir()
        assert list(loose(tmp_path / ".coord")) == []
    finally:
        server.stop()
