"""The sample of `coord demo`: real packages, a real change, and tests that notice when either is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coordination.demo import break_package, create
from coordination.ecosystem import document
from coordination.errors import NotFound, UsageError
from coordination.models import Ecosystem, ShellAction, Todo
from coordination.planner.graph import PlanGraph, build

TOP = Path(__file__).parents[2]
# Bottom up: those that a package needs stand before it.
NEEDS = {
    "units": (),
    "text": (),
    "config": ("units",),
    "store": ("units",),
    "report": ("units", "text"),
    "cli": ("config", "store", "report"),
}


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as it is created; read it only."""
    return create(tmp_path_factory.mktemp("created") / "sample").parent


@pytest.fixture(scope="module")
def carried_out(created: Path, graph: PlanGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample after its plan; read it only."""
    sample = shutil.copytree(created, tmp_path_factory.mktemp("carried out") / "sample")
    assert carry_out(sample, graph) == dict.fromkeys(graph.todos, 0)
    return sample


@pytest.fixture
def sample(tmp_path: Path, created: Path) -> Path:
    return shutil.copytree(created, tmp_path / "sample")


@pytest.fixture
def raised(tmp_path: Path, carried_out: Path) -> Path:
    """A copy of the sample after its plan."""
    return shutil.copytree(carried_out, tmp_path / "raised")


@pytest.fixture(scope="module")
def ecosystem() -> Ecosystem:
    loaded = document.load(TOP / "ecosystem.yaml")
    assert loaded.warnings == ()
    return loaded.ecosystem


@pytest.fixture(scope="module")
def graph(ecosystem: Ecosystem) -> PlanGraph:
    return build(ecosystem, "PLAN-001")


def test_the_file_s_repositories_are_there(created: Path, ecosystem: Ecosystem):
    loaded = document.load(created / "ecosystem.yaml")

    assert (TOP / "ecosystem.yaml").read_bytes() == (created / "ecosystem.yaml").read_bytes()
    assert [repo.name for repo in ecosystem.repos] == list(NEEDS)
    for repo in ecosystem.repos:
        path = loaded.repo_path(repo)
        assert path is not None
        assert git(path, "branch", "--show-current") == "main"
        assert git(path, "rev-list", "--count", "HEAD") == "1"
        assert git(path, "status", "--porcelain") == ""


def test_the_plan_has_each_package_after_those_in_its_metadata(created: Path, graph: PlanGraph):
    assert [len(level) for level in graph.levels] == [6, 2, 3, 1]
    assert list(graph.redundant) == []
    for todo in suite_todos(graph):
        needed = re.findall(r'"meter-(\w+)>=', (created / todo.repo / "pyproject.toml").read_text())
        assert sorted(needed) == sorted(NEEDS[todo.repo])

        before = [graph.todos[name] for name in graph.predecessors[todo.id]]
        assert sorted(other.repo for other in before) == sorted([todo.repo, *needed])


@pytest.mark.parametrize("name", NEEDS)
def test_every_package_s_tests_pass_as_created(created: Path, name: str):
    passed = suite(created, name)
    assert passed.returncode == 0, passed.stderr
    assert re.search(r"Ran [4-9] tests", passed.stderr)


def test_the_plan_raises_every_package_and_leaves_nothing_else_behind(carried_out: Path):
    for name in NEEDS:
        changed = git(carried_out / name, "status", "--porcelain").splitlines()
        assert changed
        assert all(line.endswith(("pyproject.toml", ".py")) for line in changed)
        metadata = (carried_out / name / "pyproject.toml").read_text()
        assert 'requires-python = ">=3.11"' in metadata
        assert not [old for old in ("3.9", "3.10", "tomli") if old in metadata]
    rules = ["--isolated", "--no-cache", "--target-version=py311", "--select=F,UP"]
    sources = [str(carried_out / name / "src") for name in NEEDS]
    check = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *rules, *sources], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout


def test_the_milestone_holds_when_the_plan_is_on_main(created: Path, raised: Path, graph: PlanGraph):
    (check,) = (
        c.check for milestone in graph.plan.milestones for c in milestone.completion_criteria if c.check
    )
    words = ["sh", "-c", str(check)]
    assert subprocess.run(words, cwd=created, check=False).returncode == 1

    ann = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for name in NEEDS:
        git(raised / name, *ann, "commit", "-qam", "Raised")

    assert subprocess.run(words, cwd=raised, check=False).returncode == 0


def test_raising_twice_changes_nothing_more(raised: Path, graph: PlanGraph):
    first = {name: git(raised / name, "diff") for name in NEEDS}

    carry_out(raised, graph)

    assert {name: git(raised / name, "diff") for name in NEEDS} == first


def test_a_changed_package_does_not_pass_with_the_unchanged_one_below_it(created: Path, raised: Path):
    shutil.rmtree(raised / "units")
    shutil.copytree(created / "units", raised / "units")

    assert suite(raised, "report").returncode != 0


@pytest.mark.parametrize("name", NEEDS)
def test_a_broken_package_passes_until_the_plan_changes_it(sample: Path, graph: PlanGraph, name: str):
    break_package(sample, name)
    assert git(sample / name, "status", "--porcelain") == ""
    assert suite(sample, name).returncode == 0

    done = carry_out(sample, graph)

    broken = next(todo.id for todo in suite_todos(graph) if todo.repo == name)
    assert {todo for todo, code in done.items() if code} == {broken}
    held_up = {todo.id for todo in suite_todos(graph) if name in all_below(todo.repo)}
    assert set(graph.todos) - set(done) == held_up


def test_what_is_no_sample_package_cannot_be_broken(sample: Path):
    with pytest.raises(NotFound, match="no sample package 'unit'"):
        break_package(sample, "unit")

    break_package(sample, "units")
    with pytest.raises(UsageError, match="already broken or upgraded"):
        break_package(sample, "units")


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear")

    with pytest.raises(UsageError, match="is not empty") as refusal:
        create(tmp_path)

    assert "coord demo DIR" in refusal.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(UsageError, match="is a file"):
        create(tmp_path / "letter.txt")
    with pytest.raises(UsageError, match="has an end of line"):
        create(tmp_path / "a\nb")


def test_the_sample_does_not_depend_on_the_user_s_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".gitconfig").write_text(
        "[commit]\n gpgSign = true\n[init]\n defaultBranch = trunk\n[core]\n autocrlf = true\n"
    )
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as within a hook
    monkeypatch.setenv("GIT_AUTHOR_NAME", "")

    sample = create(tmp_path / "sample").parent

    monkeypatch.delenv("GIT_DIR")
    assert (
        git(sample / "cli", "log", "--format=%an <%ae> %D") == "coord demo <demo@coord.invalid> HEAD -> main"
    )
    assert not (tmp_path / "elsewhere").exists()


def carry_out(sample: Path, graph: PlanGraph) -> dict[str, int]:
    """Run the plan's actions as a sweep would, without worktrees; returns the exit codes of the todos that
    ran.
    """
    done: dict[str, int] = {}
    for name, todo in graph.todos.items():
        if all(done.get(before) == 0 for before in graph.predecessors[name]):
            before = ancestors(graph, name)
            done[name] = execute(
                sample, todo, [graph.todos[other] for other in graph.todos if other in before]
            )
    return done


def ancestors(graph: PlanGraph, name: str) -> set[str]:
    return {each for before in graph.predecessors[name] for each in (before, *ancestors(graph, before))}


def execute(sample: Path, todo: Todo, before: list[Todo]) -> int:
    assert isinstance(todo.action, ShellAction)
    assert isinstance(todo.action.run, str)
    context = sample / "context.json"
    predecessors = [
        {"todo": other.id, "repo": other.repo, "path": str(sample / other.repo)} for other in before
    ]
    context.write_text(json.dumps({"predecessors": predecessors}))
    environment = {**environ(), "COORD_CONTEXT": str(context)}
    words = ["sh", "-c", todo.action.run]
    return subprocess.run(
        words, cwd=sample / todo.repo, env=environment, capture_output=True, check=False
    ).returncode


def suite(sample: Path, name: str) -> subprocess.CompletedProcess[str]:
    """A package's own tests, with the packages below it as they stand in the sample."""
    words = [sys.executable, "-B", "-m", "unittest", "discover", "-s", "tests"]
    path = os.pathsep.join(str(sample / each / "src") for each in (name, *all_below(name)))
    environment = {**environ(), "PYTHONPATH": path}
    return subprocess.run(
        words, cwd=sample / name, env=environment, capture_output=True, text=True, check=False
    )


def environ() -> dict[str, str]:
    """With this interpreter's folder first, as in an activated virtual environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


def all_below(name: str) -> set[str]:
    return {each for needed in NEEDS[name] for each in (needed, *all_below(needed))}


def suite_todos(graph: PlanGraph) -> list[Todo]:
    return [todo for todo in graph.todos.values() if todo.task.startswith("Test ")]


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()
