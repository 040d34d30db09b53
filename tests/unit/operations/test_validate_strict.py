"""`coord validate` says what no run could execute, and with --strict it ends with exit code 2."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from coordination.backend.address import is_open_to_readers
from coordination.cli import app
from coordination.ecosystem.document import load
from coordination.operations.checkup import look_at_file
from coordination.operations.doctor import Checkup, Server, findings
from coordination.operations.executable import Obstacles, judge_executable
from coordination.operations.machine_check import Machine
from coordination.settings import Settings
from tests.testbed import git


def judged(folder: Path, text: str, **settings: object) -> Obstacles:
    path = folder / "ecosystem.yaml"
    path.write_text(text)
    return judge_executable(load(path), Settings.model_validate(settings))


def plan(*todos: str) -> str:
    rows = "".join(f"    - {todo}\n" for todo in todos)
    return f"repos: [{{name: api}}]\ncoordination:\n  plans: [{{id: P, title: t}}]\n  todos:\n{rows}"


@pytest.mark.parametrize(
    "todos",
    [
        ("{id: A, task: t, repo: api, plan: P, action: x, blocked_by: [B]}",
         "{id: B, task: t, repo: api, plan: P, action: x, blocked_by: [A]}"),
        ("{id: A, task: t, repo: api, plan: P, action: x, blocked_by: [NOBODY]}",),
        ("{id: A, task: t, repo: undeclared, plan: P, action: x}",),
        ("{id: A, task: t, repo: api, plan: P}",),
    ],
    ids=["a cycle", "an unknown blocker", "an undeclared repository", "no action and no agent"],
)  # fmt: skip
def test_a_plan_that_a_sweep_would_refuse_is_named(tmp_path: Path, todos: tuple[str, ...]):
    assert judged(tmp_path, plan(*todos)).refused_plans == ("P",)


def test_an_agent_command_carries_out_todos_without_an_action(tmp_path: Path):
    text = plan("{id: A, task: t, repo: api, plan: P}")

    assert judged(tmp_path, text, agent_command="my-agent").problems == ()


def test_a_base_branch_that_the_remote_has_renamed_is_named_with_the_line_to_change(tmp_path: Path):
    remote = tmp_path / "remote"
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(remote))
    git(remote, "commit", "--quiet", "--allow-empty", "-m", "begin")
    git(tmp_path, "clone", "--quiet", str(remote), "old")
    git(remote, "branch", "--move", "main", "trunk")
    git(tmp_path, "clone", "--quiet", str(remote), "new")
    text = "".join(f"- {{name: {name}, path: {name}, url: {remote}}}\n" for name in ("old", "new"))
    assert [one.where for one in judged(tmp_path, f"repos:\n{text}").problems] == ["new"]
    git(tmp_path / "old", "fetch", "--quiet", "--prune")
    found = judged(tmp_path, f"repos:\n{text}").problems
    assert [one.where for one in found] == ["old", "new"]
    assert all("branch: trunk" in one.message for one in found)
    git(tmp_path / "old", "config", "remote.origin.fetch", "+refs/heads/one:refs/remotes/origin/one")
    assert [one.where for one in judged(tmp_path, f"repos:\n{text}").problems] == ["new"]


def test_a_repository_that_is_here_must_be_one_and_have_the_branch(tmp_path: Path):
    for name in ("plain", "right", "wrong"):
        (tmp_path / name).mkdir()
    for name in ("right", "wrong"):
        git(tmp_path / name, "init", "--quiet", "--initial-branch", "main")
        git(tmp_path / name, "commit", "--quiet", "--allow-empty", "-m", "begin")
    text = """\
repos:
  - {name: plain, path: plain}
  - {name: right, path: right}
  - {name: wrong, path: wrong, branch: trunk}
  - {name: absent, path: absent}
