"""The checkouts of a folder, and the first file that declares them. Real git, in a temporary folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coordination.cli import app
from coordination.ecosystem.document import load, parse
from coordination.ecosystem.first_file import find_repos, first_file, without_credentials, write_first
from coordination.errors import InvalidFile, UsageError
from coordination.models import Repo, ShellAction


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


def checkout(folder: Path, branch: str = "main") -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", branch)
    return folder


def test_checkouts_are_found_to_a_small_depth_and_not_in_what_is_no_place_for_them(tmp_path: Path):
    for name in ("b", "a", "group/c", "group/deep/d"):
        checkout(tmp_path / name)
    for name in (".hidden/x", "node_modules/x", "a/vendored", "w/x/y/z", ".venv/src/x"):
        checkout(tmp_path / name)
    (tmp_path / "no-repo").mkdir()

    repos = find_repos(tmp_path)

    assert [(r.name, r.path) for r in repos] == [
        ("a", "a"),
        ("b", "b"),
        ("c", "group/c"),
        ("d", "group/deep/d"),
    ]


def test_names_are_made_of_plain_letters_and_each_is_given_once(tmp_path: Path):
    for name in ("Café Noir", "x/api", "y/api", "東京", "cafe-noir", "Cafe.Noir"):
        checkout(tmp_path / name)

    names = [r.name for r in find_repos(tmp_path)]

    assert sorted(names) == ["Cafe-Noir", "Cafe.Noir", "api", "cafe-noir", "repo", "y-api"]


def test_the_branch_is_origins_default_or_else_the_one_that_is_checked_out(tmp_path: Path):
    checkout(tmp_path / "unborn", "trunk")
    source = checkout(tmp_path / "source", "develop")
    git(source, "commit", "-q", "--allow-empty", "-m", "x")
    git(tmp_path, "clone", "-q", str(source), "clone")
    git(tmp_path / "clone", "checkout", "-q", "-b", "feature")
    git(source, "checkout", "-q", "--detach")

    branches = {r.name: r.branch for r in find_repos(tmp_path)}

    assert branches == {"unborn": "trunk", "clone": "develop", "source": "develop"}


def test_of_several_worktrees_the_first_counts(tmp_path: Path):
    main = checkout(tmp_path / "app")
    git(main, "commit", "-q", "--allow-empty", "-m", "x")
    git(main, "worktree", "add", "-q", str(tmp_path / "app-fix"))

    assert [r.name for r in find_repos(tmp_path)] == ["app"]


def test_a_folder_that_is_a_checkout_itself_is_the_repository(tmp_path: Path):
    folder = checkout(tmp_path / "alone")

    assert [(r.name, r.path) for r in find_repos(folder)] == [("alone", ".")]


@pytest.mark.parametrize(
    ("url", "shared"),
    [
        ("https://ann:token@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://token@example.org:8443/a.git?x=secret#y", "https://example.org:8443/a.git"),
        ("ssh://git:pw@example.org/a.git", "ssh://git@example.org/a.git"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("../b.git", "../b.git"),
    ],
)
def test_passwords_and_tokens_do_not_get_into_the_file(url: str, shared: str):
    assert without_credentials(url) == shared


def test_the_address_of_origin_is_kept(tmp_path: Path):
    git(checkout(tmp_path / "a"), "remote", "add", "origin", "https://u:p@example.org/a.git")

    assert find_repos(tmp_path)[0].url == "https://example.org/a.git"


@pytest.mark.parametrize(
    "folders", [[], ["one"], ["one", "two"], ["no", "1.10", "a: b", "Größe # 1", "-x", "'q\""]]
)
def test_the_first_file_is_valid_without_a_warning(tmp_path: Path, folders: list[str]):
    for folder in folders:
        checkout(tmp_path / folder)
    repos = find_repos(tmp_path)
    path = tmp_path / "ecosystem.yaml"

    write_first(path, first_file(repos, "P-1", ["T-1", "T-2", "T-3"]))

    document = load(path)
    assert document.warnings == ()
    assert document.ecosystem.repos == tuple(repos)
    assert len(document.ecosystem.coordination.todos) == (3 if folders else 0)


@pytest.mark.parametrize(
    "bad", ["short", "UPPERCASE-ID", "x" * 65, "'eco 0000000'", "12345678", "[eco-00000000]"]
)
def test_an_id_of_an_ecosystem_that_is_none_is_refused_with_its_place(bad: str):
    with pytest.raises(InvalidFile) as refused:
        parse(f"coordination:\n  id: {bad}\n".encode(), Path("x"))

    (problem,) = refused.value.problems
    assert (problem.where, problem.line) == ("coordination.id", 2)


def test_the_first_plan_runs_in_any_repository_as_it_is(tmp_path: Path):
    folder = checkout(tmp_path / "empty")
    text = first_file([Repo(name="empty", path="empty")], "P-1", ["T-1", "T-2", "T-3"])

    for todo in parse(text.encode(), Path("x")).document.ecosystem.coordination.todos:
        assert isinstance(todo.action, ShellAction)
        subprocess.run(["sh", "-c", str(todo.action.run)], cwd=folder, check=True, capture_output=True)


def test_init_in_a_folder_without_repositories_writes_nothing_and_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        app.run(["init", str(tmp_path)])

    assert ended.value.code == 2
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) in capsys.readouterr().err


def test_a_file_that_exists_is_never_written_over(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text("mine")

    with pytest.raises(UsageError, match="exists already"):
        write_first(path, "new")

    assert path.read_text() == "mine"
