"""Repositories that are not as one would like: each gets its own words, and what lies in it is never lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testbed import PLAN, Done, Testbed, git

WRITE = "echo done > result; git rev-parse --abbrev-ref HEAD || true"


@pytest.fixture(scope="module")
def swept(new_testbed: Callable[[], Testbed]) -> tuple[Testbed, Done, dict[str, bytes]]:
    """One todo in each kind of repository, under `continue`."""
    testbed = new_testbed()
    for name in ("dirty", "taken", "elsewhere"):
        testbed.repo(name)
    spoil(testbed.folder / "dirty")
    git(testbed.folder / "taken", "branch", "coord")
    git(testbed.folder / "elsewhere", "branch", "-m", "main", "trunk")
    (testbed.folder / "plain").mkdir()
    (testbed.folder / "plain" / "notes").write_text("mine\n")
    (testbed.folder / "fresh").mkdir()
    git(testbed.folder / "fresh", "init", "-q", "-b", "main")
    (testbed.folder / "open").mkdir()
    (testbed.folder / "open" / "notes").write_text("mine\n")
    names = ("dirty", "taken", "elsewhere", "plain", "fresh", "open")
    todos = [{"id": name, "repo": name, "action": WRITE} for name in names]
    todos.append({"id": "closed", "repo": "open", "action": WRITE, "workspace": "worktree"})
    testbed.write(todos, repos={"open": {"workspace": "in-place"}}, plan={"on_failure": "continue"})
    before = content(testbed.folder / "dirty")
    return testbed, testbed.sweep(), before


def spoil(repository: Path) -> None:
    """Uncommitted work of every kind: staged, changed, new, ignored and stashed."""
    (repository / "README").write_text("stashed\n")
    git(repository, "-c", "user.name=T", "-c", "user.email=t@x", "stash", "-q")
    (repository / "staged").write_text("staged\n")
    git(repository, "add", "staged")
    (repository / "README").write_text("changed, not committed\n")
    (repository / "new").write_bytes(bytes(range(256)))
    (repository / ".gitignore").write_text("*.tmp\n")
    (repository / "scratch.tmp").write_text("ignored\n")


def content(repository: Path) -> dict[str, bytes]:
    """Every file of the checkout, and of its .git what says where it stands."""
    files = {p.relative_to(repository): p for p in repository.rglob("*") if p.is_file()}
    own = {name: path for name, path in files.items() if name.parts[0] != ".git"}
    for name in ("index", "HEAD", "refs/stash", "refs/heads/main", "config"):
        own[Path(".git", name)] = repository / ".git" / name
    return {str(name): path.read_bytes() for name, path in own.items()}


def test_uncommitted_work_is_untouched_byte_for_byte(swept: tuple[Testbed, Done, dict[str, bytes]]) -> None:
    testbed, answer, before = swept
    repository = testbed.folder / "dirty"

    assert answer.states["dirty"] == "succeeded"
    assert content(repository) == before
    run = answer.json["run_id"]
    assert git(repository, "show", f"coord/{run}:result") == "done"
    assert git(repository, "diff", "--name-only", "main", f"coord/{run}") == "result"


def test_a_branch_named_coord_is_refused_with_the_command_that_renames_it(
    swept: tuple[Testbed, Done, dict[str, bytes]],
) -> None:
    testbed, answer, _ = swept

    todo = answer.todo("taken")
    assert todo["state"] == "failed"
    assert "has a branch named coord" in todo["error"]
    assert f"git -C {testbed.folder}/taken branch -m coord" in todo["error"]
    assert (
        git(testbed.folder / "taken", "for-each-ref", "--format=%(refname:short)", "refs/heads")
        == "coord\nmain"
    )


def test_a_repository_without_the_declared_branch_is_refused_with_the_branches_there_are(
    swept: tuple[Testbed, Done, dict[str, bytes]],
) -> None:
    _, answer, _ = swept

    assert answer.states["elsewhere"] == "failed"
    assert "has no branch main; there are: trunk" in answer.todo("elsewhere")["error"]


@pytest.mark.parametrize(
    ("name", "why", "files"),
    [("plain", "is not a git repository", ["notes"]), ("fresh", "has no commit yet", [".git"])],
)
def test_a_folder_that_git_can_make_no_worktree_of_is_refused_with_what_to_do(
    swept: tuple[Testbed, Done, dict[str, bytes]], name: str, why: str, files: list[str]
) -> None:
    testbed, answer, _ = swept

    assert answer.states[name] == "failed"
    assert why in answer.todo(name)["error"]
    assert "workspace: in-place" in answer.todo(name)["error"]
    assert [path.name for path in (testbed.folder / name).iterdir()] == files


def test_a_todo_works_in_the_folder_itself_where_its_repository_says_so_and_the_todo_nothing_else(
    swept: tuple[Testbed, Done, dict[str, bytes]],
) -> None:
    testbed, answer, _ = swept

    assert answer.states["open"] == "succeeded"
    assert sorted(path.name for path in (testbed.folder / "open").iterdir()) == ["notes", "result"]
    assert answer.states["closed"] == "failed"
    assert answer.todo("closed")["error"].startswith("open: ")


def test_what_cannot_be_done_is_not_tried_again(swept: tuple[Testbed, Done, dict[str, bytes]]) -> None:
    _, answer, _ = swept

    assert answer.code == 3
    assert [answer.todo(name)["attempt"] for name in ("taken", "elsewhere")] == [1, 1]


def test_work_that_no_commit_has_fails_the_todo_or_is_named_and_kept(testbed: Testbed) -> None:
    allow = ("-c", "protocol.file.allow=always")
    testbed.repo("lib")
    top = testbed.repo("top")
    git(top, *allow, "submodule", "--quiet", "add", str(testbed.folder / "lib"), "lib")
    git(top, "commit", "-q", "-m", "with lib")
    commit = "git -C lib -c user.name=T -c user.email=t@x commit -q --allow-empty -m only-here"
    testbed.write(
        [
            {"id": "KEPT", "repo": "top", "action": f"{commit}; touch lib/new"},
            {"id": "LATER", "repo": "top", "action": "echo more > more", "blocked_by": ["KEPT"]},
            {"id": "LOST", "repo": "lib", "action": "git init -q vendor", "plan": "OTHER"},
        ],
        plans=[{"id": "OTHER", "title": "loses work"}],
    )
    testbed.up()

    kept = testbed.ok("sweep", PLAN, "--json").json
    lost = testbed.coord("sweep", "OTHER", "--json")

    assert [
        (one["reason"], one["paths"]) for one in testbed.todo("KEPT", kept["run_id"])["not_committed"]
    ] == [
        ("submodule_changes", ["lib"]),
        ("submodule_commit", ["lib"]),
    ]
    assert testbed.todo("LATER", kept["run_id"])["not_committed"] == []
    worktree = testbed.state / "worktrees" / kept["run_id"] / "top"
    shown = testbed.ok("show-run", kept["run_id"])
    assert f"fetch {worktree / 'lib'}" in shown.out
    assert lost.code == 3
    assert [one["reason"] for one in lost.todo("LOST")["not_committed"]] == ["repository"]

    assert testbed.coord("run", "clean", kept["run_id"], "--yes").code == 6
    assert worktree.is_dir()
    testbed.ok("run", "clean", kept["run_id"], "--unmerged", "--yes")
    assert not worktree.exists()


def test_a_retry_still_names_work_that_no_commit_has_and_clean_keeps_it(testbed: Testbed) -> None:
    testbed.repo("lib")
    top = testbed.repo("top")
    add = ("submodule", "--quiet", "add", str(testbed.folder / "lib"), "lib")
    git(top, "-c", "protocol.file.allow=always", *add)
    git(top, "commit", "-q", "-m", "with lib")
    commit = "git -C lib -c user.name=T -c user.email=t@x commit -q --allow-empty -m only-here"
    fails_once = 'echo ran >> "$LEDGER"; test "$(wc -l < "$LEDGER")" -gt 1 && echo more > more'
    testbed.write(
        [
            {"id": "KEPT", "repo": "top", "action": f"{commit}; touch lib/new"},
            {"id": "LATER", "repo": "lib", "action": fails_once, "blocked_by": ["KEPT"]},
        ]
    )
    testbed.up()
    failed = testbed.sweep()
    assert failed.states == {"KEPT": "succeeded", "LATER": "failed"}
    named = failed.todo("KEPT")["not_committed"]
    assert [one["reason"] for one in named] == ["submodule_changes", "submodule_commit"]
    worktree = testbed.state / "worktrees" / failed.json["run_id"] / "top"

    retried = testbed.ok("retry", failed.json["run_id"], "--json")

    assert retried.todo("KEPT")["not_committed"] == named
    assert f"fetch {worktree / 'lib'}" in testbed.ok("show-run", "last").out
    for runs in ([], [failed.json["run_id"]]):
        refused = testbed.coord("run", "clean", *runs, "--yes")
        assert (refused.code, str(worktree) in refused.err) == (6, True)
    assert str(worktree) in testbed.ok("run", "clean", "--merged", "--yes").err
    assert (worktree / "lib" / "new").exists()
