"""Replacement of files as a whole, and locks of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordination.files import is_removed, lock, open_lock, remove_unfinished, replace_file, replacing, unlock


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
