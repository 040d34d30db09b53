"""Replacement of files as a whole, locks of files, and files that only this user may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from coordination.backend.embedded import EmbeddedServer
from coordination.errors import Unsafe
from coordination.files import (
    below,
    close_to_others,
    expanded,
    is_folder,
    is_removed,
    is_there,
    lock,
    loose,
    make_private,
    open_lock,
    open_private,
    remove_unfinished,
    replace_file,
    replacing,
    unlock,
    why_no_folder,
)
from coordination.settings import Settings


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_half_way(file: Path) -> None:
    with replacing(file, durable=True) as new:
        new.write(b"sec")
        raise ValueError("half of it")


@pytest.mark.parametrize("durable", [False, True])
def test_a_replaced_file_is_private_and_leaves_nothing_beside_it(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "a.json"
    replace_file(file, b"first", durable=durable)

    replace_file(file, b"second", durable=durable)

    assert file.read_bytes() == b"second"
    assert file.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == ["a.json"]


def test_a_replacement_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    replace_file(file, b"first", durable=False)

    with pytest.raises(ValueError, match="half"):
        fail_half_way(file)

    assert file.read_bytes() == b"first"
    assert names_in(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_removed_and_no_other_file(tmp_path: Path) -> None:
    for name in (".a.json.coord-1.tmp", ".b.json.coord-1.tmp", "a.json"):
        (tmp_path / name).touch()

    remove_unfinished(tmp_path / "a.json")

    assert names_in(tmp_path) == [".b.json.coord-1.tmp", "a.json"]


def test_a_lock_is_waited_for_no_longer_than_asked_and_free_after_its_end(tmp_path: Path) -> None:
    first, second = open_lock(tmp_path / "lock"), open_lock(tmp_path / "lock")
    assert lock(first)

    assert not lock(second, wait_s=0.05)
    unlock(first)

    assert lock(second, wait_s=0)
    os.close(first)
    os.close(second)


def test_a_lock_file_that_was_made_anew_is_recognised(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    descriptor = open_lock(file)
    assert not is_removed(descriptor, file)

    file.unlink()
    assert is_removed(descriptor, file)
    replace_file(file, b"", durable=False)

    assert is_removed(descriptor, file)
    os.close(descriptor)


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


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop/in", "file/in", "nothing"])
def test_a_path_at_which_the_system_does_not_look_is_no_folder_and_the_reason_is_named(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    path = tmp_path / name

    assert not is_folder(path)
    assert not is_there(path)
    assert str(path) in why_no_folder(path)
    assert why_no_folder(tmp_path) == ""


def test_the_home_of_a_user_who_is_not_there_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")

    assert expanded("~/x") == Path("/home/ann/x")
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a", "a\0b", "a" * 256])
def test_a_name_that_leads_out_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    assert below(tmp_path, "a", "..b") == tmp_path / "a" / "..b"
    with pytest.raises(Unsafe):
        below(tmp_path, "a", name)
