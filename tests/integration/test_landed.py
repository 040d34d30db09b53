"""A result is in a base branch if the base contains its commit, or has what the commit would bring there:
tried on real repositories.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coordination.runs.cleanup_jobs import Sought
from tests.stage import git
from workers.cleanup.landed import findings

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
        git(
            path, "commit", "-qam", f"{todo}: do it\n\nCoord-Run: {RUN}\nCoord-Todo: {todo}\nCoord-Fence: 1\n"
        )
    git(path, "switch", "-q", "main")
    return path


def why_not(repo: Path, commit: str | None = None, todo: str = "T", **more: object) -> str:
    commit = git(repo, "rev-parse", f"coord/{RUN}~1") if commit is None else commit
    sought = Sought.model_validate(
        {"todo": todo, "repo": "r1", "branch": "main", "commit": commit, "run": RUN, **more}
    )
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
def test_a_result_whose_files_were_restored_by_hand_has_not_landed(
    repo: Path, land: Callable[[Path], None]
) -> None:
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


def committed(repo: Path, text: str | None = None, name: str = "f", words: str = "by hand") -> None:
    if text is None:
        (repo / name).unlink()
    else:
        (repo / name).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", words)


@pytest.mark.parametrize("land", [merged, squashed])
@pytest.mark.parametrize("then", ["another way\n", "another\nway\n"])
def test_a_result_that_was_reverted_and_done_in_another_way_has_not_landed(
    repo: Path, land: Callable[[Path], None], then: str
) -> None:
    land(repo)
    committed(repo, "0\n", words="reverted")
    committed(repo, then, words="fixed differently")
    assert why_not(repo)
    assert why_not(repo, git(repo, "rev-parse", f"coord/{RUN}"), todo="U")


def test_a_result_that_was_reverted_is_missed_however_many_commits_touch_its_files_since(repo: Path):
    git(repo, "switch", "-q", f"coord/{RUN}")
    (repo / "log").write_text("V\n")
    committed(repo, "V\n", "g", f"V: do it\n\nCoord-Run: {RUN}\nCoord-Todo: V\n")
    git(repo, "switch", "-q", "main")
    merged(repo)
    git(repo, "revert", "--no-edit", "-m", "1", "HEAD")
    for number in range(60):
        committed(repo, f"{number}\n", "log")
    assert why_not(repo, git(repo, "rev-parse", f"coord/{RUN}"), todo="V")


def test_a_result_that_was_squashed_counts_however_many_commits_touch_its_files_since(repo: Path):
    squashed(repo)
    for number in range(1, 61):
        committed(repo, f"{number}\n")
    assert why_not(repo) == ""


def test_a_merge_that_leaves_the_result_out_does_not_count(repo: Path):
    git(repo, "switch", "-q", "-c", "side", "main")
    committed(repo, "S\n", "g", "S: do it\n\nCoord-Run: 20260101-000000-wxyz\nCoord-Todo: S\n")
    commit = git(repo, "rev-parse", "side")
    git(repo, "switch", "-q", "main")
    git(repo, "merge", "-q", "-s", "ours", "side")
    assert why_not(repo, commit, todo="S", run="20260101-000000-wxyz")


def test_a_mode_that_was_set_and_put_back_is_missed(repo: Path):
    git(repo, "switch", "-q", f"coord/{RUN}")
    (repo / "f").chmod(0o755)
    git(repo, "commit", "-qam", f"V: make it run\n\nCoord-Run: {RUN}\nCoord-Todo: V\n")
    commit = git(repo, "rev-parse", "HEAD")
    git(repo, "switch", "-q", "main")
    merged(repo)
    assert why_not(repo, commit, todo="V") == ""
    (repo / "f").chmod(0o644)
    git(repo, "commit", "-qam", "not executable")
    assert why_not(repo, commit, todo="V")


def test_a_commit_that_the_todo_made_itself_is_missed_as_well(repo: Path):
    git(repo, "switch", "-q", "-c", "own")
    committed(repo, "mine\n", "g")
    commit = git(repo, "rev-parse", "own")
    git(repo, "switch", "-q", "main")
    git(repo, "merge", "-q", "--no-ff", "own")
    assert why_not(repo, commit, todo="OWN") == ""
    git(repo, "revert", "--no-edit", "-m", "1", "HEAD")
    assert why_not(repo, commit, todo="OWN")


def test_a_file_that_was_renamed_and_written_anew_since_is_not_missed(repo: Path):
    git(repo, "switch", "-q", f"coord/{RUN}")
    committed(repo, "one\ntwo\nthree\n", "g", f"V: do it\n\nCoord-Run: {RUN}\nCoord-Todo: V\n")
    commit = git(repo, "rev-parse", "HEAD")
    git(repo, "switch", "-q", "main")
    merged(repo)
    git(repo, "mv", "g", "h")
    git(repo, "commit", "-qm", "renamed")
    committed(repo, "something else\n", "h")
    assert why_not(repo, commit, todo="V") == ""