"""

    assert [problem.where for problem in judged(tmp_path, text).problems] == ["plain", "wrong"]
    in_place = "coordination: {todos: [{id: A, task: t, repo: plain, action: x, workspace: in-place}]}\n"
    assert [problem.where for problem in judged(tmp_path, text + in_place).problems] == ["wrong"]
    of_the_repository = text.replace("path: plain}", "path: plain, workspace: in-place}")
    inherits = in_place.replace(", workspace: in-place", "")
    for words in (of_the_repository, of_the_repository + inherits):
        assert [problem.where for problem in judged(tmp_path, words).problems] == ["wrong"]


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("redis://:x@10.1.2.3:6379/0", True),
        ("redis://redis.example.org", True),
        ("rediss://redis.example.org", False),
        ("redis://127.0.0.1:6379", False),
        ("redis://localhost", False),
        ("redis://[::1]:6379", False),
        ("unix:///run/redis.sock", False),
    ],
)
def test_a_redis_that_speaks_plain_text_over_a_network_is_found(tmp_path: Path, url: str, is_open: bool):
    verdict = judged(tmp_path, "repos: []\n", redis_url=url)

    assert is_open_to_readers(url) is is_open
    assert [problem.where for problem in verdict.problems] == ["redis_url"] * is_open
    server = Server(address=url, embedded=False, in_plain_text=is_open)
    facts = Checkup(machine=Machine(host="h", version="1", git="2"), server=server)
    assert len(findings(facts)) == int(is_open)


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--strict",), 2)])
def test_strict_makes_warnings_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int
):
    (tmp_path / "ecosystem.yaml").write_text(plan("{id: A, task: t, repo: api, plan: P}"))

    with pytest.raises(SystemExit) as exit_:
        app.run(["--ecosystem", str(tmp_path), "validate", *words, "--json"])

    said = json.loads(capsys.readouterr().out)
    assert int(exit_.value.code or 0) == code
    assert (said["valid"], said["refused_plans"], len(said["warnings"])) == (code == 0, ["P"], 1)


def test_a_repository_without_a_commit_is_named_with_the_command_that_makes_one(tmp_path: Path):
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "api")

    (problem,) = judged(tmp_path, "repos: [{name: api, path: api}]\n").problems
    assert "no commit yet" in problem.message
    command = problem.message.partition("make the first one: ")[2]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)

    assert judged(tmp_path, "repos: [{name: api, path: api}]\n").problems == ()


def test_up_with_a_file_that_declares_no_repository_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "ecosystem.yaml").write_text("repos: []\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as ended:
        app.run(["up", "--detach"])

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "declares no repositories" in said
    assert "coord init" in said


def test_a_folder_of_two_repositories_and_a_path_that_no_system_opens_are_named(tmp_path: Path):
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "one")
    git(tmp_path / "one", "commit", "--quiet", "--allow-empty", "-m", "begin")
    text = "repos: [{name: one, path: one}, {name: two, path: ./one}, {name: long, path: %s}]\n" % ("x" * 300)

    problems = {problem.where: problem.message for problem in judged(tmp_path, text).problems}

    assert problems.keys() == {"two", "long"}
    assert "folder of one" in problems["two"]


def test_a_repository_that_git_does_not_accept_is_not_called_none(tmp_path: Path):
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "one")
    with (tmp_path / "one" / ".git" / "config").open("a") as config:
        config.write("[core")

    (problem,) = judged(tmp_path, "repos: [{name: one, path: one}]\n").problems

    assert "git does not accept" in problem.message


def test_settings_that_keep_git_from_a_checkout_are_named_with_the_command_that_corrects_them(tmp_path: Path):
    for name in ("bare", "elsewhere", "husky", "prepared", "tracked", "right"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "--quiet", "--initial-branch", "main")
        (tmp_path / name / "hooks").mkdir()
        (tmp_path / name / "hooks" / "pre-commit").touch()
        git(tmp_path / name, "add", "hooks")
        git(tmp_path / name, "commit", "--quiet", "-m", "begin")
    git(tmp_path / "bare", "config", "core.bare", "yes")
    git(tmp_path / "elsewhere", "config", "core.worktree", str(tmp_path / "right"))
    for name in ("husky", "prepared"):
        git(tmp_path / name, "config", "core.hooksPath", ".husky/_")
        (tmp_path / name / ".husky" / "_").mkdir(parents=True)
    git(tmp_path / "tracked", "config", "core.hooksPath", "hooks")
    git(tmp_path / "right", "config", "core.worktree", "..")
    names = "".join(
        f"  - {{name: {name}, path: {name}}}\n" for name in ("bare", "elsewhere", "husky", "tracked", "right")
    )
    text = f"repos:\n{names}  - {{name: prepared, path: prepared, prepare: npm ci}}\n"

    problems = {problem.where: problem.message for problem in judged(tmp_path, text).problems}

    assert problems.keys() == {"bare", "elsewhere", "husky"}
    assert "prepare" in problems["husky"]
    file = look_at_file(tmp_path / "ecosystem.yaml", Settings())
    wrong = {
        finding.what: finding.hint
        for finding in findings(Checkup(machine=Machine(host="h", version="1", git="2"), file=file))
    }
    for name in ("bare", "elsewhere"):
        problem, _, remedy = problems[name].rpartition(": ")
        assert wrong[problem] == remedy
        subprocess.run(remedy, shell=True, check=True)
    assert {problem.where for problem in judged(tmp_path, text).problems} == {"husky"}
