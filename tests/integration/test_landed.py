"""A result is in a base branch if the base contains its commit, or has what the commit would bring there: tried on real repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.runs.cleaning import Sought
from tests.stage import git
from workers.landed import findings

RUN = "20260101-000000-abcd"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """`main` with a file, and a run's branch with two commits to it, the first for T, the second for U."""
    path = tmp_path / "r1"
    git(tmp_path, "init", "-q", "-b", "main", str(path))
    (path / "f").write_text("0\n")
    git(path, "add", "f")
    git(path, "commit", "-qm", "first")
    git(path, "switch", "-qc", f"coord/{RUN}")
    for todo in "TU":
        (path / "f").write_text(f"{todo}\n")
        git(path, "commit", "-qam", f"{todo}: do it\n\nCoord-Run: {RUN}\nCoord-Todo: {todo}\nCoord-Fence: 1\n")
    git(path, "switch", "-q", "main")
    return path


def why_not(repo: Path, commit: str | None = None, todo: str = "T", **more: object) -> str:
    commit = git(repo, "rev-parse", f"coord/{RUN}~1") if commit is None else commit
    sought = Sought.model_validate({"todo": todo, "repo": "r1", "branch": "main", "commit": commit, "run": RUN, **more})
    (finding,) = findings({"r1": repo}, [sought])
    return finding.why


def merged(repo: Path) -> None:
    git(repo, "merge", "-q", "--no-ff", f"coord/{RUN}")


def squashed(repo: Path) -> None:
    git(repo, "merge", "-q", "--squash", f"coord/{RUN}")
    git(repo, "commit", "-qm", "squashed")


def squashed_and_gone_on(repo: Path) -> None:
    squashed(repo)
    (repo / "f").write_text("later\n")
    git(repo, "commit", "-qam", "later")


def rebased(repo: Path) -> None:
    (repo / "g").write_text("other\n")
    git(repo, "add", "g")
    git(repo, "commit", "-qm", "other")
    git(repo, "cherry-pick", f"main..coord/{RUN}")


@pytest.mark.parametrize("land", [merged, squashed, squashed_and_gone_on, rebased])
def test_a_result_has_landed_however_people_merge(repo: Path, land):  # type: ignore[no-untyped-def]
    assert why_not(repo)
    assert why_not(repo, commit=""), "by its trailers"
    land(repo)
    assert why_not(repo) == why_not(repo, commit="") == ""


def test_a_squashed_result_whose_branch_is_gone_is_known_by_the_tip_that_redis_recorded(repo: Path):
    commit, tip = git(repo, "rev-parse", f"coord/{RUN}~1"), git(repo, "rev-parse", f"coord/{RUN}")
    squashed(repo)
    git(repo, "branch", "-qD", f"coord/{RUN}")

    assert why_not(repo, commit)
    assert why_not(repo, commit, tips=[tip]) == ""
    assert why_not(repo, commit="") == "", "nothing tells of it any more"


def test_a_base_without_the_result_or_anything_that_git_cannot_tell_is_no_landing(repo: Path, tmp_path: Path):
    (repo / "f").write_text("another\n")
    git(repo, "commit", "-qam", "conflicts")

    assert why_not(repo)
    assert why_not(repo, "0" * 40)
    assert why_not(repo, "--output=x")
    assert why_not(repo, branch="gone")
    assert why_not(repo, branch="--all")
    assert why_not(tmp_path / "nothing", "0" * 40)
    assert why_not(repo, commit="", todo="X") == ""
    assert not (repo / "x").exists()


def test_a_result_that_people_reverted_has_not_landed_until_they_bring_it_back(repo: Path):
    merged(repo)
    git(repo, "revert", "--no-edit", "-m", "1", "HEAD")
    assert why_not(repo)
    assert why_not(repo, git(repo, "rev-parse", f"coord/{RUN}"), todo="U")

    git(repo, "revert", "--no-edit", "HEAD")
    assert why_not(repo) == ""


@pytest.mark.parametrize("land", [merged, squashed, rebased])
def test_a_result_whose_files_were_put_back_by_hand_has_not_landed(repo: Path, land):  # type: ignore[no-untyped-def]
    land(repo)
    (repo / "f").write_text("0\n")
    git(repo, "commit", "-qam", "back to what it was")
    (repo / "h").write_text("other\n")
    git(repo, "add", "h")
    git(repo, "commit", "-qm", "other")
    assert why_not(repo)
    assert why_not(repo, git(repo, "rev-parse", f"coord/{RUN}"), todo="U")


def test_one_commit_of_several_that_is_reverted_alone_is_missed(repo: Path):
    git(repo, "switch", "-q", f"coord/{RUN}")
    (repo / "g").write_text("V\n")
    git(repo, "add", "g")
    git(repo, "commit", "-qm", f"V: do it\n\nCoord-Run: {RUN}\nCoord-Todo: V\n")
    git(repo, "switch", "-q", "main")
    merged(repo)
    git(repo, "revert", "--no-edit", f"coord/{RUN}")

    assert why_not(repo, git(repo, "rev-parse", f"coord/{RUN}"), todo="V")
    assert why_not(repo) == why_not(repo, git(repo, "rev-parse", f"coord/{RUN}~1"), todo="U") == ""


@pytest.mark.parametrize("how", ["--ff-only", "--no-ff"])
def test_what_a_later_todo_took_away_is_not_missed(repo: Path, how: str):
    git(repo, "switch", "-q", f"coord/{RUN}")
    (repo / "f").write_text("0\n")
    git(repo, "commit", "-qam", f"V: take it away\n\nCoord-Run: {RUN}\nCoord-Todo: V\n")
    git(repo, "switch", "-q", "main")
    git(repo, "merge", "-q", how, f"coord/{RUN}")

    assert why_not(repo, git(repo, "rev-parse", f"coord/{RUN}~1"), todo="U") == why_not(repo) == ""
