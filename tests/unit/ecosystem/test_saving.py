"""A file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.ecosystem.editing import Edit, edit, exclusive, save
from coordination.errors import CoordinationError, EditConflict

TEXT = "coordination: {todos: [{id: T, task: t, repo: r}]}\n"


def test_mode_and_symlink_stay_and_nothing_is_left_over(path: Path):
    path.chmod(0o640)
    link = path.parent / "here" / "link.yaml"
    link.parent.mkdir()
    link.symlink_to("../ecosystem.yaml")

    edit(link, lambda edit: edit.set(("todos", "T"), "actual_hours", 1))

    assert link.is_symlink()
    assert "actual_hours: 1" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert {p.name for p in path.parent.iterdir()} == {"ecosystem.yaml", "here", ".coord"}
    assert [p.name for p in link.parent.iterdir()] == ["link.yaml"]


def test_a_read_only_file_is_refused(path: Path):
    path.chmod(0o444)

    with pytest.raises(CoordinationError, match="was not changed: the file is read-only") as caught:
        edit(path, lambda edit: edit.set(("todos", "T"), "actual_hours", 1))

    assert caught.value.hint
    assert path.read_text() == TEXT


def test_a_failure_while_writing_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(CoordinationError, match="No space left on device"):
        save(path, b"new")

    assert path.read_text() == TEXT
    assert [p.name for p in path.parent.iterdir()] == ["ecosystem.yaml"]


def test_a_folder_that_cannot_be_synced_makes_no_failure_of_what_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    sync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)

    save(path, b"new")

    assert path.read_text() == "new"


def test_a_lock_that_somebody_keeps_is_a_conflict(path: Path):
    with (
        exclusive(path),
        pytest.raises(EditConflict, match="another process is editing"),
        exclusive(path, wait=timedelta(0)),
    ):
        pass

    with exclusive(path, wait=timedelta(0)):
        pass


def test_an_editor_that_saves_in_between_loses_nothing(path: Path):
    saves = iter(["# a word\n" + TEXT])

    def rename(edit: Edit) -> None:
        for text in saves:  # an editor that knows no lock
            path.write_text(text)
        edit.set(("todos", "T"), "task", "new")

    document = edit(path, rename)

    assert path.read_text() == "# a word\n" + TEXT.replace("task: t", "task: new")
    assert document.text == path.read_bytes()


def test_an_editor_that_never_stops_saving_wins(path: Path):
    def touch(edit: Edit) -> None:
        path.write_text(path.read_text() + "#\n")
        edit.set(("todos", "T"), "task", "mine")

    with pytest.raises(EditConflict, match="was changed 5 times"):
        edit(path, touch)

    assert "mine" not in path.read_text()
