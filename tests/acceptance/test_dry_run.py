"""`sweep --dry-run`: told and not done."""

from __future__ import annotations

import pytest

from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git

TODOS = [
    {"id": "A", "repo": "api", "action": "make all"},
    {"id": "B", "repo": "web", "action": {"type": "manual"}, "blocked_by": ["A"]},
    {"id": "C", "repo": "web", "blocked_by": ["X"]},
    {"id": "D", "repo": "web", "status": "completed"},
    {"id": "X", "repo": "web", "plan": "OTHER"},
]


def test_a_dry_run_says_which_todos_would_run_where_and_why_others_would_not_and_starts_nothing(
    testbed: Testbed,
) -> None:
    testbed.write(TODOS)

    answer = testbed.coord("sweep", PLAN, "--dry-run", "--json", COORD_HOST="here")
    table = testbed.coord("sweep", PLAN, "--dry-run").out

    first, second = answer.json["steps"]
    assert answer.code == 5
    assert first["places"] == [{"host": "here", "path": str(testbed.folder / "api")}]
    assert (first["command"], first["timeout_s"]) == ("make all", 3600)
    assert (second["after"], second["command"]) == (["A"], "a person: coord todo complete B")
    assert {rest["id"]: rest["why"] for rest in answer.json["rest"]} == {
        "C": "blocked by X (pending: do X) of OTHER",
        "D": "completed",
    }
    assert "make all" in table
    assert not testbed.state.exists()


def test_a_dry_run_names_a_base_branch_that_does_not_exist(testbed: Testbed) -> None:
    testbed.write(TODOS[:1], repos={"api": {"branch": "trunk"}})

    said = testbed.coord("sweep", PLAN, "--dry-run").err

    assert f"api: {testbed.folder / 'api'} has no branch 'trunk'" in said


def test_a_dry_run_shows_what_a_rewrite_would_change_in_the_base_branch(testbed: Testbed) -> None:
    action = {"type": "rewrite", "pattern": "old($X)", "rewrite": "new($X)", "lang": "python"}
    testbed.write([{"id": "A", "repo": "api", "action": action}])
    (testbed.folder / "api" / "a.py").write_text("x = 1\ny = old(x)\n")
    git(testbed.folder / "api", "add", ".")
    git(testbed.folder / "api", "commit", "-qm", "code")
    (testbed.folder / "api" / "a.py").write_text("old(2)\n")

    (step,) = testbed.ok("sweep", PLAN, "--dry-run", "--json").json["steps"]
    table = testbed.ok("sweep", PLAN, "--dry-run").out

    match = {"file": "a.py", "line": 2, "before": "old(x)", "after": "new(x)"}
    assert step["matches"] == {"found": [match], "more": False, "unknown": ""}
    assert "a.py:2: old(x) → new(x)" in table
    assert git(testbed.folder / "api", "worktree", "list").count("\n") == 0
    testbed.write([{"id": "A", "repo": "api", "action": {**action, "pattern": "old(("}}])
    refused = testbed.coord("sweep", PLAN, "--dry-run")
    assert (refused.code, "old((" in refused.err) == (2, True)


def test_with_a_redis_that_is_away_it_says_so_and_what_it_can(testbed: Testbed, free_port: int) -> None:
    testbed.write(TODOS)

    answer = testbed.coord(
        "sweep", PLAN, "--dry-run", "--todo", "A", "--redis", f"redis://127.0.0.1:{free_port}"
    )

    assert answer.code == 0
    assert "make all" in answer.out
    assert "does not answer" in answer.err


def test_with_a_redis_of_ones_own_it_names_what_no_worker_serves(testbed: Testbed, redis_url: str) -> None:
    testbed.write(TODOS)

    answer = testbed.coord("sweep", PLAN, "--dry-run", "--todo", "A", "--json", "--redis", redis_url)
    told = testbed.coord("sweep", PLAN, "--dry-run", "--todo", "A", "--redis", redis_url)

    assert answer.json["steps"][0]["waits_for"] == "a worker for api: none serves it"
    assert "· A would wait for a worker for api: none serves it\n" in told.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--repo", "apo"], 2, "did you mean 'api'"),
        (["--todo", "D"], 0, "nothing to do"),
        (["--failed"], 2, "there is no run of PLAN-001 yet"),
    ],
)
def test_a_dry_run_exits_as_the_sweep_would(testbed: Testbed, words: list[str], code: int, told: str) -> None:
    testbed.write(TODOS)

    answer = testbed.coord("sweep", PLAN, "--dry-run", *words)

    assert (answer.code, told in answer.err) == (code, True)


def test_what_failed_last_is_asked_for_and_what_goes_on_is_not_begun_again(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    todos = [
        {"id": "A", "repo": "api"},
        {"id": "B", "repo": "web"},
        {"id": "C", "repo": "api", "blocked_by": ["B"]},
    ]
    testbed.write([*todos[:1], {**todos[1], "action": "exit 1"}, todos[2], {"id": "X", "repo": "api"}])
    testbed.up()
    assert testbed.sweep("--todo", "A", "--todo", "B", "--todo", "C", "--on-failure", "continue").code == 3

    failed = testbed.coord("sweep", PLAN, "--dry-run", "--failed", "--json")
    testbed.write([{"id": "A", "repo": "api", "action": gate.action}])
    assert testbed.sweep("--detach").code == 0
    gate.wait()
    twice = testbed.coord("sweep", PLAN, "--dry-run")
    gate.open()

    assert [step["id"] for step in failed.json["steps"]] == ["B", "C"]
    assert (twice.code, "executes A" in twice.err) == (6, True)
