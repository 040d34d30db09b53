"""`coord exec`: one command in many repositories, with a real exit code, and nothing left in the file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordination import Coord, Unreachable
from tests.stage import Stage, git

REPOS = {"lib": {"tags": ["py"]}, "app": {"tags": ["py"]}, "web": {}}


@pytest.fixture(scope="module")
def stage(new_stage: Callable[[], Stage]) -> Stage:
    stage = new_stage()
    for name in REPOS:
        stage.repo(name)
    stage.write(repos=REPOS)
    stage.up()
    return stage


def results(stage: Stage, *words: str) -> dict[str, tuple[str, int | None, str]]:
    done = stage.coord("exec", "--json", *words)
    assert done.code in (0, 3), done.err
    return {one["repo"]: (one["state"], one["exit_code"], one["output"]) for one in done.json["outputs"]}


def test_words_run_without_a_shell_and_one_word_in_it(stage: Stage):
    before, heads = stage.file.read_bytes(), [git(stage.folder / repo, "rev-parse", "main") for repo in REPOS]
    plain = results(stage, "--tag", "py", "--", "printf", "%s|", "$HOME; id", "", "a b")
    assert plain == dict.fromkeys(("lib", "app"), ("succeeded", 0, "$HOME; id||a b|"))
    assert results(stage, "--repo", "web", "--", "cat README | tr a-z A-Z") == {
        "web": ("succeeded", 0, "WEB\n")
    }
    assert stage.file.read_bytes() == before
    assert [git(stage.folder / repo, "rev-parse", "main") for repo in REPOS] == heads


def test_a_failure_and_a_changed_file_are_named_by_repository(stage: Stage):
    command = "grep -q lib README && exit 4; grep -q app README && touch NEW; echo '\033[2Jdone'"
    done = stage.coord("exec", "--all", "--", command)
    assert done.code == 3
    lines = [line for line in done.out.splitlines() if line.startswith("── ")]
    assert [line.split(" in ")[0] for line in lines] == [
        "── lib: failed",
        "── app: failed",
        "── web: succeeded",
    ]
    assert "exit code 4" in lines[0]
    assert "NEW" in lines[1]
    assert "\033[2J" not in done.out
    tried = stage.run()
    assert {todo["attempt"] for todo in tried["todos"]} == {1}
    assert stage.ok("list-todos", "--json").json == []


def test_two_commands_run_at_once_in_one_repository_by_turns(stage: Stage):
    first = stage.begin("exec", "--all", "--jobs", "1", "--", "sleep 1")
    second = stage.coord("exec", "--all", "--", "true")
    assert (second.code, first.done().code) == (0, 0)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--all", "--"), 2, "COMMAND"),
        (("--all", "--", " "), 2, "there is no command"),
        (("--", "true"), 2, "--all"),
        (("--tag", "none", "--", "true"), 2, "coord list-repos"),
    ],
)
def test_bad_input_starts_nothing(stage: Stage, words: tuple[str, ...], code: int, said: str):
    runs = stage.ok("list-runs", "--json").json
    done = stage.coord("exec", *words)
    assert (done.code, said in done.err) == (code, True)
    assert stage.ok("list-runs", "--json").json == runs


def test_a_repository_without_a_worker_is_named_and_nothing_starts(stage: Stage, redis_url: str):
    with Coord(stage.file, redis_url) as coord:
        with pytest.raises(Unreachable, match="lib") as refused:
            coord.commands.exec("true", repos=["lib"])
        assert "coord worker --repo lib=PATH" in str(refused.value)
        assert coord.runs.list() == []
