"""A result is in a base branch if the base contains its commit, or has what the commit would bring there:
tried on real repositories.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coordination.runs.landed_results import ExpectedResult, ResultFinding
from tests.testbed import git
from workers.cleanup.completed import findings

RUN = "20260101-000000-abcd"
BRANCH = f"coord/{RUN}"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """`main` with a file, and a run's branch with two commits to it, the first for T, the second for U."""
    path = tmp_path / "r1"
    git(tmp_path, "init", "-q", "-b", "main", str(path))
    committed(path, "0\n")
    git(path, "branch", BRANCH)
    for todo in "TU":
        done(path, todo, f"{todo}\n")
    return path


def committed(repo: Path, text: str, name: str = "f", words: str = "by hand") -> None:
    (repo / name).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", words)


def done(repo: Path, todo: str, text: str, name: str = "f") -> str:
    """One more commit of the run, by this todo; on main afterwards."""
    git(repo, "switch", "-q", BRANCH)
    committed(repo, text, name, f"{todo}: do it\n\nCoord-Run: {RUN}\nCoord-Todo: {todo}\nCoord-Fence: 1\n")
    git(repo, "switch", "-q", "main")
    return git(repo, "rev-parse", BRANCH)


def sixty_commits(repo: Path, name: str) -> None:
    """To this file, on main."""
    commit = (
        "commit refs/heads/main\ncommitter Ann <a@b> {at} +0000\ndata 5\nlater\n"
        "{since}M 644 inline {name}\ndata 3\n{n:02}\n\n"
    )
    stream = "".join(
        commit.format(at=1_800_000_000 + n, since="" if n else "from refs/heads/main^0\n", name=name, n=n)
        for n in range(60)
    )
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repo, input=stream.encode(), check=True)
    git(repo, "reset", "-q", "--hard")


def found(repo: Path, commit: str, todo: str = "T", **more: object) -> ResultFinding:
    """Return what is found of the result of a todo; with its `plan`, for a landing."""
    facts = {"todo": todo, "repo": "r1", "branch": "main", "commit": commit, "run": RUN, **more}
    (finding,) = findings({"r1": repo}, [ExpectedResult.model_validate(facts)])
    return finding


def why_not(repo: Path, commit: str | None = None, todo: str = "T", **more: object) -> str:
    """Return the reason why a result (of T unless a commit is given) is not in the base; empty if it is."""
    return found(repo, git(repo, "rev-parse", f"{BRANCH}~1") if commit is None else commit, todo, **more).why


def merged(repo: Path) -> None:
    git(repo, "merge", "-q", "--no-ff", BRANCH)


def squashed(repo: Path) -> None:
    git(repo, "merge", "-q", "--squash", BRANCH)
    git(repo, "commit", "-qm", "squashed")


def squashed_and_gone_on(repo: Path) -> None:
    squashed(repo)
    committed(repo, "later\n")


def rebased(repo: Path) -> None:
    committed(repo, "other\n", "g")
    git(repo, "cherry-pick", f"main..{BRANCH}")


def revert(repo: Path, *what: str) -> None:
    git(repo, "revert", "--no-edit", *what)


Land = Callable[[Path], None]


@pytest.mark.parametrize("land", [merged, squashed, squashed_and_gone_on, rebased])
def test_a_result_has_landed_however_people_merge(repo: Path, land: Land):
    assert why_not(repo)
    assert why_not(repo, commit=""), "by its trailers"
    land(repo)
    assert why_not(repo) == why_not(repo, commit="") == ""


def test_a_squashed_result_whose_branch_is_gone_is_known_by_the_recorded_tip(repo: Path):
    commit, tip = git(repo, "rev-parse", f"{BRANCH}~1"), git(repo, "rev-parse", BRANCH)
    squashed(repo)
    git(repo, "branch", "-qD", BRANCH)

    assert why_not(repo, commit)
    assert why_not(repo, commit, tips=[tip]) == ""
    assert why_not(repo, commit="") == "", "nothing tells of it any more"


def test_a_rebased_result_whose_branch_is_gone_is_known_by_its_trailers(repo: Path):
    rebased(repo)
    git(repo, "branch", "-qD", BRANCH)
    known = found(repo, commit="", plan="T")
    assert (known.why, known.commit) == ("", git(repo, "rev-parse", "main~1"))


@pytest.mark.parametrize("ref", [f"refs/coord/discarded/{RUN}/1", "refs/heads/mine", "refs/tags/old"])
def test_the_ref_that_alone_has_a_result_is_named(repo: Path, ref: str):
    commit = git(repo, "rev-parse", f"{BRANCH}~1")
    git(repo, "update-ref", ref, commit)
    git(repo, "branch", "-qD", BRANCH)
    known = found(repo, commit="", plan="T")
    assert (bool(known.why), known.commit, known.ref) == (True, commit, ref)


@pytest.mark.parametrize("then", ["mv f h", "echo more >> f", "echo else > f", "echo x > other"])
def test_a_merged_result_is_there_whatever_people_do_with_its_file_afterwards(repo: Path, then: str):
    merged(repo)
    subprocess.run(["sh", "-c", then], cwd=repo, check=True)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", then)
    assert why_not(repo) == ""


def test_a_base_without_the_result_or_anything_that_git_cannot_tell_is_no_landing(repo: Path, tmp_path: Path):
    committed(repo, "another\n", words="conflicts")

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
    revert(repo, "-m", "1", "HEAD")
    assert why_not(repo)
    assert why_not(repo, git(repo, "rev-parse", BRANCH), todo="U")

    revert(repo, "HEAD")
    assert why_not(repo) == ""


