"""Where `coord worker` looks for the repositories that it is told to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.errors import UsageError
from coordination.models import FILE_NAME
from tests.testbed import git
from workers.config import argument_parser, read_config

REDIS = ("--redis", "redis://localhost")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "a/inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("a")
    return tmp_path


def places(*words: str) -> dict[str, Path]:
    return dict(read_config(argument_parser().parse_args([*REDIS, *words])).places)


def test_repositories_without_a_path_lie_in_folders_of_their_names(here: Path):
    assert places("--repo", "a", "--repo", "b") == {"a": here / "a", "b": here / "b"}


def test_a_repository_without_a_path_and_without_a_folder_of_its_name_is_refused(here: Path):
    with pytest.raises(UsageError) as refused:
        places("--repo", "a", "--repo", "missing")
    assert "--repo missing=PATH" in refused.value.hint


@pytest.mark.parametrize("other", ["x=a", "x=./a/../a", "x=link", "x=a/inner", "x=."])
def test_two_repositories_never_share_a_folder(here: Path, other: str):
    with pytest.raises(UsageError, match="share a folder"):
        places("--repo", "a", "--repo", other)


def test_a_repository_of_its_own_may_lie_inside_another_one(here: Path):
    for path in (here, here / "a"):
        git(path, "init", "-q")

    assert places("--repo", "all=.", "--repo", "a") == {"all": here, "a": here / "a"}


def test_all_of_the_file_leaves_out_what_lies_on_another_machine_and_refuses_a_shared_folder(here: Path):
    file = here / FILE_NAME
    file.write_text("repos: [{name: a}, {name: elsewhere}, {name: gone, path: not/there}]\n")

    assert places("--all") == {"a": here / "a", "gone": here / "not/there"}

    file.write_text("repos: [{name: a}, {name: c, path: link}]\n")
    with pytest.raises(UsageError, match="share a folder"):
        places("--all")


def test_a_path_in_the_home_folder_is_the_same_for_commands_and_workers(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(here / "b"))
    (here / FILE_NAME).write_text("repos: [{name: x, path: ~/inner}]\n")

    assert places("--all") == {"x": here / "b" / "inner"}


def test_a_link_to_itself_is_a_folder_that_is_not_there(here: Path):
    (here / "loop").symlink_to("loop")

    assert places("--repo", "x=loop/a") == {"x": here / "loop/a"}
