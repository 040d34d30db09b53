"""`coord exec`: one command in many repositories, with a real exit code, and nothing left in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from coordination import Coord, Unreachable
from tests.agent import Agent, agent_of
from tests.testbed import Testbed, git

REPOS = {"lib": {"tags": ["py"]}, "app": {"tags": ["py"]}, "web": {}}


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    testbed = new_testbed()
    for name in REPOS:
        testbed.repo(name)
    testbed.write(repos=REPOS)
    testbed.up()
    return testbed


def results(testbed: Testbed, *words: str) -> dict[str, tuple[str, int | None, str]]:
    done = testbed.coord("exec", "--json", *words)
    assert done.code in (0, 3), done.err
    return {one["repo"]: (one["state"], one["exit_code"], one["output"]) for one in done.json["outputs"]}


def test_words_run_without_a_shell_and_one_word_in_it(testbed: Testbed):
    before, heads = (
        testbed.file.read_bytes(),
        [git(testbed.folder / repo, "rev-parse", "main") for repo in REPOS],
    )
    plain = results(testbed, "--tag", "py", "--", "printf", "%s|", "$HOME; id", "", "a b")
    assert plain == dict.fromkeys(("lib", "app"), ("succeeded", 0, "$HOME; id||a b|"))
    assert results(testbed, "--repo", "web", "--", "cat README | tr a-z A-Z") == {
        "web": ("succeeded", 0, "WEB\n")
    }
    assert testbed.file.read_bytes() == before
    assert [git(testbed.folder / repo, "rev-parse", "main") for repo in REPOS] == heads


def test_a_failure_and_a_changed_file_are_named_by_repository(testbed: Testbed):
    command = "grep -q lib README && exit 4; grep -q app README && touch NEW; echo '\033[2Jdone'"
    done = testbed.coord("exec", "--all", "--", command)
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
    tried = testbed.run()
    assert {todo["attempt"] for todo in tried["todos"]} == {1}
    assert testbed.ok("list-todos", "--json").json == []


def test_a_retry_runs_the_command_again_where_it_failed(testbed: Testbed):
    opened = testbed.folder / "opened"
    command = f"grep -q lib README || test -e {opened}"
    assert {repo: ends[0] for repo, ends in results(testbed, "--tag", "py", "--", command).items()} == {
        "lib": "succeeded",
        "app": "failed",
    }
    opened.touch()

    retried = testbed.coord("retry", "last", "--json")

    assert retried.code == 0, retried.err
    assert sorted(retried.states.values()) == ["succeeded", "succeeded"]
    assert [bool(todo["run"]) for todo in retried.json["todos"] if todo["repo"] == "lib"] == [True]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--all", "--"), 2, "COMMAND"),
        (("--all", "--", " "), 2, "there is no command"),
        (("--", "true"), 2, "--all"),
        (("--tag", "none", "--", "true"), 2, "coord repo list"),
    ],
)
def test_bad_input_starts_nothing(testbed: Testbed, words: tuple[str, ...], code: int, said: str):
    runs = testbed.ok("list-runs", "--json").json
    done = testbed.coord("exec", *words)
    assert (done.code, said in done.err) == (code, True)
    assert testbed.ok("list-runs", "--json").json == runs


@pytest.fixture(scope="module")
def ai(testbed: Testbed) -> Iterator[Agent]:
    with agent_of(testbed.file) as made:
        yield made


SOME: Mapping[str, object] = {"tags": ["py"], "dry_run": True}


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("coord_plan_campaign", {"title": "Say", "run": "true", "check": "true", **SOME}, 4),
        ("coord_plan_campaign", {"title": "Ask", "prompt": "Is it?", "repos": "web", "dry_run": True}, 1),
        ("coord_plan_create_from_template", {"template": "review", "values": {"question": "?"}, **SOME}, 2),
        ("coord_repo_exec", {"command": "cat README", "tags": "py"}, 2),
        ("coord_repo_exec", {"command": ["cat", "README"], "all_repos": True, "jobs": 1}, 3),
    ],
)
def test_agents_work_on_many_repositories(
    testbed: Testbed, ai: Agent, tool: str, arguments: Mapping[str, object], expected: int
):
    before = testbed.file.read_bytes()

    made = ai.call(tool, **arguments)

    assert (len(made["todos"]), testbed.file.read_bytes()) == (expected, before)
    if tool == "coord_repo_exec":
        assert {one["repo"]: one["output"] for one in made["outputs"]} == {
            todo["repo"]: f"{todo['repo']}\n" for todo in made["todos"]
        }
    nowhere = {**arguments, "tags": "none", "repos": [], "all_repos": False}
    assert "coord repo list" in ai.refused(tool, **nowhere)


def test_a_repository_without_a_worker_is_named_and_nothing_starts(testbed: Testbed, redis_url: str):
    with Coord(testbed.file, redis_url) as coord:
        with pytest.raises(Unreachable, match="lib") as refused:
            coord.commands.exec("true", repos=["lib"])
        assert "coord worker --repo lib=PATH" in str(refused.value)
        assert coord.runs.list() == []