@pytest.mark.parametrize(
    ("land", "then"),
    [
        (merged, ""), (squashed, ""), (rebased, ""),
        (merged, "another way\n"), (squashed, "another way\n"), (merged, "another\nway\n"), (squashed,
        "another\nway\n"),
    ],
)  # fmt: skip
def test_a_result_that_was_put_back_and_done_another_way_has_not_landed(repo: Path, land: Land, then: str):
    land(repo)
    committed(repo, "0\n", words="back to what it was")
    committed(repo, then or "other\n", "f" if then else "h")
    assert why_not(repo)
    assert why_not(repo, git(repo, "rev-parse", BRANCH), todo="U")


def test_one_commit_of_several_that_is_reverted_alone_is_missed(repo: Path):
    commit = done(repo, "V", "V\n", "g")
    merged(repo)
    revert(repo, BRANCH)

    assert why_not(repo, commit, todo="V")
    assert (
        why_not(repo, git(repo, "rev-parse", f"{BRANCH}~2"))
        == why_not(repo, git(repo, "rev-parse", f"{BRANCH}~1"), todo="U")
        == ""
    )


@pytest.mark.parametrize("how", ["--ff-only", "--no-ff"])
def test_a_change_that_a_later_todo_took_away_is_not_missed(repo: Path, how: str):
    done(repo, "V", "0\n")
    git(repo, "merge", "-q", how, BRANCH)

    first, second = (git(repo, "rev-parse", f"{BRANCH}~{n}") for n in (2, 1))
    assert why_not(repo, first) == why_not(repo, second, todo="U") == ""


def test_a_reverted_result_is_missed_however_many_commits_touch_its_files_since(repo: Path):
    done(repo, "V", "V\n", "log")
    commit = done(repo, "V", "V\n", "g")
    merged(repo)
    revert(repo, "-m", "1", "HEAD")
    sixty_commits(repo, "log")
    assert why_not(repo, commit, todo="V")


def test_a_squashed_result_counts_however_many_commits_touch_its_files_since(repo: Path):
    squashed(repo)
    sixty_commits(repo, "f")
    assert why_not(repo) == ""


def test_a_merge_that_leaves_the_result_out_does_not_count(repo: Path):
    git(repo, "switch", "-q", "-c", "side", "main")
    committed(repo, "S\n", "g", "S: do it\n\nCoord-Run: 20260101-000000-wxyz\nCoord-Todo: S\n")
    git(repo, "switch", "-q", "main")
    git(repo, "merge", "-q", "-s", "ours", "side")
    assert why_not(repo, git(repo, "rev-parse", "side"), todo="S", run="20260101-000000-wxyz")


def test_a_mode_that_was_set_and_put_back_is_missed(repo: Path):
    git(repo, "switch", "-q", BRANCH)
    (repo / "f").chmod(0o755)
    commit = done(repo, "V", "U\n")
    merged(repo)
    assert why_not(repo, commit, todo="V") == ""
    (repo / "f").chmod(0o644)
    git(repo, "commit", "-qam", "not executable")
    assert why_not(repo, commit, todo="V")


def test_a_commit_that_the_todo_made_itself_is_missed_as_well(repo: Path):
    git(repo, "switch", "-q", "-c", "own")
    committed(repo, "mine\n", "g")
    git(repo, "switch", "-q", "main")
    git(repo, "merge", "-q", "--no-ff", "own")
    commit = git(repo, "rev-parse", "own")
    assert why_not(repo, commit, todo="OWN") == ""
    revert(repo, "-m", "1", "HEAD")
    assert why_not(repo, commit, todo="OWN")


def test_a_file_that_was_renamed_and_written_anew_since_is_not_missed(repo: Path):
    commit = done(repo, "V", "one\ntwo\nthree\n", "g")
    merged(repo)
    git(repo, "mv", "g", "h")
    git(repo, "commit", "-qm", "renamed")
    committed(repo, "something else\n", "h")
    assert why_not(repo, commit, todo="V") == ""


def test_another_new_file_of_the_same_content_is_not_the_result_renamed(repo: Path):
    git(repo, "switch", "-q", "-c", "own")
    committed(repo, "same\n", "mine")
    commit = git(repo, "rev-parse", "HEAD")
    git(repo, "switch", "-q", "main")
    committed(repo, "same\n", "theirs")
    assert why_not(repo, commit, todo="OWN")


@pytest.mark.parametrize(
    "strange",
    [
        "Coord-Todo: a\tb",
        "Coord-Todo: a\n  b\n \t c",
        f"Coord-Todo: {'x' * 20_000}",
        f"Coord-Todo: X\nCoord-Fence: {'9' * 5_000}",
        "Coord-Todo: X\nCoord-Todo: Y",
        "Coord-Todo:",
    ],
    ids=["tab", "folded", "long", "digits", "repeated", "empty"],
)
def test_strange_trailers_of_one_commit_hide_no_result_of_another(repo: Path, strange: str):
    git(repo, "switch", "-q", "-c", "coord/20200101-000000-aaaa")
    committed(repo, "strange\n", words=f"work\n\n{strange}\nCoord-Run: 20200101-000000-aaaa\n")
    git(repo, "switch", "-q", "main")

    assert why_not(repo, commit="", todo="U")
    assert not why_not(repo, commit="", todo="Z")
