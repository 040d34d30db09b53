"""Reading a checkpoint file that another process writes at this moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.attempt.output import Checkpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "output.json"


@pytest.mark.parametrize(
    "half", ["", "[1, 2", '{"a": 1', '"te', "tru", "12", "-1.5", "[1] [2]", "[NaN]", "[" * 300 + "]" * 300]
)
def test_half_of_what_is_written_is_never_told(file: Path, half: str):
    checkpoint = Checkpoint(1000)
    with checkpoint.watching(file):
        file.write_text(half)
        assert checkpoint.unsent() == ""


def test_what_is_whole_is_told_once_and_again_when_it_has_changed(file: Path):
    checkpoint = Checkpoint(1000)
    with checkpoint.watching(file):
        assert checkpoint.unsent() == ""
        file.write_text('{"a": [1, 2]}\n')
        assert checkpoint.unsent() == '{"a":[1,2]}'
        assert checkpoint.unsent() == '{"a":[1,2]}', "nobody said that Redis has it"
        checkpoint.sent('{"a":[1,2]}')
        assert checkpoint.unsent() == ""
        file.write_text('{"a": [1, 2, 3]}')
        assert checkpoint.unsent() == '{"a":[1,2,3]}'
    assert checkpoint.unsent() == ""


def test_at_the_end_there_is_left_what_redis_does_not_know(file: Path):
    known, unknown, number = Checkpoint(1000), Checkpoint(1000), Checkpoint(1000)
    for checkpoint, text in ((known, "[1]"), (unknown, "[2]"), (number, "12")):
        with checkpoint.watching(file):
            file.write_text("[1]")
            checkpoint.sent(checkpoint.unsent())
            file.write_text(text)
    assert [one.left for one in (known, unknown, number)] == ["", "[2]", "12"]


def test_more_than_the_limit_and_what_is_no_file_is_nothing(file: Path):
    checkpoint = Checkpoint(10)
    with checkpoint.watching(file):
        file.write_text('"0123456789"')
        assert checkpoint.unsent() == ""
        file.unlink()
        os.mkfifo(file)
        assert checkpoint.unsent() == ""
    assert checkpoint.left == ""
