"""Two sweeps at once in one folder: the second waits for the slot of the repository, and says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git

OTHER = "PLAN-002"


@pytest.fixture
def gate(testbed: Testbed) -> Iterator[Gate]:
    """A, and B of another plan: one run at a time writes a change set."""
    gate = Gate(testbed.folder)
    todos = [
        {"id": "A", "repo": "api", "action": f"{gate.action}; echo A > a"},
        {"id": "B", "repo": "api", "plan": OTHER, "action": "echo B > b"},
    ]
    testbed.write(todos, plans=[{"id": OTHER, "title": "another"}], repos={"spare": {}})
    yield gate
    gate.open()


def test_the_second_waits_for_the_slot_says_so_and_both_end_right(testbed: Testbed, gate: Gate) -> None:
    first = testbed.begin("sweep", PLAN)
    gate.wait()
    second = testbed.begin("sweep", OTHER)
    said = second.says("waits for")
    gate.open()
    ended = [process.done(60) for process in (first, second)]

    runs = [run["run_id"] for run in testbed.coord("list-runs", "--json").json][::-1]
    assert f"B (do B) waits for repository api, in use by run {runs[0]}" in said
    assert [done.code for done in ended] == [0, 0], ended
    for plan, file in zip((PLAN, OTHER), "ab", strict=True):
        assert git(testbed.folder / "api", "diff", "--name-only", "main", f"coord/{plan}") == file
    assert testbed.file.read_text().count("status: completed") == 2


def test_a_second_run_that_would_write_the_same_change_set_is_refused_and_names_the_first(
    testbed: Testbed, gate: Gate
) -> None:
    rows = [{"id": "A", "repo": "api", "action": gate.action}, {"id": "B", "repo": "api"}]
    testbed.write([*rows, {"id": "C", "repo": "web"}])
    first = testbed.begin("sweep", PLAN, "--todo", "A", "--json")
    gate.wait()

    refused = testbed.coord("todo", "execute", "B")
    elsewhere = testbed.coord("todo", "execute", "C")
    gate.open()

    assert (refused.code, elsewhere.code) == (6, 0), "another repository is not taken"
    run = first.done(60).json["run_id"]
    assert run in refused.err
    assert f"coord watch {run}" in refused.err
    assert testbed.coord("todo", "execute", "B").code == 0


REPOS = ("api", "web", "log")


def marked(plan: str, n: int, repo: str, **fields: object) -> dict[str, object]:
    """Says in a ledger of its folder when it begins and ends."""
    mark = '"$COORD_RUN_ID $COORD_TODO_ID" >> "$LEDGER.$(echo "$COORD_REPO_PATH" | tr / _)"'
    do = f"echo begin {mark}; sleep 0.05; echo {plan} > {plan}-{n}; echo end {mark}"
    return {"id": f"{plan}-{repo}-{n}", "repo": repo, "plan": plan, "action": do, **fields}


def plan_of(plan: str, met: str) -> list[dict[str, object]]:
    """In each repository a chain of two todos in the worktree and one in the checkout itself; the first waits
    for the other plan.
    """
    rows = [marked(plan, n, repo) for repo in REPOS for n in range(3)]
    for row in rows:
        if row["id"].endswith("-1"):
            row["blocked_by"] = [row["id"][:-1] + "0"]
        if row["id"].endswith("-2"):
            row["workspace"] = "in-place"
    return [{"id": f"{plan}-meet", "repo": f"meeting-{plan}", "plan": plan, "action": met}, *rows]


def test_two_plans_that_share_repositories_never_meet_in_a_folder_and_both_end_right(
    testbed: Testbed,
) -> None:
    gates = {plan: Gate(testbed.folder, plan) for plan in (PLAN, OTHER)}
    rows = [row for plan in gates for row in plan_of(plan, gates[plan].action)]
    testbed.write(rows, plans=[{"id": OTHER, "title": "another"}])

    sweeps = {plan: testbed.begin("sweep", plan, "--json") for plan in gates}
    for gate in gates.values():
        gate.wait()  # both runs are under way
    for gate in gates.values():
        gate.open()
    ended = {plan: sweep.done() for plan, sweep in sweeps.items()}

    assert [done.code for done in ended.values()] == [0, 0], ended
    ledgers = [path.read_text().splitlines() for path in testbed.folder.glob("ledger.*")]
    assert len(ledgers) == 3 * len(REPOS)  # a worktree of each run, and the checkout
    for ledger in ledgers:
        assert ledger[1::2] == [line.replace("begin", "end") for line in ledger[::2]]
    for repo in REPOS:
        for plan in ended:
            made = git(testbed.folder / repo, "diff", "--name-only", "main", f"coord/{plan}").split()
            assert made == [f"{plan}-0", f"{plan}-1"]
        assert {path.name for path in (testbed.folder / repo).glob("PLAN-*")} == {f"{PLAN}-2", f"{OTHER}-2"}
