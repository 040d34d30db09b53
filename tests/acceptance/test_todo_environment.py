"""The environment of a todo at its start, its outputs, and the kinds of action."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import COORD, PLAN, Done, Testbed, git

FUNCTIONS = "def double(n, times=1):\n    print('doubling')\n    return {'n': n * 2 ** times}\n"
AGENT = """\
import os, pathlib, sys
prompt = sys.stdin.read()
pathlib.Path("by-agent").write_text(os.environ["COORD_TODO_ID"] + "\\n")
print(prompt)
"""


@dataclass(frozen=True)
class Swept:
    testbed: Testbed
    answer: Done

    def log(self, todo: str) -> str:
        return self.testbed.log_of(self.answer.json["run_id"], todo).decode()

    def files_of(self, repo: str) -> list[str]:
        """Return the changes of the run there."""
        return git(self.testbed.folder / repo, "diff", "--name-only", "main", f"coord/{self.run}").split()

    @property
    def run(self) -> str:
        run: str = self.answer.json["run_id"]
        return run


@pytest.fixture(scope="module")
def swept(new_testbed: Callable[[], Testbed]) -> Swept:
    testbed = new_testbed()
    testbed.repo("python", **{"operations.py": FUNCTIONS})
    (testbed.folder / "agent.py").write_text(AGENT)
    testbed.settings = {"agent_command": ["python3", str(testbed.folder / "agent.py")]}
    testbed.write(
        [
            {"id": "flaky",
                "repo": "flaky",
                "action": 'echo "$COORD_ATTEMPT $COORD_IDEMPOTENCY_KEY"; echo try >> file; '
                          '[ "$COORD_ATTEMPT" = 3 ]',
                "retry": {"attempts": 3, "delay": "10ms"},
            },
            {"id": "hopeless",
                "repo": "flaky",
                "action": "exit 4",
                "retry": {"attempts": 2, "delay": "10ms"},
                "blocked_by": ["flaky"],
            },
            {"id": "first", "repo": "ready", "action": "cat tools/made; echo 1 > one"},
            {"id": "second", "repo": "ready", "action": "cat tools/made one; echo 2 > two",
                "blocked_by": ["first"]},
            {"id": "source", "repo": "up",
                "action": 'echo \'{"version": "2.0"}\' > "$COORD_OUTPUT"; echo up > changed'},
            {"id": "middle", "repo": "mid", "action": "true", "blocked_by": ["source"]},
            {"id": "reader", "repo": "down", "action": 'cat "$COORD_CONTEXT"', "blocked_by": ["middle"]},
            {"id": "no-json", "repo": "down", "action": 'echo "{oops" > "$COORD_OUTPUT"'},
            {"id": "names", "repo": "names", "action": "env | grep ^COORD_ | sort; pwd; echo $WORDS/$COUNT",
                      "env": {"WORDS": "two words", "COUNT": 7}},
            {
                "id": "python",
                "repo": "python",
                "action": {"type": "python", "call": "operations:double", "args": {"n": 21, "times": 2}},
            },
            {
                "id": "agent",
                "repo": "agent",
                "action": None,
                "task": "Write the guide",
                "description": "For people who are new.",
                "acceptance_criteria": ["it has an example"],
            },
            {"id": "prompted", "repo": "agent", "action": {"type": "agent", "prompt": "Only say hello."}},
            {"id": "in-place", "repo": "place", "action": "pwd; echo here > made", "workspace": "in-place"},
        ],
        repos={"ready": {"prepare": "echo preparing; mkdir tools; echo ready >> tools/made"}},
        plan={"on_failure": "continue"},
    )  # fmt: skip
    return Swept(testbed, testbed.sweep())


def test_a_todo_is_tried_again_and_knows_which_attempt_it_is(swept: Swept) -> None:
    todo = swept.answer.todo("flaky")

    assert (todo["state"], todo["attempt"], todo["error"]) == ("succeeded", 3, None)
    key = f"{swept.run}/flaky"
    assert [line for line in swept.log("flaky").splitlines() if "[coord]" not in line] == [
        f"{n} {key}" for n in (1, 2, 3)
    ]
    assert swept.answer.err.count("↻ flaky") == 2


def test_each_attempt_begins_with_a_clean_worktree(swept: Swept) -> None:
    assert git(swept.testbed.folder / "flaky", "show", f"coord/{swept.run}:file") == "try"


def test_a_todo_that_fails_every_time_fails_after_its_last_attempt(swept: Swept) -> None:
    todo = swept.answer.todo("hopeless")

    assert (todo["state"], todo["attempt"], todo["exit_code"]) == ("failed", 2, 4)


def test_prepare_runs_once_for_a_worktree_and_what_it_leaves_is_kept_and_not_committed(swept: Swept) -> None:
    assert "preparing\n" in swept.log("first")
    assert swept.log("second") == "ready\n1\n"
    assert swept.files_of("ready") == ["one", "two"]


def test_a_todo_reads_what_every_predecessor_handed_on_and_where_its_work_is(swept: Swept) -> None:
    context: Any = json.loads(swept.log("reader"))

    assert (context["run_id"], context["todo_id"]) == (swept.run, "reader")
    source, middle = context["predecessors"]
    assert (source["todo"], source["repo"], source["output"]) == ("source", "up", {"version": "2.0"})
    assert source["branch"] == f"coord/{swept.run}"
    assert source["commit"] == git(swept.testbed.folder / "up", "rev-parse", f"coord/{swept.run}")
    assert source["path"] == str(swept.testbed.state / "carried" / swept.run / "up" / source["commit"])
    assert (middle["todo"], middle["output"]) == ("middle", None)
    assert swept.answer.todo("source")["output"] == {"version": "2.0"}


def test_an_output_that_is_no_json_fails_the_todo_and_says_so(swept: Swept) -> None:
    todo = swept.answer.todo("no-json")

    assert todo["state"] == "failed"
    assert "COORD_OUTPUT is not JSON" in todo["error"]


def test_a_todo_gets_its_names_and_the_environment_that_it_declares(swept: Swept) -> None:
    lines = swept.log("names").splitlines()
    given = dict(line.partition("=")[::2] for line in lines if line.startswith("COORD_"))
    worktree = str(swept.testbed.state / "worktrees" / swept.run / "names")

    assert given.pop("COORD_FENCE").isdecimal()
    assert given.pop("COORD_CONTEXT").endswith("context.json")
    assert given.pop("COORD_OUTPUT").endswith("output.json")
    assert given.pop("COORD_CHECKPOINT").endswith("checkpoint.json")
    assert given.pop("COORD_CONNECTION").endswith("connection.json")
    assert given == {
        "COORD_RUN_ID": swept.run,
        "COORD_PLAN_ID": PLAN,
        "COORD_TODO_ID": "names",
        "COORD_REPO": "names",
        "COORD_REPO_PATH": worktree,
        "COORD_ATTEMPT": "1",
        "COORD_IDEMPOTENCY_KEY": f"{swept.run}/names",
    }
    assert lines[-2:] == [worktree, "two words/7"]


def test_a_python_action_calls_the_function_and_hands_on_what_it_returns(swept: Swept) -> None:
    assert swept.answer.todo("python")["output"] == {"n": 84}
    assert swept.log("python") == "doubling\n"


def test_a_todo_without_an_action_tells_the_agent_what_to_do(swept: Swept) -> None:
    prompt = swept.log("agent")

    for words in (
        "Task agent: Write the guide",
        "For people who are new.",
        "- it has an example",
        "Repository: agent",
    ):
        assert words in prompt
    assert git(swept.testbed.folder / "agent", "show", f"coord/{swept.run}:by-agent") in ("agent", "prompted")


def test_an_agent_action_with_a_prompt_says_just_that(swept: Swept) -> None:
    lines = swept.log("prompted").splitlines(keepends=True)
    prompt = "".join(line for line in lines if not line.startswith("[coord] "))  # there may be no sandbox

    assert prompt.startswith("Only say hello.\n")
    assert "Task prompted" not in prompt


def test_a_todo_in_place_works_in_the_checkout_and_nothing_is_committed(swept: Swept) -> None:
    path = swept.testbed.folder / "place"

    assert swept.log("in-place") == f"{path}\n"
    assert git(path, "status", "--porcelain") == "?? made"
    assert git(path, "for-each-ref", "--format=%(refname:short)") == "main"


def test_the_summary_names_the_branch_only_of_repositories_that_have_one(swept: Swept) -> None:
    line = next(line for line in swept.answer.err.splitlines() if line.startswith("commits are on branch"))

    assert f"coord/{PLAN}" in line
    assert "up" in line.replace(",", " ").split()
    assert "place" not in line


def test_a_git_that_starts_coord_gives_its_variables_to_no_commit_command_or_worker(
    new_testbed: Callable[[], Testbed],
) -> None:
    testbed = new_testbed()
    testbed.write([{"id": "made", "repo": "api", "action": "env | grep ^GIT_; echo new > new"}])
    caller = testbed.repo("caller")
    hook = caller / ".git" / "hooks" / "pre-commit"
    up = f"{COORD} up --detach --no-flower --no-dashboard"
    hook.write_text(f"#!/bin/sh\ncd {testbed.folder} && {up} && {COORD} sweep {PLAN}\n")
    hook.chmod(0o755)
    author = ("--author=Caller <caller@example.org>", "--date=2001-02-03T04:05:06Z")

    commit = testbed.begin(
        *("-C", str(caller), "-c", "user.name=C", "-c", "user.email=c@d", "commit", "--allow-empty"),
        *("-m", "calls coord", *author),
        command=["git"],
        GIT_SSH_COMMAND="ssh -oBatchMode=yes",
    ).done()

    assert commit.code == 0, commit.err
    made = git(testbed.folder / "api", "log", "-1", "--format=%an %ae %ad %cn", f"coord/{PLAN}")
    assert "aller" not in made
    assert "2001" not in made
    run = testbed.run()["run_id"]
    given = {line.partition("=")[0] for line in testbed.log_of(run, "made").decode().splitlines()}
    assert "GIT_SSH_COMMAND" in given, "a person has set it"
    assert not given & {"GIT_AUTHOR_NAME", "GIT_AUTHOR_DATE", "GIT_INDEX_FILE", "GIT_PREFIX"}
    if sys.platform == "linux":
        for name in ("worker", "server"):
            process = Path("/proc", str(testbed.daemon(name).pid), "environ").read_bytes()
            assert b"GIT_AUTHOR_" not in process
            assert b"GIT_INDEX_FILE" not in process
