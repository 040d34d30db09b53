"""Where a picture is written: over one of coord's own, and over nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.charts.svg import document
from coordination.cli.screen.output import write_picture
from coordination.errors import Conflict, CoordinationError, UsageError

PICTURE = document(10, 10, "a picture", [])


def test_a_picture_of_coords_is_drawn_anew(tmp_path: Path):
    path = tmp_path / "out.svg"
    write_picture(path, PICTURE)
    write_picture(path, document(20, 20, "another", []))

    assert "another" in path.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["out.svg"]


@pytest.mark.parametrize("text", ["<svg/>", "my notes"])
def test_any_other_file_stays(tmp_path: Path, text: str):
    path = tmp_path / "out.svg"
    path.write_text(text)

    with pytest.raises(Conflict, match=r"exists and is not a picture of coord"):
        write_picture(path, PICTURE)
    assert path.read_text() == text


def test_an_empty_file_is_nothing_to_lose(tmp_path: Path):
    (tmp_path / "out.svg").touch()
    write_picture(tmp_path / "out.svg", PICTURE)

    assert (tmp_path / "out.svg").read_text() == PICTURE


def test_what_is_not_called_svg_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="the picture is SVG"):
        write_picture(tmp_path / "out.png", PICTURE)


@pytest.mark.parametrize("name", ["nowhere/out.svg", "folder.svg"])
def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, name: str):
    (tmp_path / "folder.svg").mkdir()

    with pytest.raises(CoordinationError, match="cannot be written: "):
        write_picture(tmp_path / name, PICTURE)
